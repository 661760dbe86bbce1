import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from tests.support.fake_engine import FakeEngine


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = Path(__file__).parents[2] / "examples" / "demo.py"
    spec = importlib.util.spec_from_file_location("demo", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    engine = FakeEngine()

    class Loader:
        @staticmethod
        def load(profile: str) -> FakeEngine:
            return engine.load(profile, device=None, overrides={}, cache_dir=tmp_path)

    monkeypatch.setattr(module, "Engine", Loader)
    return module


def test_the_demo_writes_its_three_pictures_and_tells_the_seconds_of_each_stage(
    demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["demo.py", "--folder", str(tmp_path / "demo")])
    demo.main()
    assert Image.open(tmp_path / "demo" / "output.png").size == (864, 1636)
    assert Image.open(tmp_path / "demo" / "depth.png").size == (864, 1636)
    with Image.open(tmp_path / "demo" / "sheet.png") as sheet:
        assert sheet.width == 5 * 288 + 6 * 12
    told = capsys.readouterr().out
    for word in ("denoise", "fidelity", "output.png", "depth.png", "sheet.png", "RMSE", "seed"):
        assert word in told
