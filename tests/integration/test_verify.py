"""`depthwright verify` tells what of a picture's file holds, and makes the picture again."""

from pathlib import Path

import pytest
from PIL import Image

from depthwright.cli.app import run
from depthwright.provenance.certificates import own_roots

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPT = "a red sphere on a wooden floor"
MAKE = ("generate", "--prompt", PROMPT, "--size", "512*512", "--steps", "2", "--seed", "5", "--device", "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture in each format, one with a control image, and another installation's root."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEPTHWRIGHT_DATA_DIR", str(folder / "data"))
        for suffix in (".png", ".jpg"):
            assert run([*MAKE, "--output", str(folder / f"out{suffix}")]) == 0
        Image.linear_gradient("L").save(folder / "control.png")
        control = ("--control-image", str(folder / "control.png"))
        assert run([*MAKE, *control, "--output", str(folder / "controlled.png")]) == 0
    return folder


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The installation that made them."""
    monkeypatch.setenv("DEPTHWRIGHT_DATA_DIR", str(folder / "data"))
    return folder


def verified(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run(["verify", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize("name", ["out.png", "out.jpg"])
def test_a_picture_of_ours_holds_and_is_equal_when_made_again(
    here: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, _ = verified(capsys, here / name, "--rerun", "--prompt", PROMPT, "--device", "cpu")
    assert code == 0, said
    assert "who is trusted here" in said
    assert "trainedAlgorithmicMedia" in said
    assert "model 'embedded-" in said
    assert "seed 5" in said
    assert "Rendered again, it is equal to the pixel." in said
    assert PROMPT not in said


def test_elsewhere_the_same_file_is_whole_but_vouched_for_only_by_whom_one_trusts(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, _ = verified(capsys, folder / "out.png")
    assert code == 0
    assert "nothing here vouches for who signed them" in said
    root = tmp_path / "root.pem"
    root.write_text(own_roots(folder / "data" / "certificates")[0])
    code, said, _ = verified(capsys, folder / "out.png", "--trust", root)
    assert code == 0
    assert "who is trusted here" in said
    code, _, complaint = verified(capsys, folder / "out.png", "--trust", folder / "control.png")
    assert code == 2
    assert "control.png" in complaint


def test_a_picture_that_was_painted_over_does_not_hold(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Image.open(here / "out.png") as image:
        xmp = image.info["xmp"]
        painted = image.convert("RGB")
    painted.paste((255, 0, 0), (100, 100, 140, 140))
    painted.save(tmp_path / "painted.webp", lossless=True, xmp=xmp)
    code, said, complaint = verified(capsys, tmp_path / "painted.webp")
    assert code == 1
    assert "NO  It has no content credentials" in said
    assert "not everything that it says of its origin holds" in complaint
    code, said, _ = verified(
        capsys, tmp_path / "painted.webp", "--rerun", "--prompt", PROMPT, "--device", "cpu"
    )
    assert code == 1
    assert "the file is not" in said


def test_to_make_it_again_one_needs_the_prompt_the_control_image_and_the_model(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rerun = (here / "controlled.png", "--rerun", "--device", "cpu")
    code, _, said = verified(capsys, *rerun)
    assert (code, "--prompt is missing" in said) == (2, True)
    code, _, said = verified(capsys, *rerun, "--prompt", "another one")
    assert (code, "--prompt is 'another one': it must be the one that the picture was made from" in said) == (
        2,
        True,
    )
    code, _, said = verified(capsys, *rerun, "--prompt", PROMPT)
    assert (code, "--control-image is missing" in said) == (2, True)
    code, said, _ = verified(capsys, *rerun, "--prompt", PROMPT, "--control-image", here / "control.png")
    assert (code, "equal to the pixel" in said) == (0, True)


def test_what_is_no_picture_and_what_is_a_strangers_are_told_apart(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "noise.png").write_bytes(b"no picture")
    code, _, said = verified(capsys, tmp_path / "noise.png")
    assert (code, "no picture that can be read" in said) == (3, True)
    code, said, _ = verified(capsys, here / "control.png")
    assert code == 1
    assert "NO  It has no content credentials" in said
    code, _, complaint = verified(capsys, here / "control.png", "--rerun")
    assert (code, "has no receipt" in complaint) == (3, True)


def test_a_refused_prompt_ends_the_command_before_anything_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run([*MAKE[:2], "a nude child", *MAKE[3:], "--output", str(tmp_path / "never.png")])
    assert code == 7
    assert "Refused:" in capsys.readouterr().err
    assert not (tmp_path / "never.png").exists()
