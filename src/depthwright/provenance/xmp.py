"""The XMP packet of a picture: IPTC's mark of generated media, the tool, and the receipt.

XMP is what most programs show and most sites keep; unlike content credentials anybody can write it.
"""

import re
from dataclasses import dataclass
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape

TRAINED_ALGORITHMIC_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
# A JPEG segment counts its own length in sixteen bits, and its name comes before the packet.
JPEG_MOST = 65_533 - len(b"http://ns.adobe.com/xap/1.0/\0")
_LONGEST = 2_000_000  # bytes of a packet that are read

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_OURS = (
    "urn:depthwright:receipt:1#"  # XMP joins a namespace and a name into one address, so it ends in a mark
)
_DESCRIPTION, _RESOURCE = f"{_RDF} Description", f"{_RDF} resource"
_FIELDS = {
    f"{_IPTC} DigitalSourceType": "source_type",
    f"{_XMP} CreatorTool": "tool",
    f"{_OURS} receipt": "receipt",
}
_NOT_IN_XML = re.compile("[\ufffe\uffff]")  # JSON has escaped what else XML 1.0 forbids


@dataclass(frozen=True)
class Packet:
    """What a packet says, None for what it does not; the receipt is JSON, not read yet."""

    source_type: str | None = None
    tool: str | None = None
    receipt: str | None = None


def packet(tool: str, receipt: str) -> bytes:
    """The packet of a picture made by `tool`, with its receipt as JSON; an empty one is left out."""
    escaped = _NOT_IN_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", receipt)
    ours = f"<depthwright:receipt>{escape(escaped)}</depthwright:receipt>" if receipt else ""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"><rdf:Description rdf:about=""'
        f' xmlns:xmp="{_XMP}" xmlns:Iptc4xmpExt="{_IPTC}" xmlns:depthwright="{_OURS}">'
        f"<Iptc4xmpExt:DigitalSourceType>{TRAINED_ALGORITHMIC_MEDIA}</Iptc4xmpExt:DigitalSourceType>"
        f"<xmp:CreatorTool>{escape(tool)}</xmp:CreatorTool>{ours}"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()


def read_packet(data: bytes) -> Packet:
    """Read a packet from anybody. Raises ValueError for what is no XMP, has a document type or is too long."""
    if len(data) > _LONGEST:
        raise ValueError(f"it is longer than {_LONGEST} bytes")
    reader = _Reader()
    # Packets in these files are UTF-8, whatever they declare; the separator cannot be in a namespace.
    parser = expat.ParserCreate("utf-8", " ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refused
    parser.StartElementHandler = reader.start
    parser.CharacterDataHandler = reader.text
    parser.EndElementHandler = reader.end
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ValueError(f"it is no XML ({error})") from error
    return Packet(**reader.found)


class _Reader:
    """Properties of the first value found, as elements, as attributes of a description, or as a resource."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self._path: list[str] = []
        self._words: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if self._inside_description():
            self._words = []
            if name in _FIELDS and _RESOURCE in attributes:
                self._keep(name, attributes[_RESOURCE])
        if name == _DESCRIPTION:
            for each, value in attributes.items():
                self._keep(each, value)
        self._path.append(name)

    def text(self, data: str) -> None:
        self._words.append(data)

    def end(self, name: str) -> None:
        self._path.pop()
        if self._inside_description():
            self._keep(name, "".join(self._words))

    def _inside_description(self) -> bool:
        return bool(self._path) and self._path[-1] == _DESCRIPTION

    def _keep(self, name: str, value: str) -> None:
        if name in _FIELDS and value.strip():
            self.found.setdefault(_FIELDS[name], value.strip())


def _refused(*_: Any) -> None:
    raise ValueError("it declares a document type, which XMP has no use for")
