"""A part of a model is found whole, or what it lacks is told; digests are not made twice."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from depthwright.engine.digests import Digests, named_digest
from depthwright.engine.profiles import Part, Profile, Source
from depthwright.engine.sources import locate, model_version, weight_files
from depthwright.errors import WeightsInvalid, WeightsMissing
from tests.support.tiny import Tiny


def part_at(tiny: Tiny, part: Part, place: Path) -> Profile:
    return tiny.profile().with_overrides({part: place})


@pytest.fixture
def vae(tiny: Tiny, tmp_path: Path) -> Path:
    """A copy of the autoencoder's folder, to be spoilt."""
    return Path(shutil.copytree(tiny.folder / "vae", tmp_path / "vae"))


def test_a_whole_folder_is_found(tiny: Tiny, vae: Path) -> None:
    assert locate(part_at(tiny, "vae", vae), "vae") == vae


def test_a_folder_that_is_not_there_is_told(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(
        WeightsMissing, match=r"The vae of tiny is missing .*nowhere is not there.*right place"
    ):
        locate(part_at(tiny, "vae", tmp_path / "nowhere"), "vae")


def test_a_folder_without_its_settings_is_told(tiny: Tiny, vae: Path) -> None:
    (vae / "config.json").unlink()
    with pytest.raises(WeightsMissing, match=r"has no config\.json"):
        locate(part_at(tiny, "vae", vae), "vae")


def test_a_folder_without_weights_is_told(tiny: Tiny, vae: Path) -> None:
    next(vae.glob("*.safetensors")).unlink()
    with pytest.raises(WeightsMissing, match="has no safetensors file"):
        locate(part_at(tiny, "vae", vae), "vae")


def test_a_folder_of_pickles_alone_is_refused(tiny: Tiny, vae: Path) -> None:
    next(vae.glob("*.safetensors")).rename(vae / "diffusion_pytorch_model.bin")
    with pytest.raises(WeightsInvalid, match="pickles alone, which can run code"):
        locate(part_at(tiny, "vae", vae), "vae")


def test_a_missing_shard_is_named(tiny: Tiny, vae: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (vae / "model.safetensors.index.json").write_text(json.dumps(index))
    next(vae.glob("*.safetensors")).rename(vae / "model-00001-of-00002.safetensors")
    with pytest.raises(WeightsMissing, match=r"lacks model-00002-of-00002\.safetensors"):
        locate(part_at(tiny, "vae", vae), "vae")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'])
def test_a_broken_index_is_told(content: str, tiny: Tiny, vae: Path) -> None:
    (vae / "model.safetensors.index.json").write_text(content)
    with pytest.raises(WeightsInvalid, match="is broken"):
        locate(part_at(tiny, "vae", vae), "vae")


def test_a_damaged_installation_is_told(tiny: Tiny) -> None:
    sources = {**tiny.profile().sources, "vae": Source(package="nothing_of_ours", subfolder="vae")}
    with pytest.raises(WeightsMissing, match="install depthwright again"):
        locate(tiny.profile(sources=sources), "vae")


def test_only_files_that_are_read_count_in_the_version(tiny: Tiny, vae: Path) -> None:
    profile = part_at(tiny, "vae", vae)
    before = model_version(profile)
    (vae / "README.md").write_text("words")
    (vae / "diffusion_pytorch_model.bin").write_bytes(b"a pickle that nobody reads")
    assert model_version(profile) == before
    assert {path.suffix for path in weight_files(profile, "vae")} == {".json", ".safetensors"}


def test_a_digest_is_that_of_the_content(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"weights")
    assert Digests(None).of(file) == hashlib.sha256(b"weights").hexdigest()


def test_a_changed_file_is_measured_again_and_its_old_digest_forgotten(tmp_path: Path) -> None:
    file, cache = tmp_path / "a", tmp_path / "cache"
    for content in (b"one", b"three"):
        file.write_bytes(content)
        digests = Digests(cache)
        assert digests.of(file) == hashlib.sha256(content).hexdigest()
        digests.keep()
    assert len(json.loads((cache / "digests.json").read_text())) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_a_cache_that_is_no_cache_is_made_again(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"weights")
    (tmp_path / "digests.json").write_bytes(content)
    digests = Digests(tmp_path)
    assert digests.of(file) == hashlib.sha256(b"weights").hexdigest()
    digests.keep()
    assert len(json.loads((tmp_path / "digests.json").read_text())) == 1


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"weights")
    digests = Digests(file)  # a file where a folder should be
    digests.of(file)
    digests.keep()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsInvalid, match="cannot be read: Is a directory"):
        Digests(None).of(tmp_path)


def test_the_hub_s_name_of_a_large_file_is_its_digest(tmp_path: Path) -> None:
    digest = "a" * 64
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "c0ffee"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / digest).write_bytes(b"24 GB")
    (snapshot / "model.safetensors").symlink_to(blobs / digest)
    assert Digests(None).of(snapshot / "model.safetensors") == digest
    assert Digests(None).measured(snapshot / "model.safetensors") == hashlib.sha256(b"24 GB").hexdigest()
    small = blobs / ("b" * 40)
    small.write_bytes(b"{}")
    assert named_digest(small) is None
