"""Getting weights: what a profile needs from the hub, whether it is here, and bringing it here.

Files go to the hub's own cache, which other programs share: weights that are already there are not fetched again.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import torch
from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache

from depthwright.engine.acceleration.levels import choose
from depthwright.engine.digests import Digests, named_digest
from depthwright.engine.hub_errors import asking, no_room
from depthwright.engine.placing import choose_device
from depthwright.engine.profiles import ImageCheck, Memory, Part, Profile
from depthwright.engine.sources import locate, model_version, weight_files
from depthwright.errors import DepthwrightError, WeightsMissing
from depthwright.parameters import Compile

_GIGA = 1e9


@dataclass(frozen=True)
class RemoteFile:
    """One file of a profile on the hub: `size` in bytes; `is_here` when the cache has it already."""

    repo: str
    revision: str | None
    name: str
    size: int
    is_here: bool


@dataclass(frozen=True)
class PartReport:
    """What `check` found of one part: its files' SHA-256 by path, or what is wrong and what to do."""

    part: Part
    digests: dict[Path, str]
    problem: str | None


def plan(profile: Profile, token: str | None = None) -> list[RemoteFile]:
    """The files that the hub has for a profile. Raises WeightsMissing with the steps to take."""
    wanted: dict[tuple[str, str | None], set[str]] = {}
    for source in profile.sources.values():
        if source.repo:
            wanted.setdefault((source.repo, source.revision), set()).update(source.patterns)
    return [
        file
        for (repo, revision), patterns in wanted.items()
        for file in _remote_files(profile, repo, revision, token)
        if any(_matches(file.name, pattern) for pattern in patterns)
    ]


def pull(
    profile: Profile,
    *,
    accept_licence: bool,
    token: str | None = None,
    on_file: Callable[[int, int, RemoteFile], None] = lambda _index, _count, _file: None,
) -> list[Path]:
    """Bring a profile's files into the hub's cache; `on_file(i, n, file)` is told before each.

    Raises WeightsMissing (licence not accepted, gated, not there, no network) or DiskFull.
    """
    # 1. The licence comes before anything is fetched.
    if profile.licences and not accept_licence and any(source.repo for source in profile.sources.values()):
        names = "; ".join(f"{licence.name} ({licence.url})" for licence in profile.licences)
        raise WeightsMissing(
            f"Nothing was pulled: the licences of {profile.name} must be accepted first: {names}."
        )
    # 2. What there is to fetch, and whether it fits.
    files = plan(profile, token)
    _require_room(sum(file.size for file in files if not file.is_here))
    # 3. Fetch; what is in the cache already costs a glance.
    paths = []
    for index, file in enumerate(files):
        on_file(index, len(files), file)
        with asking(profile.name, file.repo):
            paths.append(Path(hf_hub_download(file.repo, file.name, revision=file.revision, token=token)))
    return paths


def check(profile: Profile, cache_dir: Path | None = None) -> list[PartReport]:
    """Read every file of every part, without loading any. Problems are told, not raised."""
    digests = Digests(cache_dir)
    reports = []
    for part in profile.parts:
        try:
            found = {path: digests.measured(path) for path in weight_files(profile, part)}
        except DepthwrightError as error:
            reports.append(PartReport(part, {}, str(error)))
        else:
            reports.append(PartReport(part, found, _damage(found)))
    digests.keep()
    return reports


def explain(
    profile: Profile,
    device: str | None = None,
    cache_dir: Path | None = None,
    compile_: Compile = "auto",
) -> list[str]:
    """What this profile would do on this machine, and why, one line a fact.

    Raises InvalidParameter for a device that is not here.
    """
    where = choose_device(device)
    lines = [f"{profile.name}: {profile.title}", profile.description, f"device: {_hardware(where)}"]
    lines.append(f"precision: {profile.dtype}")
    lines.append(f"memory: {_MEMORY[profile.memory]}")
    if profile.native:
        sizes = ", ".join(f"{width}x{height}" for width, height in profile.native)
        lines.append(
            f"native sizes: {sizes}; other sizes are enlarged from the nearest, guided by the depth map"
        )
    else:
        lines.append("native sizes: any multiple of 16 pixels")
    lines += [f"acceleration, {reason}" for reason in choose(profile, where, compile_).reasons]
    lines += [f"{part}: {_origin(profile, part)}" for part in profile.parts]
    lines.append(f"image checker: {_checking(profile)}")
    try:
        lines.append(f"model version: {model_version(profile, cache_dir)}")
    except DepthwrightError as error:
        lines.append(f"model version: none yet. {error}")
    lines += [
        f"licence of {licence.covers}: {licence.name} ({licence.url}). {licence.notice}"
        for licence in profile.licences
    ]
    return lines


_MEMORY: dict[Memory, str] = {
    "resident": "all weights on the device; "
    "the control LoRA is merged anew from pristine weights when the scale changes",
    "fp8": "large weights stored in float8, computed in the precision above; the control LoRA runs beside them",
    "int8": "large weights stored in int8 with a scale for each output, computed in the precision above; "
    "the control LoRA runs beside them",
    "group_offload": "large weights in main memory, brought to the device as they are needed; "
    "the control LoRA runs beside them",
}


def _remote_files(
    profile: Profile, repo: str, revision: str | None, token: str | None
) -> Iterator[RemoteFile]:
    with asking(profile.name, repo):
        info = HfApi(token=token).model_info(repo, revision=revision, files_metadata=True)
    for entry in info.siblings or []:
        found = try_to_load_from_cache(repo, entry.rfilename, revision=info.sha)
        yield RemoteFile(repo, revision, entry.rfilename, entry.size or 0, isinstance(found, str))


def _require_room(needed: int) -> None:
    """The cache's folder may not exist yet; its nearest parent that does is on the same disk."""
    cache = Path(constants.HF_HUB_CACHE).expanduser()
    folder = next(parent for parent in (cache, *cache.absolute().parents) if parent.exists())
    if shutil.disk_usage(folder).free < needed:
        raise no_room(f"{needed / _GIGA:.1f} GB of weights in {cache}")


def _damage(digests: dict[Path, str]) -> str | None:
    """A file whose content is not what the hub says it is."""
    wrong = [path for path, digest in digests.items() if named_digest(path) not in (None, digest)]
    if not wrong:
        return None
    return f"{wrong[0].resolve()} is damaged: delete it and pull again."


def _checking(profile: Profile) -> str:
    match profile:
        case Profile(image_checker=ImageCheck(label=label, threshold=threshold)):
            return f"pictures, previews and photos that are {label!r} at {threshold:g} or more are not shown"
        case Profile(depicts_people=True):
            return f"none, so it does not load unless DEPTHWRIGHT_UNCHECKED names it ({profile.name})"
        case _:
            return "none, as this model draws no people"


def _origin(profile: Profile, part: Part) -> str:
    source = profile.sources[part]
    place = "/".join(
        str(step)
        for step in (source.repo or source.package or source.path, source.subfolder, source.filename)
        if step
    )
    try:
        here = locate(profile, part)
    except DepthwrightError:
        return f"{place} (missing)"
    size = sum(path.stat().st_size for path in weight_files(profile, part))
    return f"{place} ({size / _GIGA:.3f} GB in {here})"


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{device} ({properties.name}, {properties.total_memory / _GIGA:.0f} GB)"
    return f"{device} ({torch.get_num_threads()} threads)" if device.type == "cpu" else str(device)


def _matches(name: str, pattern: str) -> bool:
    # A pattern speaks of one folder: "*" does not reach into folders below it.
    return fnmatch(name, pattern) and name.count("/") == pattern.count("/")
