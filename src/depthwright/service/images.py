"""Pictures from strangers: unpacked from JSON, and decoded in a process that can die alone."""

import asyncio
import base64
import binascii
import contextlib
import math
import os
import re
import subprocess
import sys
import threading
from typing import IO

from PIL import Image

from depthwright.errors import InvalidImage
from depthwright.images import MAX_PIXELS
from depthwright.service.decode_child import MEMORY_BYTES, MODES, NAME

LIMIT_BYTES = 20_000_000
_DATA_URI = re.compile(r"data:(image/[a-z0-9.+-]+)?((?:;[^,;]*)*),", re.IGNORECASE)
_URL = re.compile(r"https?://", re.IGNORECASE)
_SPACE = re.compile(r"[ \t\r\n]+")
FIRST_BYTES = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|RIFF.{4}WEBP", re.DOTALL)
_LONGEST_LINE = 1000


def parse_inline(text: str, limit_bytes: int = LIMIT_BYTES) -> bytes | None:
    """The picture that `text` holds, as a data URI or as base64 alone; None if it is an http(s) URL.

    Only the first bytes are judged. Raises InvalidImage.
    """
    if _URL.match(text):
        return None
    if text[:5].lower() == "data:":
        head = _DATA_URI.match(text)
        if head is None or not head[1] or not head[2].lower().endswith(";base64"):
            raise InvalidImage(
                f"{NAME} is a data URI of another kind than data:image/png;base64,...: {_KINDS}."
            )
        text = text[head.end() :]
    text = _SPACE.sub("", text)
    # Four characters hold three bytes: judged before anything is unpacked.
    if len(text) // 4 * 3 > limit_bytes + 2:
        raise InvalidImage(_too_large(limit_bytes))
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidImage(
            f"{NAME} is neither an http(s) URL, nor a data URI, nor base64: {_KINDS}."
        ) from error
    if len(data) > limit_bytes:
        raise InvalidImage(_too_large(limit_bytes))
    if not FIRST_BYTES.match(data):
        raise InvalidImage(f"{NAME} is no picture that can be read: {_KINDS}.")
    return data


def decode(data: bytes, seconds: float = 10) -> Image.Image:
    """The picture in `data`, decoded by a child process of bounded memory and time.

    The rules are those of `depthwright.images.open_image`. Raises InvalidImage.
    """
    expired = threading.Event()
    with subprocess.Popen(  # noqa: S603 - our own interpreter and module
        _command(seconds),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(),
        start_new_session=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None

        def stop() -> None:
            expired.set()
            child.kill()

        # 1. From here on the child ends in time, and with it every wait below.
        timer = threading.Timer(seconds, stop)
        timer.start()
        try:
            # 2. Hand the picture over; a child that died answers for itself below.
            with contextlib.suppress(OSError), child.stdin:
                child.stdin.write(data)
            # 3. Take the answer, and no more of it than the answer may have.
            return _answer(child.stdout)
        except _NoAnswer as error:
            if expired.is_set():
                raise InvalidImage(
                    f"{NAME} took longer than {seconds:g} s to decode: give a smaller one."
                ) from error
            raise InvalidImage(f"{NAME} is broken: decoding it failed.") from error
        finally:
            timer.cancel()
            child.kill()


async def decode_async(data: bytes, seconds: float = 10) -> Image.Image:
    """The same without holding up the event loop."""
    return await asyncio.to_thread(decode, data, seconds)


class _NoAnswer(Exception):
    """The child ended, or said something that it never says."""


def _answer(out: IO[bytes]) -> Image.Image:
    # The child held a stranger's bytes: nothing that it says is taken on trust.
    line = out.readline(_LONGEST_LINE).decode("utf-8", "replace")
    if line.startswith("!"):
        raise InvalidImage(line[1:].rstrip("\n"))
    match line.split():
        case [mode, width, height] if mode in MODES and width.isdecimal() and height.isdecimal():
            size = int(width), int(height)
        case _:
            raise _NoAnswer
    if not 0 < size[0] * size[1] <= MAX_PIXELS:
        raise _NoAnswer
    expected = size[0] * size[1] * MODES[mode]
    pixels = out.read(expected)
    if len(pixels) != expected:
        raise _NoAnswer
    return Image.frombytes(mode, size, pixels)


def _command(seconds: float) -> list[str]:
    # The child's own limit on time is the second guard, should this process be gone.
    limits = [str(math.ceil(seconds) + 1), str(MEMORY_BYTES)]
    return [sys.executable, "-B", "-P", "-S", "-m", "depthwright.service.decode_child", *limits]


def _environment() -> dict[str, str]:
    """What the child needs to find its modules, and no secret of this process."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _too_large(limit_bytes: int) -> str:
    return f"{NAME} is too large: at most {limit_bytes / 1_000_000:g} MB are read."


_KINDS = "give a PNG, JPEG or WebP picture"
