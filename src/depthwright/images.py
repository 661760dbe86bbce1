"""Pictures on disk: read with care, written whole or not at all."""

import errno
import os
import stat
import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from PIL import Image, ImageOps

from depthwright.errors import DepthwrightError, DiskFull, InvalidImage, OutputNotWritable
from depthwright.provenance.encoding import OutputFormat, encode

MAX_PIXELS = 40_000_000
READ_FORMATS = ("PNG", "JPEG", "WEBP")
FORMATS: dict[str, OutputFormat] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
Encode = Callable[[int, OutputFormat], bytes]
# What Pillow's decoders raise on broken data, each in its own way.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, OverflowError, IndexError, struct.error, zlib.error)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """Read a PNG, JPEG or WebP file of at most 40 megapixels, upright as its EXIF orientation says.

    The header is judged before anything is decoded; the mode stays (16-bit depth keeps its precision).
    Raises InvalidImage.
    """
    with _opened(Path(path)) as image:
        return _decoded(image, str(path))


def read_image(file: IO[bytes], name: str) -> Image.Image:
    """Read a picture as `open_image` does, from a file that is open and can seek; errors call it `name`."""
    with _judged(file, name) as image:
        return _decoded(image, name)


def check_image(path: str | os.PathLike[str]) -> None:
    """Judge a picture by its header alone, in no time. Raises InvalidImage as `open_image` would."""
    _opened(Path(path)).close()


def check_output(path: str | os.PathLike[str], count: int = 1) -> None:
    """Make sure that `save_images` could write `count` pictures at `path`, and leave nothing behind.

    Raises OutputNotWritable or DiskFull.
    """
    targets = output_paths(Path(path), count)
    _format(targets[0])
    for target in targets:
        if target.is_dir():
            raise OutputNotWritable(f"{target} is a folder: name a file in it.")
    try:
        with tempfile.TemporaryFile(dir=targets[0].parent):
            pass
    except OSError as error:
        raise _unwritable(targets[0], error) from error


def output_paths(path: Path, count: int) -> list[Path]:
    """The files that `count` pictures go to: `out.png` alone, or `out-1.png`, `out-2.png`, ..."""
    if count == 1:
        return [path]
    return [path.with_stem(f"{path.stem}-{number}") for number in range(1, count + 1)]


def save_images(
    images: Sequence[Image.Image], path: str | os.PathLike[str], packed: Encode | None = None
) -> list[Path]:
    """Write pictures by the suffix of `path` (.png, .jpg, .jpeg, .webp); returns the files written.

    `packed(i, format)` gives the file of picture i where it is to hold more than its pixels. Every picture is complete
    on disk before the first takes its name, so a failure leaves what was there.
    Raises OutputNotWritable or DiskFull.
    """
    check_output(path, len(images))
    targets = output_paths(Path(path), len(images))
    with ExitStack() as leftovers:
        # 1. Write each picture under a passing name in the folder where it will stay.
        written = []
        for index, (image, target) in enumerate(zip(images, targets, strict=True)):
            draft = target.with_name(f".{target.name}.{os.getpid()}.part")
            leftovers.callback(draft.unlink, missing_ok=True)
            try:
                output_format = _format(target)
                _write(packed(index, output_format) if packed else encode(image, output_format), draft)
            except OSError as error:
                raise _unwritable(target, error) from error
            written.append((draft, target))
        # 2. Name them all.
        for draft, target in written:
            try:
                draft.replace(target)
            except OSError as error:
                raise _unwritable(target, error) from error
    return targets


def _opened(path: Path) -> Image.Image:
    """The picture with its header read and judged, nothing decoded."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise InvalidImage(f"{path} is not there.") from error
    except (OSError, ValueError) as error:
        raise InvalidImage(f"{path} cannot be read: {_reason(error)}.") from error
    if not stat.S_ISREG(status.st_mode):
        raise InvalidImage(f"{path} is no file: give a PNG, JPEG or WebP picture.")
    return _judged(path, str(path))


def _judged(source: Path | IO[bytes], name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(source, formats=READ_FORMATS)
    except PermissionError as error:
        raise InvalidImage(f"{name} cannot be read: {_reason(error)}.") from error
    except Image.DecompressionBombError as error:
        raise InvalidImage(f"{name} is too large: {_MOST}.") from error
    except _BROKEN as error:
        raise InvalidImage(f"{name} is no picture that can be read: PNG, JPEG and WebP are.") from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise InvalidImage(f"{name} is too large, {image.width} x {image.height} pixels: {_MOST}.")
    return image


def _decoded(image: Image.Image, name: str) -> Image.Image:
    try:
        image.load()
        return ImageOps.exif_transpose(image)
    except _BROKEN as error:
        raise InvalidImage(f"{name} is broken: its header reads well, but not the picture.") from error


_MOST = f"at most {MAX_PIXELS // 1_000_000} megapixels are read"


def _write(content: bytes, draft: Path) -> None:
    with draft.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _format(target: Path) -> OutputFormat:
    found = FORMATS.get(target.suffix.lower())
    if found is None:
        raise OutputNotWritable(f"{target} has no known suffix: it must end in {', '.join(FORMATS)}.")
    return found


def _unwritable(target: Path, error: OSError) -> DepthwrightError:
    if error.errno in _NO_ROOM:
        return DiskFull(f"There is no room on the disk for {target}: free some and run again.")
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return OutputNotWritable(f"{target} cannot be written: the folder {target.parent} is not there.")
    return OutputNotWritable(f"{target} cannot be written: {_reason(error)}.")


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
