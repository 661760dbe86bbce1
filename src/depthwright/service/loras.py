"""LoRAs that requests name: fetched once, kept by their content, and given to the engine as files."""

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from depthwright.errors import DepthwrightError, echo
from depthwright.loras import HUB, NAME, SUFFIX, URL, LoraFile
from depthwright.service.disk import told_full
from depthwright.service.fetch import Fetcher
from depthwright.service.places import Places
from depthwright.settings import Settings

_LISTING_BYTES = 5_000_000
_PREFERRED = "pytorch_lora_weights.safetensors"


class LoraUnavailable(DepthwrightError):
    """A LoRA that a request names cannot be had."""


def refusal(path: str, folder: Path, fetcher: Fetcher) -> str | None:
    """Why this will never be a LoRA, as far as that can be told without asking anybody; None if it may be."""
    if URL.fullmatch(path):
        return fetcher.refusal(path)
    if NAME.fullmatch(path):
        return None if _own(path, folder).is_file() else f"there is no LoRA called {path} on this server"
    return None if HUB.fullmatch(path) else "it is neither a URL nor a repository nor a name"


class Loras:
    """What a worker asks for them. Bytes are read once; a host that says its file is the same is believed."""

    def __init__(self, places: Places, fetcher: Fetcher, settings: Settings) -> None:
        self._own_folder, self._cache = places.loras, places.lora_cache
        self._fetcher = fetcher
        self._hub = settings.hub.rstrip("/")
        self._limit = settings.lora_megabytes * 1_000_000
        self._room = settings.lora_cache_gigabytes * 1_000_000_000
        self._seconds = settings.lora_seconds

    async def get(self, wanted: Mapping[str, Any]) -> LoraFile:
        """The file of a request's `{"path", "scale"}`. Raises LoraUnavailable or DiskFull."""
        path: str = wanted["path"]
        try:
            if URL.fullmatch(path):
                file = await self._fetched(path, _name(urlsplit(path).path))
            elif found := HUB.fullmatch(path):
                file = await self._from_hub(found["repository"], found["file"])
            else:
                file = self._named(path)
        except LoraUnavailable as error:
            # Without the query, which may be a signature: this is logged as well.
            raise LoraUnavailable(f"The LoRA {echo(path.partition('?')[0])} cannot be had: {error}") from None
        return LoraFile(file, wanted["scale"])

    def _named(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise LoraUnavailable("it is neither a URL nor a repository nor a name.")
        if not (file := _own(name, self._own_folder)).is_file():
            raise LoraUnavailable("this server has none of that name.")
        return file

    async def _from_hub(self, repository: str, wanted: str | None) -> Path:
        """A file of a public repository, at the commit that is its newest now: what a commit holds never changes."""
        with _Part(self._cache) as part:
            listing = f"{self._hub}/api/models/{repository}"
            await self._fetcher.download(listing, part.file, _LISTING_BYTES, self._seconds, LoraUnavailable)
            commit, names = _listed(part.bytes(), repository)
        name = wanted or _only(names, repository)
        if name not in names:
            raise LoraUnavailable(f"{repository} has no {name}.")
        return await self._fetched(
            f"{self._hub}/{repository}/resolve/{commit}/{name}", _name(name), fixed=True
        )

    async def _fetched(self, url: str, name: str, *, fixed: bool = False) -> Path:
        """What stands at `url`, from the cache if it is still the same; with `fixed`, it always is."""
        note = self._cache / f"{hashlib.sha256(url.encode()).hexdigest()}.json"
        # 1. What is known of it.
        known = _noted(note)
        kept = self._cache / known.get("digest", "-") / name
        tag = known.get("tag", "") if kept.is_file() else ""
        if fixed and kept.is_file():
            return await asyncio.to_thread(_used, kept)
        # 2. Ask for what is not; a host may say that it is what it was.
        with _Part(self._cache) as part:
            tag_now = await self._fetcher.download(
                url, part.file, self._limit, self._seconds, LoraUnavailable, tag
            )
            if tag_now is None:
                return await asyncio.to_thread(_used, kept)
            # 3. Keep it, by its content.
            return await asyncio.to_thread(self._keep, part, name, note, tag_now)

    def _keep(self, part: "_Part", name: str, note: Path, tag: str) -> Path:
        digest = part.digest()
        kept = self._cache / digest / name
        with told_full():
            kept.parent.mkdir(exist_ok=True)
            part.path.replace(kept)
            draft = note.with_suffix(f".{secrets.token_hex(4)}.part")
            draft.write_text(json.dumps({"digest": digest, "tag": tag}))
            draft.replace(note)
        self._sweep(kept)
        return kept

    def _sweep(self, newest: Path) -> None:
        """Remove what was used longest ago, until there is room, and what workers that died were writing."""
        given_up = time.time() - 2 * self._seconds
        for path, status in _statuses(self._cache.glob("*.part")):
            if status.st_mtime < given_up:
                path.unlink(missing_ok=True)
        files = _statuses(self._cache.glob(f"*/*{SUFFIX}"))
        total = sum(status.st_size for _, status in files)
        for path, status in sorted(files, key=lambda each: each[1].st_mtime):
            if total <= self._room:
                return
            if path != newest:
                path.unlink(missing_ok=True)
                total -= status.st_size


class _Part:
    """A file that is being written; gone on leaving, unless it was moved to its place."""

    def __init__(self, folder: Path) -> None:
        with told_full():
            folder.mkdir(parents=True, exist_ok=True)
            self.path = folder / f"{secrets.token_hex(8)}.part"
            self.file = self.path.open("w+b")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.path.unlink(missing_ok=True)

    def bytes(self) -> bytes:
        """All of it."""
        self.file.seek(0)
        return self.file.read()

    def digest(self) -> str:
        """Its SHA-256, once all of it is on the disk."""
        with told_full():
            self.file.flush()
        self.file.seek(0)
        return hashlib.file_digest(self.file, "sha256").hexdigest()


def _own(name: str, folder: Path) -> Path:
    return folder / (name if name.endswith(SUFFIX) else name + SUFFIX)


def _name(path: str) -> str:
    """The file's name as people see it, made harmless."""
    stem = PurePosixPath(unquote(path)).name.removesuffix(SUFFIX)[:80]
    return (stem if NAME.fullmatch(stem) else "lora") + SUFFIX


def _listed(answer: bytes, repository: str) -> tuple[str, list[str]]:
    """The commit and the safetensors files of a repository, as the hub tells them."""
    try:
        told = json.loads(answer)
        names = [each["rfilename"] for each in told["siblings"]]
        commit = str(told["sha"])
    except (ValueError, KeyError, TypeError):
        raise LoraUnavailable(f"the hub's answer about {repository} cannot be read.") from None
    return commit, [name for name in names if isinstance(name, str) and name.endswith(SUFFIX)]


def _only(names: list[str], repository: str) -> str:
    if _PREFERRED in names:
        return _PREFERRED
    if len(names) == 1:
        return names[0]
    shown = ", ".join(sorted(names)[:5])
    raise LoraUnavailable(
        f"{repository} has {len(names)} safetensors files; name one of them, as {repository}/FILE: {shown}."
        if names
        else f"{repository} has no safetensors file."
    )


def _noted(note: Path) -> dict[str, str]:
    try:
        told = json.loads(note.read_text())
    except (OSError, ValueError):
        return {}
    return {name: str(value) for name, value in told.items()} if isinstance(told, dict) else {}


def _statuses(paths: Iterable[Path]) -> list[tuple[Path, os.stat_result]]:
    """Those that are there: another worker may sweep at the same time."""
    found = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            found.append((path, path.stat()))
    return found


def _used(file: Path) -> Path:
    """Used just now: what was used longest ago goes first."""
    with contextlib.suppress(OSError):
        file.touch()
    return file
