"""Where a profile's files are on this machine, and what to do when they are not."""

import hashlib
import json
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache

from depthwright.engine.digests import Digests
from depthwright.engine.profiles import PARTS, Part, Profile, Source
from depthwright.errors import WeightsInvalid, WeightsMissing

_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_READ = (".safetensors", ".json", ".txt", ".model")
_VERSION_DIGITS = 12

# Besides weights, what a part's folder must hold.
_SETTINGS: dict[Part, tuple[str, ...]] = {
    "transformer": ("config.json",),
    "vae": ("config.json",),
    "text_encoder": ("config.json",),
    "text_encoder_2": ("config.json",),
    "tokenizer": ("tokenizer_config.json",),
    "tokenizer_2": ("tokenizer_config.json",),
    "scheduler": ("scheduler_config.json",),
    "control_lora": (),
    "depth_estimator": ("config.json", "preprocessor_config.json"),
    "image_checker": ("config.json", "preprocessor_config.json"),
    "prompt_guard": ("config.json", "tokenizer_config.json"),
}
_WITHOUT_WEIGHTS: tuple[Part, ...] = ("tokenizer", "tokenizer_2", "scheduler")


def locate(profile: Profile, part: Part) -> Path:
    """The folder or file of one part, whole. Raises WeightsMissing with the steps that get it, or WeightsInvalid."""
    source = profile.sources[part]
    place = _root(profile, part, source) / (source.subfolder or "") / (source.filename or "")
    if place.suffix in _PICKLED:
        raise WeightsInvalid(
            f"{place} is a pickle, which can run code: only safetensors are read. Convert it first."
        )
    if not place.exists():
        raise missing(profile, part, f"{place} is not there")
    if place.is_dir():
        _require_whole(profile, part, place)
    return place


def missing(profile: Profile, part: Part, why: str) -> WeightsMissing:
    """The error for a part that is not on this machine, with what to do next."""
    source = profile.sources[part]
    if source.repo:
        step = (
            f"accept the licence at https://huggingface.co/{source.repo} if it asks for one, "
            f"log in with 'hf auth login', then run 'depthwright models pull {profile.name}'"
        )
    elif source.package:
        step = "the installation is damaged: install depthwright again"
    else:
        step = f"give the right place for {part}"
    return WeightsMissing(f"The {part} of {profile.name} is missing ({why}): {step}.")


def weight_files(profile: Profile, part: Part) -> Iterator[Path]:
    """The files that a part is read from. Raises as `locate` does."""
    place = locate(profile, part)
    if place.is_file():
        yield place
        return
    yield from sorted(path for path in place.iterdir() if path.is_file() and path.suffix in _READ)


def model_version(profile: Profile, cache: Path | None = None) -> str:
    """The profile's name and the first digits of a SHA-256 over every file of every part that draws.

    `cache` is a folder that remembers digests by path, size and time: hashing 24 GB takes a minute.
    """
    whole = hashlib.sha256()
    remembered = Digests(cache)
    for part in PARTS:
        for path in weight_files(profile, part):
            whole.update(f"{part}/{path.name}:{remembered.of(path)}\n".encode())
    remembered.keep()
    return f"{profile.name}-{whole.hexdigest()[:_VERSION_DIGITS]}"


def _root(profile: Profile, part: Part, source: Source) -> Path:
    if source.path:
        return source.path
    if source.package:
        with as_file(files("depthwright.engine") / source.package) as folder:
            return folder
    return _snapshot(profile, part, source)


def _snapshot(profile: Profile, part: Part, source: Source) -> Path:
    """The folder of a repository in the hub's cache, found by one file that the part cannot do without."""
    assert source.repo
    probe = source.filename or "/".join(filter(None, (source.subfolder, *_SETTINGS[part][:1])))
    found = try_to_load_from_cache(source.repo, probe, revision=source.revision)
    if not isinstance(found, str):
        raise missing(profile, part, f"{source.repo} is not in {constants.HF_HUB_CACHE}")
    return Path(found).parents[len(Path(probe).parts) - 1]


def _require_whole(profile: Profile, part: Part, folder: Path) -> None:
    """A pull may have been stopped half-way, and a folder may be another part's."""
    for name in _SETTINGS[part]:
        if not (folder / name).is_file():
            raise missing(profile, part, f"{folder} has no {name}")
    if part in _WITHOUT_WEIGHTS:
        return
    for shard in _shards(folder):
        if not (folder / shard).is_file():
            raise missing(profile, part, f"{folder} lacks {shard}")
    if not any(folder.glob("*.safetensors")):
        if any(path.suffix in _PICKLED for path in folder.iterdir()):
            raise WeightsInvalid(
                f"{folder} holds pickles alone, which can run code: only safetensors are read. Convert them first."
            )
        raise missing(profile, part, f"{folder} has no safetensors file")


def _shards(folder: Path) -> set[Path]:
    """The files that an index says the weights are split into."""
    shards: set[Path] = set()
    for index in folder.glob("*.safetensors.index.json"):
        try:
            shards.update(Path(name) for name in json.loads(index.read_text())["weight_map"].values())
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise WeightsInvalid(
                f"{index} is broken: it does not tell which file holds which weight."
            ) from error
    return shards
