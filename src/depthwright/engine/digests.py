"""SHA-256 of weight files, without reading 24 GB at every start."""

import hashlib
import json
import os
import re
from contextlib import suppress
from pathlib import Path

from depthwright.errors import WeightsInvalid

_BLOCK = 1 << 20
# The hub's cache names a large file by its SHA-256 and a small one by a git hash, which is shorter.
_HUB_NAME = re.compile(r"[0-9a-f]{64}")


class Digests:
    """SHA-256 of files, remembered in one small JSON file while size and time of change stay the same."""

    def __init__(self, cache: Path | None) -> None:
        self._file = cache / "digests.json" if cache else None
        self._known = _read_known(self._file) if self._file else {}
        self._changed = False

    def of(self, path: Path) -> str:
        """The file's digest, in hexadecimal; the hub's word is taken where its cache bears it in the name."""
        return named_digest(path) or self.measured(path)

    def measured(self, path: Path) -> str:
        """The digest of what is in the file. Raises WeightsInvalid where it cannot be read."""
        place = path.resolve()
        try:
            status = place.stat()
            key = f"{place}|{status.st_size}|{status.st_mtime_ns}"
            if key not in self._known:
                digest = _sha256(place)
                stale = [known for known in self._known if known.startswith(f"{place}|")]
                for known in stale:
                    del self._known[known]
                self._known[key] = digest
                self._changed = True
        except OSError as error:
            raise WeightsInvalid(f"{path} cannot be read: {error.strerror}.") from error
        return self._known[key]

    def keep(self) -> None:
        """Write what is new; a cache that cannot be written is only slower."""
        if not (self._file and self._changed):
            return
        draft = self._file.with_suffix(f".{os.getpid()}.part")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(self._known))
            draft.replace(self._file)
        except OSError:
            with suppress(OSError):
                draft.unlink(missing_ok=True)


def named_digest(path: Path) -> str | None:
    """The SHA-256 that the hub's cache names a large file by; None for any other file."""
    place = path.resolve()
    return place.name if place.parent.name == "blobs" and _HUB_NAME.fullmatch(place.name) else None


def _read_known(file: Path) -> dict[str, str]:
    try:
        known = json.loads(file.read_text())
    except (OSError, ValueError):  # absent, cut short or not text: it is made again
        return {}
    return known if isinstance(known, dict) else {}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
