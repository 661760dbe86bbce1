"""Servers that the clients call, and what they send there."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.acceptance.receiver import Receiver
from tests.support.serving import Serving, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server as it comes: it fetches from and posts to nobody on this machine."""
    with serving(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture(scope="session")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server that may fetch from and post to this machine."""
    with serving(tmp_path_factory.mktemp("open") / "data", allowed_hosts="127.0.0.1") as running:
        yield running


@pytest.fixture(scope="session")
def idle_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server without a worker: predictions wait for good, and sync mode not for long."""
    folder = tmp_path_factory.mktemp("idle") / "data"
    with serving(folder, ready=False, workers=0, sync_seconds=0.3) as running:
        yield running


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture on the client's disk."""
    path = tmp_path_factory.mktemp("photo") / "a photo (1).jpg"
    Image.linear_gradient("L").convert("RGB").save(path)
    return path


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Somebody who waits for webhooks."""
    with Receiver() as waiting:
        yield waiting
