"""A file says where it comes from, and what of that is true."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from PIL import Image

from depthwright.errors import InvalidImage
from depthwright.images import check_image, read_image
from depthwright.provenance.certificates import own_roots
from depthwright.provenance.credentials import Credentials, read_credentials
from depthwright.provenance.encoding import OutputFormat, format_of
from depthwright.provenance.pixels import pixel_hash
from depthwright.provenance.receipt import Receipt
from depthwright.provenance.xmp import Packet, read_packet

Pixels = Literal["as the receipt says", "not as the receipt says", "not told"]
_LONGEST = (
    300_000_000  # bytes of a file that are read; 40 megapixels that nothing packs have 240 million at most
)


@dataclass(frozen=True)
class Provenance:
    """All that a file says of its origin, and how far it can be relied on.

    `credentials` are None where it has none. `receipt` is that of the credentials where they have one, else that of the
    XMP packet, which anybody could have written. `pixels` compares them with the receipt: `not told` without one, and
    for JPEG and WebP, whose pixels are others than were hashed. `faults` are what could not be read or contradicts
    itself.
    """

    output_format: OutputFormat
    image: Image.Image = field(repr=False)
    credentials: Credentials | None
    xmp: Packet | None
    receipt: Receipt | None
    pixels: Pixels
    faults: tuple[str, ...]


def read(source: Path | bytes, *, own: Path | None = None, anchors: Sequence[str] = ()) -> Provenance:
    """Read and check a PNG, JPEG or WebP file, without the network.

    Trusted are signers under the roots of the certificates' folder `own`, and under `anchors`, roots in PEM as
    `given_roots` reads them.
    Raises InvalidImage for what is no picture, EngineNotInstalled without c2pa.
    """
    # 1. The picture itself.
    data, name = _content(source)
    image = read_image(io.BytesIO(data), name)
    output_format = format_of(data)
    assert output_format is not None  # it has been read, and no others are
    # 2. What it says, each in its own way.
    roots = (*anchors, *(own_roots(own) if own is not None else ()))
    credentials = read_credentials(data, f"image/{output_format}", roots)
    xmp, faults = _xmp(image)
    # 3. The receipt, and whether the pixels are those it tells of.
    receipt, more = _receipt(credentials, xmp)
    pixels: Pixels = "not told"
    if receipt is not None and output_format == "png":
        same = pixel_hash(image) == receipt.pixels_sha256
        pixels = "as the receipt says" if same else "not as the receipt says"
    return Provenance(output_format, image, credentials, xmp, receipt, pixels, (*faults, *more))


def _content(source: Path | bytes) -> tuple[bytes, str]:
    if isinstance(source, bytes):
        return source, "The file"
    # It is judged by its header before all of it is read.
    check_image(source)
    size = source.stat().st_size
    if size > _LONGEST:
        raise InvalidImage(f"{source} is too large, {size} bytes: at most {_LONGEST} are read.")
    try:
        return source.read_bytes(), str(source)
    except OSError as error:
        raise InvalidImage(f"{source} cannot be read: {(error.strerror or str(error)).lower()}.") from error


def _xmp(image: Image.Image) -> tuple[Packet | None, list[str]]:
    found = image.info.get("xmp")
    if found is None:
        return None, []
    try:
        return read_packet(found), []
    except ValueError as error:
        return None, [f"The XMP packet cannot be read: {error}."]


def _receipt(credentials: Credentials | None, xmp: Packet | None) -> tuple[Receipt | None, list[str]]:
    """The receipt to go by, and what speaks against it."""
    faults, found = [], []
    told = [source.receipt for source in (credentials, xmp) if source is not None]
    for text in filter(None, told):
        try:
            found.append(Receipt.from_json(text))
        except InvalidImage as error:
            faults.append(str(error))
    if len(found) == 2 and found[0] != found[1]:
        faults.append("The receipt in the content credentials and the one in the XMP packet differ.")
    return (found[0] if found else None), list(dict.fromkeys(faults))
