"""Fixtures that many tests share."""

import pytest

from tests.support.tiny import Tiny, save_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """The toy FLUX on disk; nobody writes to it."""
    return save_tiny(tmp_path_factory.mktemp("tiny"))
