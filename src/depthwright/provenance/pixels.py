"""One hash for a picture, wherever its pixels are: in the engine, in a file, or rendered again."""

import hashlib

from PIL import Image


def pixel_hash(image: Image.Image) -> str:
    """SHA-256 over a picture's mode, its size, its palette if it has one, and its pixels, row by row.

    Of an RGB picture these are three bytes a pixel.
    """
    hashed = hashlib.sha256(f"{image.mode} {image.width}x{image.height}\n".encode())
    hashed.update(bytes(image.getpalette() or b""))
    hashed.update(image.tobytes())
    return hashed.hexdigest()
