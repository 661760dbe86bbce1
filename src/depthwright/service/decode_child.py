"""Decode one picture from stdin to stdout, in a process that may do little else; `images` runs it.

The answer is a line and then the pixels, row by row without gaps: `RGB 640 480`. A refusal is one line that
begins with `!` and holds the sentence.
"""

import contextlib
import io
import sys
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

# The modes that are sent as they are, with their bytes per pixel; the others are converted to one of these.
MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I": 4, "I;16": 2}
NAME = "The control image"
# A lossless WebP of 40 megapixels with alpha and EXIF needs the most: 670 MB of address space were measured.
MEMORY_BYTES = 800_000_000
_CONVERTED = {"1": "L", "P": "RGB", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}
_STRIPE_PIXELS = 1_000_000


def main(seconds: int, memory: int) -> None:
    """Answer on stdout, always; whatever else happens is a crash for the parent to notice."""
    restrict(seconds, memory)
    # Imported under the limits, which hold for all that Pillow does.
    from depthwright.errors import InvalidImage  # noqa: PLC0415
    from depthwright.images import read_image  # noqa: PLC0415

    try:
        image = read_image(io.BytesIO(sys.stdin.buffer.read()), NAME)
        send(sendable(image), sys.stdout.buffer)
    except InvalidImage as error:
        refuse(str(error))
    except MemoryError:
        refuse(f"{NAME} needs more memory to be decoded than is allowed: give a smaller one.")


def restrict(seconds: int, memory: int) -> None:
    """Set the limits that this system knows, for good; Windows knows none."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    limits = {
        "RLIMIT_AS": memory,
        "RLIMIT_CPU": seconds,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_NOFILE": 16,
        "RLIMIT_NPROC": 0,
        "RLIMIT_CORE": 0,
    }
    for name, most in limits.items():
        # macOS has the name of the memory limit and refuses to set it.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (most, most))


def sendable(image: "Image.Image") -> "Image.Image":
    """The picture in one of `MODES`."""
    if image.mode in MODES:
        return image
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert(_CONVERTED.get(image.mode, "RGB"))


def send(image: "Image.Image", out: IO[bytes]) -> None:
    """Write the picture stripe by stripe: the whole of it as bytes would double the memory."""
    width, height = image.size
    out.write(f"{image.mode} {width} {height}\n".encode())
    rows = max(1, _STRIPE_PIXELS // width)
    for top in range(0, height, rows):
        out.write(image.crop((0, top, width, min(top + rows, height))).tobytes())
    out.flush()


def refuse(sentence: str) -> None:
    """Answer with the sentence instead of a picture."""
    sys.stdout.buffer.write(f"!{sentence}\n".encode())
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
