import os
from pathlib import Path

import pytest

from depthwright.errors import InvalidParameter
from depthwright.parameters import SizeBounds
from depthwright.settings import Settings


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = Settings.from_environment({})
    assert (settings.profile, settings.device, settings.size_bounds) == (
        "embedded",
        None,
        SizeBounds(512, 1536),
    )


def test_every_setting_is_read_from_its_variable() -> None:
    settings = Settings.from_environment(
        {
            "DEPTHWRIGHT_PROFILE": "flux-dev",
            "DEPTHWRIGHT_DEVICE": "cuda:1",
            "DEPTHWRIGHT_CACHE": "~/digests",
            "DEPTHWRIGHT_SHORTEST_SIDE": "256",
            "DEPTHWRIGHT_LONGEST_SIDE": "2048",
            "DEPTHWRIGHT_DEBUG": "1",
            "UNRELATED": "x",
        }
    )
    assert settings == Settings(
        profile="flux-dev",
        device="cuda:1",
        cache=Path.home() / "digests",
        shortest_side=256,
        longest_side=2048,
        debug=True,
    )


def test_an_empty_variable_counts_as_absent() -> None:
    assert Settings.from_environment({"DEPTHWRIGHT_PROFILE": ""}).profile == "embedded"


@pytest.mark.parametrize(
    ("name", "value"),
    [("LONGEST_SIDE", "wide"), ("LONGEST_SIDE", "99999"), ("SHORTEST_SIDE", "0"), ("DEBUG", "perhaps")],
)
def test_a_bad_variable_is_named_with_what_is_allowed(name: str, value: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^DEPTHWRIGHT_{name} is '{value}': it must be "):
        Settings.from_environment({f"DEPTHWRIGHT_{name}": value})


def test_bounds_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="DEPTHWRIGHT_SHORTEST_SIDE is 900"):
        Settings.from_environment({"DEPTHWRIGHT_SHORTEST_SIDE": "900", "DEPTHWRIGHT_LONGEST_SIDE": "800"})


def test_what_torch_compiles_is_kept_in_the_cache_folder_unless_the_user_says_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "mine")
    Settings(cache=tmp_path).keep_compiled()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "mine"
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    Settings(cache=tmp_path).keep_compiled()
    assert os.environ.pop("TORCHINDUCTOR_CACHE_DIR") == str(tmp_path / "compiled")
