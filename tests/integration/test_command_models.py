"""`depthwright models`, on the embedded model and on a profile that has no weights yet."""

import io
from pathlib import Path

import pytest

from depthwright.assembly import Assembly
from depthwright.cli import run
from depthwright.engine.profiles import PARTS, profile_names
from depthwright.settings import Settings


@pytest.fixture
def assembly(tmp_path: Path) -> Assembly:
    return Assembly(Settings(cache=tmp_path / "cache", device="cpu"))


@pytest.fixture
def absent(tmp_path: Path) -> Path:
    """A profile whose parts lie in a folder that is not there."""
    sources = "".join(
        f"{part} = {{ path = '{tmp_path / 'weights'}', subfolder = '{part}' }}\n" for part in PARTS
    )
    profile = tmp_path / "mine.toml"
    profile.write_text(
        "name = 'mine'\ntitle = 'Mine'\ndescription = 'Not here yet.'\ndtype = 'float32'\nmax_sequence_length = 8\n"
        f"[sources]\n{sources}"
    )
    return profile


def test_list_names_every_profile_and_the_default(
    assembly: Assembly, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["models", "list"], assembly) == 0
    told = capsys.readouterr().out
    assert all(f"{name} " in told for name in profile_names())
    assert [line.split()[0] for line in told.splitlines() if "(default)" in line] == ["embedded"]


def test_check_finds_every_part_of_the_embedded_model(
    assembly: Assembly, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["models", "check"], assembly) == 0
    told = capsys.readouterr().out
    assert all(f"{part}: ok\n" in told for part in PARTS)


def test_check_says_what_a_profile_lacks_and_exits_as_missing_weights_do(
    assembly: Assembly, absent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["models", "check", str(absent)], assembly) == 4
    told = capsys.readouterr()
    assert "vae: The vae of mine is missing" in told.out
    assert f"mine cannot be used yet, for want of {', '.join(PARTS)}." in told.err


def test_explain_tells_device_memory_version_and_licence(
    assembly: Assembly, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["models", "explain", "embedded"], assembly) == 0
    told = capsys.readouterr().out
    for words in (
        "device: cpu",
        "memory: ",
        "native sizes: 256x256",
        "model version: embedded-",
        "Apache-2.0",
    ):
        assert words in told


def test_there_is_nothing_to_pull_for_the_embedded_model(
    assembly: Assembly, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["models", "pull", "embedded"], assembly) == 0
    assert "nothing to pull" in capsys.readouterr().out


def test_pull_shows_the_licences_and_fetches_nothing_before_they_are_accepted(
    assembly: Assembly, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard input is no terminal here, so nobody can be asked."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert run(["models", "pull", "flux-dev"], assembly) == 4
    told = capsys.readouterr()
    assert "Non-commercial use only" in told.out
    assert "--accept-licence accepts them." in told.err
    assert "Nothing was pulled" in told.err


@pytest.mark.parametrize("command", ["pull", "check", "explain"])
def test_a_mistyped_profile_is_answered_with_the_nearest(
    assembly: Assembly, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["models", command, "flux-def"], assembly) == 2
    assert "did you mean flux-dev?" in capsys.readouterr().err


def test_a_mistyped_command_is_answered_with_the_nearest(
    assembly: Assembly, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["models", "lits"], assembly) == 2
    assert "'lits' is no command; did you mean list?" in capsys.readouterr().err
