"""Profiles are data: complete, checked, and the same in form whoever wrote them."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depthwright.engine.profiles import PARTS, Profile, Source, load_profile, profile_names
from depthwright.errors import InvalidParameter, UnknownProfile

HEAD = "name = 'mine'\ntitle = 'Mine'\ndescription = 'Mine.'\ndtype = 'float32'\nmax_sequence_length = 8\n"


def sources(place: str = "path = 'weights'") -> str:
    return "[sources]\n" + "".join(f"{part} = {{ {place}, subfolder = '{part}' }}\n" for part in PARTS)


def write(folder: Path, text: str) -> Path:
    file = folder / "mine.toml"
    file.write_text(text)
    return file


def test_the_four_profiles_come_with_the_package() -> None:
    assert profile_names() == ("embedded", "flux-dev", "flux-dev-fp8", "flux-dev-int8", "flux-dev-offload")
    assert all(load_profile(name).name == name for name in profile_names())


def test_the_flux_profiles_differ_in_memory_alone() -> None:
    profiles = [load_profile(name) for name in profile_names() if name.startswith("flux")]
    assert [profile.memory for profile in profiles] == ["resident", "fp8", "int8", "group_offload"]
    assert len({str(profile.sources) for profile in profiles}) == 1
    assert len({str(profile.licences) for profile in profiles}) == 1


def test_flux_comes_from_its_gated_repositories_under_its_licence() -> None:
    profile = load_profile("flux-dev")
    assert profile.sources["transformer"].repo == "black-forest-labs/FLUX.1-dev"
    lora = profile.sources["control_lora"]
    assert (lora.repo, lora.filename) == (
        "black-forest-labs/FLUX.1-Depth-dev-lora",
        "flux1-depth-dev-lora.safetensors",
    )
    assert profile.max_sequence_length == 512
    assert profile.native == ()
    assert any("Non-Commercial" in licence.name for licence in profile.licences)


def test_the_embedded_profile_needs_nothing_from_the_hub() -> None:
    profile = load_profile("embedded")
    assert all(source.repo is None and source.package == "embedded" for source in profile.sources.values())
    assert profile.native


def test_a_part_asks_for_safetensors_and_text_of_its_own_folder_alone() -> None:
    patterns = Source(repo="a/b", subfolder="vae").patterns
    assert "vae/*.safetensors" in patterns
    assert all(pattern.startswith("vae/") and not pattern.endswith((".bin", ".pt")) for pattern in patterns)
    assert Source(repo="a/b", filename="lora.safetensors").patterns == ("lora.safetensors",)


def test_anyone_may_write_a_profile(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, HEAD + sources()))
    assert (profile.name, profile.memory, profile.native, profile.licences) == ("mine", "resident", (), ())


def test_paths_in_a_profile_start_from_its_own_folder(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, HEAD + sources()))
    assert profile.sources["vae"].path == tmp_path / "weights"
    absolute = load_profile(write(tmp_path, HEAD + sources("path = '/models/flux'")))
    assert absolute.sources["vae"].path == Path("/models/flux")


def test_a_tilde_is_the_home_of_whoever_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    profile = load_profile(write(tmp_path, HEAD + sources("path = '~/flux'")))
    assert profile.sources["vae"].path == tmp_path / "home" / "flux"


def test_an_override_replaces_a_source_and_leaves_the_profile_as_it_was() -> None:
    profile = load_profile("flux-dev")
    changed = profile.with_overrides({"control_lora": Path("mine.safetensors")})
    assert changed.sources["control_lora"] == Source(path=Path("mine.safetensors"))
    assert profile.sources["control_lora"].repo == "black-forest-labs/FLUX.1-Depth-dev-lora"
    assert changed.sources["vae"] == profile.sources["vae"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name = ", "a TOML file"),
        (HEAD, "sources: Field required"),
        (HEAD + "[sources]\nvae = { repo = 'a/b' }\n", "sources lack transformer"),
        (HEAD + sources("path = 'a', repo = 'b/c'"), "exactly one of package, repo and path"),
        (HEAD + sources("subfolder2 = 'a'"), "subfolder2: Extra inputs are not permitted"),
        (HEAD.replace("float32", "int4") + sources(), "dtype"),
        (HEAD.replace("= 8", "= 0") + sources(), "max_sequence_length"),
        (HEAD + "native = [[0, 64]]\n" + sources(), "native.0.0"),
        (HEAD + "prompt = 'a'\n" + sources(), "prompt: Extra inputs are not permitted"),
    ],
)
def test_what_is_wrong_with_a_profile_is_told(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter) as caught:
        load_profile(write(tmp_path, text))
    assert told in str(caught.value)


@settings(max_examples=50, deadline=None)
@given(content=st.binary(max_size=80))
def test_a_file_that_is_no_profile_is_refused_whatever_is_in_it(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("profile") / "any.toml"
    file.write_bytes(content)
    with pytest.raises(InvalidParameter):
        load_profile(file)


@pytest.mark.parametrize("name", ["flux-def", "", "missing.toml", "pyproject.txt"])
def test_a_profile_that_is_not_there_is_unknown(name: str) -> None:
    with pytest.raises(UnknownProfile):
        load_profile(name)


def test_a_profile_reads_back_as_it_was_written() -> None:
    profile = load_profile("embedded")
    assert Profile.model_validate(profile.model_dump()) == profile
