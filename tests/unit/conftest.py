"""What the tests of provenance share: an installation's own certificate, and its marker."""

from pathlib import Path

import pytest

from depthwright.provenance.certificates import own_certificate
from depthwright.provenance.marking import Marker


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a certificate that was made there."""
    folder = tmp_path_factory.mktemp("certificates")
    own_certificate(folder)
    return folder


@pytest.fixture(scope="module")
def marker(ours: Path) -> Marker:
    """Signs as that installation."""
    return Marker(own_certificate(ours))
