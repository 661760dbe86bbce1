import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The demo, with a server whose engine is fake and all else real."""
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "COMMAND", [sys.executable, "-m", "tests.support.fake_server"])
    monkeypatch.chdir(ROOT)
    return module


def test_the_demo_writes_its_three_pictures_and_tells_the_time_of_each_stage(
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


def test_a_picture_of_ones_own_is_uploaded_and_one_that_is_none_is_told(
    demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = tmp_path / "photo.png"
    Image.new("RGB", (64, 64), "red").save(photo)
    monkeypatch.setattr(sys, "argv", ["demo.py", str(photo), "--folder", str(tmp_path / "demo")])
    demo.main()
    photo.write_bytes(b"no picture")
    with pytest.raises(demo.DepthwrightError, match="no picture"):
        demo.main()
