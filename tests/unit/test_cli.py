import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from depthwright import errors
from depthwright.cli import run
from depthwright.errors import DepthwrightError, OutOfMemory, WeightsMissing
from depthwright.loras import LoraFile
from depthwright.parameters import PARAMETERS
from depthwright.settings import Settings
from tests.support.fake_engine import FakeEngine

SMALL = ("--size", "512*512", "--steps", "3")


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def control(tmp_path: Path) -> Path:
    path = tmp_path / "control.png"
    Image.new("L", (64, 48), 77).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    return path


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What stands on stderr, after making sure that no traceback does."""
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text


def test_generate_writes_the_picture_and_tells_seed_size_fidelity_and_seconds(
    engine: FakeEngine, control: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["generate", "--prompt", "a red cube", "--control-image", str(control), *SMALL]
    assert run([*arguments, "--seed", "7", "--output", str(folder / "out.png")], engine.assembly()) == 0
    assert Image.open(folder / "out.png").size == (512, 512)
    assert engine.control is not None
    assert engine.control.size == (64, 48)
    told = capsys.readouterr().out
    assert f"{folder / 'out.png'}  512x512  seed 7  depth RMSE 20.0 of 255, residual correlation 0.50" in told
    assert "depth 0.5, text 0.5, control 0.5, denoise 0.5, decode 0.5, fidelity 0.5; 3.0 in all" in told
    assert "fake-123456789abc" in told


def test_every_option_reaches_the_engine(engine: FakeEngine, folder: Path) -> None:
    arguments = (
        "generate --prompt cube --control-scale 0.5 --seed -1 --num-images 2 --size 600x700 --steps 5 "
        f"--guidance 8 --preprocess-depth false --acceleration high --output {folder / 'a.png'} "
        "--profile flux-dev --device cpu"
    )
    assert run([*arguments.split(), "--weights", f"control_lora={folder}"], engine.assembly()) == 0
    assert engine.parameters is not None
    assert engine.parameters.model_dump() == {
        "prompt": "cube",
        "control_scale": 0.5,
        "seed": None,
        "num_images": 2,
        "size": (600, 700),
        "num_inference_steps": 5,
        "guidance_scale": 8.0,
        "preprocess_depth": "false",
        "acceleration": "high",
    }
    assert engine.loaded_with == ("flux-dev", "cpu", {"control_lora": folder})
    assert engine.control is None


def test_loras_reach_the_engine_in_order_with_their_scales(engine: FakeEngine, folder: Path) -> None:
    files = [folder / "ink.safetensors", folder / "clay.safetensors"]
    for file in files:
        file.write_bytes(b"")
    arguments = ["generate", "--prompt", "x", *SMALL, "--output", str(folder / "out.png")]
    chosen = ["--lora", f"{files[0]}=0.8", "--lora", str(files[1])]
    assert run([*arguments, *chosen], engine.assembly()) == 0
    assert engine.loras == (LoraFile(files[0], 0.8), LoraFile(files[1], 1.0))


def test_the_settings_stand_in_for_absent_options(engine: FakeEngine, folder: Path) -> None:
    settings = Settings(profile="flux-dev-fp8", device="cuda:1", shortest_side=64, cache=folder / "cache")
    arguments = [
        "generate",
        "--prompt",
        "x",
        "--steps",
        "1",
        "--size",
        "64*64",
        "--output",
        str(folder / "a.png"),
    ]
    assert run(arguments, engine.assembly(settings)) == 0
    assert engine.loaded_with == ("flux-dev-fp8", "cuda:1", {})
    assert engine.cache_dir == folder / "cache"


def test_several_pictures_are_numbered_and_each_told_with_its_seed(
    engine: FakeEngine, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["generate", "--prompt", "x", *SMALL, "--num-images", "3", "--seed", "9999999999"]
    assert run([*arguments, "--output", str(folder / "a.webp")], engine.assembly()) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["a-1.webp", "a-2.webp", "a-3.webp"]
    assert re.findall(r"seed (\d+)", capsys.readouterr().out) == ["9999999999", "10000000000", "10000000001"]


def test_progress_goes_to_stderr_stage_by_stage(
    engine: FakeEngine, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run(["generate", "--prompt", "x", *SMALL, "--output", str(folder / "a.png")], engine.assembly()) == 0
    )
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "Loading embedded ...",
        "Depth map: 0.2 s",
        "Prompt: 0.2 s",
        "Control latents: 0.2 s",
        "Denoising: 2.0 s",
        "Decoding: 0.2 s",
        "Fidelity: 0.2 s",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--size", "512*512"], 2, "--prompt is missing: it must be text"),
        (["--prompt", " "], 2, "--prompt is ' ': it must be text"),
        (
            ["--prompt", "x", "--control-scale", "3"],
            2,
            "--control-scale is 3.0: it must be a number from 0 to 2.",
        ),
        (["--prompt", "x", "--control-scale", "nan"], 2, "--control-scale is nan"),
        (
            ["--prompt", "x", "--seed", "abc"],
            2,
            "--seed is 'abc': it must be a whole number from 0 to 9999999999",
        ),
        (
            ["--prompt", "x", "--num-images", "5"],
            2,
            "--num-images is 5: it must be a whole number from 1 to 4.",
        ),
        (
            ["--prompt", "x", "--size", "100*100"],
            2,
            "--size is '100*100': it must be W*H with each side from 512",
        ),
        (["--prompt", "x", "--size", "large"], 2, "--size is 'large'"),
        (["--prompt", "x", "--steps", "0"], 2, "--steps is 0: it must be a whole number from 1 to 50."),
        (["--prompt", "x", "--guidance", "0.5"], 2, "--guidance is 0.5: it must be a number from 1 to 30."),
        (
            ["--prompt", "x", "--preprocess-depth", "no"],
            2,
            "--preprocess-depth is 'no': it must be auto, true",
        ),
        (["--prompt", "x", "--control-image", "missing.png"], 3, "missing.png is not there."),
        (["--prompt", "x", "--control-image", "."], 3, ". is no file"),
        (["--prompt", "x", "--control-image", __file__], 3, "is no picture that can be read"),
        (["--prompt", "x", "--output", "picture.gif"], 6, "picture.gif has no known suffix"),
        (["--prompt", "x", "--output", "missing/out.png"], 6, "the folder missing is not there."),
        (
            ["--prompt", "x", "--weights", "lora.safetensors"],
            2,
            "--weights is 'lora.safetensors': it must be NAME=PATH",
        ),
        (
            ["--prompt", "x", "--weights", "vae=missing"],
            4,
            "missing is not there, though --weights names it for vae.",
        ),
        (
            ["--prompt", "x", "--lora", "ink=9"],
            2,
            "the scale of a LoRA is 9.0: it must be a number from 0 to 4.",
        ),
        (["--prompt", "x", "--lora", "nowhere.safetensors"], 4, "There is no LoRA at nowhere.safetensors."),
        (["--prompt", "x", *["--lora", "a"] * 6], 2, "it must be a list of at most 5"),
        (["--promt", "x"], 2, "'--promt'"),
    ],
)
def test_bad_input_is_one_sentence_before_any_model_is_loaded(
    engine: FakeEngine,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    assert run(["generate", *arguments], engine.assembly()) == code
    assert engine.loaded_with is None
    assert list(folder.iterdir()) == []
    assert message in said(capsys)


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("generat", "did you mean generate?"),
        ("zzz", "there are audit, depth, generate, keys, models, serve, verify, worker."),
    ],
)
def test_a_mistyped_command_is_answered_with_the_nearest(
    typed: str, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([typed]) == 2
    assert answer in said(capsys)


def failing(error: Exception) -> Callable[[int], None]:
    def fail(step: int) -> None:
        if step == 1:
            raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            OutOfMemory("The GPU has too little memory for 512*512."),
            5,
            "The GPU has too little memory for 512*512.",
        ),
        (MemoryError(), 5, "too little memory"),
        (WeightsMissing("flux-dev has no weights here: run ..."), 4, "flux-dev has no weights here"),
        (errors.WeightsInvalid("bad"), 4, "bad"),
        (KeyError("surprise"), 1, "unexpected KeyError: 'surprise'. This is a fault of depthwright"),
    ],
)
def test_an_error_of_the_engine_is_one_sentence_and_leaves_no_file(
    folder: Path, capsys: pytest.CaptureFixture[str], error: Exception, code: int, message: str
) -> None:
    engine = FakeEngine(on_step=failing(error))
    output = str(folder / "out.png")
    assert run(["generate", "--prompt", "x", *SMALL, "--output", output], engine.assembly()) == code
    assert message in said(capsys)
    assert list(folder.iterdir()) == []


def test_debugging_shows_where_an_unexpected_error_lies(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEPTHWRIGHT_DEBUG", "1")
    engine = FakeEngine(on_step=failing(KeyError("surprise")))
    assert (
        run(["generate", "--prompt", "x", *SMALL, "--output", str(folder / "a.png")], engine.assembly()) == 1
    )
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_stops_at_the_next_step_exits_130_and_leaves_no_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = FakeEngine(on_step=lambda step: signal.raise_signal(signal.SIGINT) if step == 1 else None)
    before = signal.getsignal(signal.SIGINT)
    output = str(folder / "out.png")
    assert run(["generate", "--prompt", "x", *SMALL, "--output", output], engine.assembly()) == 130
    assert engine.steps_done == 2
    assert engine.was_closed
    assert list(folder.iterdir()) == []
    assert "stopped." in said(capsys)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_does_not_wait_for_the_step(folder: Path) -> None:
    def press_twice(_step: int) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    engine = FakeEngine(on_step=press_twice)
    assert (
        run(["generate", "--prompt", "x", *SMALL, "--output", str(folder / "a.png")], engine.assembly())
        == 130
    )
    assert engine.steps_done == 0
    assert list(folder.iterdir()) == []


def test_an_output_that_stood_there_survives_a_failure(folder: Path) -> None:
    (folder / "out.png").write_bytes(b"what was there")
    engine = FakeEngine(on_step=failing(OutOfMemory("no")))
    output = str(folder / "out.png")
    assert run(["generate", "--prompt", "x", *SMALL, "--output", output], engine.assembly()) == 5
    assert (folder / "out.png").read_bytes() == b"what was there"


def test_depth_writes_a_grey_map_beside_the_photo(
    engine: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "photo.jpg")
    assert run(["depth", str(tmp_path / "photo.jpg")], engine.assembly()) == 0
    depth = Image.open(tmp_path / "photo-depth.png")
    assert (depth.mode, depth.size) == ("L", (40, 30))
    assert f"{tmp_path / 'photo-depth.png'}  40x30" in capsys.readouterr().out


def test_depth_judges_its_files_before_any_model_is_loaded(
    engine: FakeEngine, control: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["depth", "missing.jpg"], engine.assembly()) == 3
    assert run(["depth", str(control), "--output", "depth.gif"], engine.assembly()) == 6
    assert engine.loaded_with is None
    assert "depth.gif has no known suffix" in said(capsys)


def test_a_bad_variable_of_the_environment_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEPTHWRIGHT_LONGEST_SIDE", "wide")
    assert run(["generate", "--prompt", "x"]) == 2
    assert "DEPTHWRIGHT_LONGEST_SIDE is 'wide': it must be a whole number from 16 to 4096." in said(capsys)


def test_the_help_tells_every_parameter_as_the_table_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for row in PARAMETERS:
        assert row.flag in told
        assert row.help in told
        assert f"default {row.shown_default}" in told or not row.shown_default
        assert row.allowed in told or row.kind in ("text", "choice")


def test_each_exit_code_of_the_tree_reaches_the_shell(folder: Path) -> None:
    for kind in (errors.InvalidImage, errors.WeightsInvalid, errors.DiskFull, errors.OutputNotWritable):
        error: DepthwrightError = kind("no")
        engine = FakeEngine(on_step=failing(error))
        arguments = ["generate", "--prompt", "x", *SMALL, "--output", str(folder / "a.png")]
        assert run(arguments, engine.assembly()) == kind.exit_code


def test_a_key_stands_alone_on_the_last_line_is_listed_and_revoked(
    engine: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assembly = engine.assembly(Settings(data_dir=tmp_path / "data"))
    assert run(["keys", "create", "--name", "ann"], assembly) == 0
    key = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"dw_[A-Za-z0-9_-]{43}", key)
    assert run(["keys", "list"], assembly) == 0
    listed = capsys.readouterr().out
    assert re.search(r"ann .*20\d\d-\d\d-\d\d \d\d:\d\dZ", listed)
    assert key not in listed
    assert run(["keys", "revoke", "ann"], assembly) == 0
    assert "Revoked" in capsys.readouterr().out
    assert run(["keys", "revoke", "ann"], assembly) == 2
    assert "no valid key 'ann'" in said(capsys)
