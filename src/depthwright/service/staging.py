"""What one attempt makes, on its way to the disk."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Self

from PIL import Image

from depthwright.prediction import Claim
from depthwright.provenance.encoding import OutputFormat, encode
from depthwright.provenance.marking import Marker
from depthwright.provenance.receipt import Receipt
from depthwright.service.disk import sync_folder, told_full

SUFFIXES: dict[OutputFormat, str] = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}


class Staging:
    """The files of one attempt, written while the next ones are made; gone on leaving, unless they were kept."""

    def __init__(self, store: Path, claim: Claim, writers: ThreadPoolExecutor, marker: Marker | None) -> None:
        self._claim, self._writers, self._marker = claim, writers, marker
        self._folder = store / claim.id / str(claim.attempt)
        self._writing: list[Future[str]] = []
        self._pixels: dict[int, str] = {}
        # A new name is on the disk only once its folder is, and so on upwards, as far as folders are new.
        above = () if self._folder.parent.exists() else (store,)
        self._above = (self._folder.parent, *above)
        self._made = self._make()
        self._kept = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._kept:
            self._remove()

    def add(
        self, image: Image.Image, output_format: OutputFormat, receipt: Callable[[], Receipt] | None = None
    ) -> None:
        """Begin to write a picture: packing pixels and waiting for the disk leave the interpreter to others.

        With a receipt it is marked as what it is.
        """
        place = len(self._writing)

        def packed() -> bytes:
            if receipt is None:
                return encode(image, output_format)
            assert self._marker is not None, "nothing is made where nothing can be marked"
            told = receipt()
            self._pixels[place] = told.pixels_sha256
            return self._marker.encode(image, output_format, told)

        suffix = SUFFIXES[output_format]
        self._writing.append(self._writers.submit(_write, self._folder, self._made, packed, suffix))

    def settle(self) -> tuple[str, ...]:
        """Wait until all is safe on the disk; their paths under the store, in the order of adding. Raises DiskFull."""
        with told_full():
            names = [each.result() for each in self._writing]
        return tuple(f"{self._claim.id}/{self._claim.attempt}/{name}" for name in names)

    @property
    def pixels(self) -> tuple[str, ...]:
        """The hashes of the marked pictures, as their receipts have them, once all is settled."""
        return tuple(self._pixels[place] for place in sorted(self._pixels))

    def clear(self) -> None:
        """Begin anew: remove what was written so far."""
        self._remove()
        self._made = self._make()

    def keep(self) -> None:
        """It is published: what earlier attempts left, whose workers died, is of no use any more."""
        self._kept = True
        for earlier in range(1, self._claim.attempt):
            shutil.rmtree(self._folder.parent / str(earlier), ignore_errors=True)

    def _make(self) -> Future[None]:
        """The folder is made while the engine works: only files are waited for in the end."""
        return self._writers.submit(_make, self._folder, self._above)

    def _remove(self) -> None:
        # Nothing may still be written into a folder that goes.
        wait([self._made])
        wait(self._writing)
        self._writing.clear()
        self._pixels.clear()
        shutil.rmtree(self._folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._folder.parent.rmdir()


def _make(folder: Path, above: Sequence[Path]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for each in above:
        sync_folder(each)


def _write(folder: Path, made: Future[None], packed: Callable[[], bytes], suffix: str) -> str:
    """One file in the folder, its content and its name safe on the disk; the name."""
    content = packed()
    # Submitted before, to the same threads: it runs or has run.
    made.result()
    name = secrets.token_urlsafe(16) + suffix
    with (folder / name).open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)
    return name
