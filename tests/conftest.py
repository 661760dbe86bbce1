"""Fixtures that many tests share."""

from collections.abc import Iterator

import pytest
import torch

from tests.support.tiny import Tiny, save_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """The toy FLUX on disk; nobody writes to it."""
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session", autouse=True)
def _nobodys_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Certificates, keys and pictures of the tests are none of the developer's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the pipeline works; on a busy machine two threads would wait for each other, spinning."""
    given = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(given)
