"""Pixels become the bytes of a file: one table of formats for everything that is served."""

import io
from typing import Any, Literal

from PIL import Image
from PIL.PngImagePlugin import PngInfo

OutputFormat = Literal["png", "jpeg", "webp"]
_OPTIONS: dict[OutputFormat, dict[str, Any]] = {
    "png": {"format": "PNG", "compress_level": 1},  # a quarter larger than at 4, in two thirds of the time
    "jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    "webp": {"format": "WEBP", "quality": 95},
}
_PNG_KEYWORD = "XML:com.adobe.xmp"


def encode(image: Image.Image, output_format: OutputFormat, xmp: bytes = b"") -> bytes:
    """A picture's file, with an XMP packet if there is one; the pixels are the same with and without it."""
    options = dict(_OPTIONS[output_format])
    if xmp and output_format == "png":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt(_PNG_KEYWORD, xmp.decode())
    elif xmp:
        options["xmp"] = xmp
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


def format_of(data: bytes) -> OutputFormat | None:
    """The format of a file by its first bytes; None for any other than these three."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8"):
        return "jpeg"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None
