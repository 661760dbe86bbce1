"""Pictures that were made: files on the local disk, under names that cannot be guessed."""

import contextlib
import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from PIL import Image

from depthwright.errors import DiskFull
from depthwright.prediction import Claim

SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
CONTENT_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
_OPTIONS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG", "compress_level": 1},  # a quarter larger than at 4, in two thirds of the time
    "jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    "webp": {"format": "WEBP", "quality": 95},
}
_WRITERS = 5  # four pictures and a depth map
_PART = re.compile(r"[A-Za-z0-9_-]+(\.(png|jpg|webp))?")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Outputs:
    """Files as `{prediction}/{attempt}/{token}.png`. A file counts only once the database names it.

    An attempt never touches another's files, so what a dead or frozen worker wrote can do no harm.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="writing")

    def write(self, claim: Claim, files: Iterable[tuple[Image.Image, str]]) -> tuple[str, ...]:
        """Write pictures in their formats, safe on the disk on return; their paths under the store. Raises DiskFull.

        All at once: packing pixels and waiting for the disk leave the interpreter to others.
        """
        folder = self.folder / claim.id / str(claim.attempt)
        is_first = not folder.parent.exists()
        with _told():
            folder.mkdir(parents=True, exist_ok=True)
            writing = [self._writers.submit(_write, folder, *file) for file in files]
            # All of them first: nothing may still be written when a failed attempt is discarded.
            wait(writing)
            names = [each.result() for each in writing]
            # A new name is on the disk only once its folder is.
            for each in (folder, folder.parent, *([self.folder] if is_first else ())):
                _sync(each)
        return tuple(f"{claim.id}/{claim.attempt}/{name}" for name in names)

    def path(self, name: str) -> Path | None:
        """The file of that name, if it is there and a name of this store."""
        parts = name.split("/")
        if len(parts) != 3 or not all(map(_PART.fullmatch, parts)):
            return None
        path = self.folder.joinpath(*parts)
        return path if path.is_file() else None

    def read(self, name: str) -> bytes | None:
        """The bytes of that file, if it is there."""
        path = self.path(name)
        return path.read_bytes() if path else None

    def discard(self, claim: Claim) -> None:
        """Remove what an attempt wrote."""
        shutil.rmtree(self.folder / claim.id / str(claim.attempt), ignore_errors=True)
        with contextlib.suppress(OSError):
            (self.folder / claim.id).rmdir()

    def remove(self, prediction_id: str) -> None:
        """Remove everything of a prediction."""
        shutil.rmtree(self.folder / prediction_id, ignore_errors=True)

    def older_than(self, seconds: float) -> Iterator[str]:
        """Predictions whose folder nothing was added to for so long."""
        limit = time.time() - seconds
        if not self.folder.is_dir():
            return
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if entry.stat().st_mtime < limit:
                        yield entry.name

    def sweep(self, seconds: float, known: Container[str]) -> int:
        """Remove folders of that age that belong to no known prediction; how many."""
        gone = [name for name in self.older_than(seconds) if name not in known]
        for name in gone:
            self.remove(name)
        return len(gone)

    def check(self) -> None:
        """Make sure that something can be written. Raises DiskFull or OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        probe = self.folder / f".probe-{secrets.token_hex(8)}"
        try:
            with _told():
                probe.write_bytes(b"\0" * 65536)
        finally:
            probe.unlink(missing_ok=True)


def _write(folder: Path, image: Image.Image, output_format: str) -> str:
    """One file, its content safe on the disk; its name."""
    name = secrets.token_urlsafe(16) + SUFFIXES[output_format]
    with (folder / name).open("xb") as file:
        image.save(file, **_OPTIONS[output_format])
        file.flush()
        os.fsync(file.fileno())
    return name


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """A full disk in our words. Raises DiskFull."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise DiskFull("The server's disk is full: its operator has to free some room.") from error
        raise


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
