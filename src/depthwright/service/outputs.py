"""Pictures that were made: files on the local disk, under names that cannot be guessed."""

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from depthwright.prediction import Claim
from depthwright.provenance.marking import Marker
from depthwright.service.disk import told_full
from depthwright.service.staging import Staging

CONTENT_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
_WRITERS = 5  # four pictures and a depth map
_PART = re.compile(r"[A-Za-z0-9_-]+(\.(png|jpg|webp))?")


class Outputs:
    """Files as `{prediction}/{attempt}/{token}.png`. A file counts only once the database names it.

    An attempt never writes another's files, so what a dead or frozen worker wrote can do no harm; the attempt that is
    published removes what earlier ones left. Only who makes pictures needs a marker.
    """

    def __init__(self, folder: Path, marker: Marker | None = None) -> None:
        self.folder = folder
        self._marker = marker
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="writing")

    def stage(self, claim: Claim) -> Staging:
        """A place for what an attempt makes."""
        return Staging(self.folder, claim, self._writers, self._marker)

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
            with told_full():
                probe.write_bytes(b"\0" * 65536)
        finally:
            probe.unlink(missing_ok=True)
