"""The picture that the peers answer with, encoded as the service encodes its own; it needs Pillow and nothing else."""

import io
from base64 import b64encode

from PIL import Image

SIDE = 512
_PNG_LEVEL = 4  # the service's


def black_png(mode: str = "RGB") -> bytes:
    """A black picture as a PNG file."""
    with io.BytesIO() as file:
        Image.new(mode, (SIDE, SIDE)).save(file, "PNG", compress_level=_PNG_LEVEL)
        return file.getvalue()


def black_base64() -> str:
    """The same as base64."""
    return b64encode(black_png()).decode()
