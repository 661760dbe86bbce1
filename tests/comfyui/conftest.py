"""The pack as ComfyUI finds it: a copy, in a folder of another name, beside a ComfyUI that is a fake."""

import asyncio
import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.comfyui.fake import Comfy
from tests.comfyui.pack import SOURCE, Pack
from tests.support.serving import Serving, serving


@pytest.fixture(scope="session")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pack]:
    """A process of ComfyUI that has loaded the pack."""
    folder = tmp_path_factory.mktemp("custom_nodes")
    place = folder / "renamed.by-someone"
    shutil.copytree(SOURCE, place)
    comfy = Comfy(folder / "models")
    with pytest.MonkeyPatch.context() as patch:
        for name, module in comfy.modules().items():
            patch.setitem(sys.modules, name, module)
        # As ComfyUI names it: by its path.
        name = str(place).replace(".", "_x_")
        module = _loaded(name, place, patch)
        extension = asyncio.run(module.comfy_entrypoint())
        nodes = asyncio.run(extension.get_node_list())
        yield Pack(comfy, name, {node.define_schema().node_id: node for node in nodes})


@pytest.fixture
def pack(process: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pack:
    """The pack in a process just started, whose user has no configuration yet."""
    process.comfy.reset()
    process.comfy.models = tmp_path / "models"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("DEPTHWRIGHT_KEY", "DEPTHWRIGHT_SERVER", "DEPTHWRIGHT_CONNECTIONS"):
        monkeypatch.delenv(name, raising=False)
    return process


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A real server on loopback, whose engine obeys words in the prompt."""
    with serving(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture(scope="session")
def idle_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server without a worker: predictions wait for good."""
    with serving(tmp_path_factory.mktemp("idle") / "data", ready=False, workers=0) as running:
        yield running


def _loaded(name: str, place: Path, patch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, place / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    patch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module
