"""Pictures that say where they come from: written, read back, and judged when somebody changed them."""

import datetime as dt
import functools
import http.server
import io
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from depthwright import __version__
from depthwright.errors import EngineNotInstalled, InvalidImage, ServiceError
from depthwright.parameters import PROMPT_MAX, GenerationParameters
from depthwright.provenance.certificates import Identity, own_certificate, own_roots
from depthwright.provenance.encoding import OutputFormat, encode
from depthwright.provenance.issuing import Issued, issue
from depthwright.provenance.marking import Marker
from depthwright.provenance.pixels import pixel_hash
from depthwright.provenance.reading import Provenance, read
from depthwright.provenance.receipt import Receipt
from depthwright.provenance.showing import lines
from depthwright.provenance.xmp import TRAINED_ALGORITHMIC_MEDIA
from tests.support.receipts import made_up

FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)
PROMPT = 'a red cube, "œuvre" <木> & \x07'
every_format = pytest.mark.parametrize("output_format", FORMATS)


def picture(seed: int = 0, width: int = 96, height: int = 64) -> Image.Image:
    """Soft shapes under noise, which every format has something to do with."""
    noise = np.random.default_rng(seed)
    soft = Image.fromarray(noise.integers(0, 256, (4, 6, 3), dtype=np.uint8)).resize((width, height))
    grain = noise.integers(-8, 9, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(soft) + grain, 0, 255).astype(np.uint8))


PICTURE = picture()
DAY = dt.timedelta(days=1)


def identity(issued: Issued) -> Identity:
    return Identity(issued.certificate, issued.key, "es256", "somebody", dt.datetime.now(dt.UTC))


def receipt(image: Image.Image = PICTURE, prompt: str = PROMPT) -> Receipt:
    request = GenerationParameters.from_user(prompt=prompt, seed=7, num_images=2)
    return made_up(request.model_dump(mode="json"), pixel_hash(image), control_sha256=pixel_hash(image))


def states(provenance: Provenance) -> str:
    return "none" if provenance.credentials is None else provenance.credentials.state


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks of a PNG file, each with its kind."""
    found, at = [], 8
    while at < len(data):
        size = int.from_bytes(data[at : at + 4])
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def png(parts: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG file of chunks, each with its checksum as it should be."""
    packed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def changed(data: bytes, after: bytes, old: bytes, new: bytes) -> bytes:
    """The file with a word replaced behind a landmark, its checksums mended as whoever forges would."""
    start = data.index(after)
    forged = data[:start] + data[start:].replace(old, new, 1)
    assert forged != data
    assert len(forged) == len(data)
    return png(chunks(forged)) if data.startswith(b"\x89PNG") else forged


def with_other_pixels(data: bytes, output_format: OutputFormat) -> bytes:
    """The file with everything it says, and another picture in it."""
    if output_format == "png":
        inside = [part for part in chunks(encode(picture(1), "png")) if part[0] == b"IDAT"]
        rest = [part for part in chunks(data) if part[0] != b"IDAT"]
        return png([*rest[:-1], *inside, rest[-1]])
    middle = len(data) - 200 if output_format == "jpeg" else data.index(b"VP8 ") + 400
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]


@every_format
def test_a_picture_says_where_it_comes_from_and_all_of_it_holds(
    marker: Marker, ours: Path, output_format: OutputFormat
) -> None:
    found = read(marker.encode(PICTURE, output_format, receipt()), own=ours)
    assert states(found) == "trusted"
    assert found.credentials is not None
    assert found.credentials.faults == ()
    assert found.credentials.generator == f"depthwright {__version__}"
    assert found.credentials.model == "embedded 2-0123abcd"
    assert found.credentials.signer == own_certificate(ours).name
    assert found.xmp is not None
    assert found.xmp.tool == f"depthwright {__version__}"
    assert found.receipt == receipt().without_prompt()
    assert found.faults == ()
    assert found.output_format == output_format


@every_format
def test_every_picture_is_marked_as_generated_twice(marker: Marker, output_format: OutputFormat) -> None:
    data = marker.encode(PICTURE, output_format, receipt())
    found = read(data)
    assert found.credentials is not None
    assert found.xmp is not None
    assert found.credentials.source_type == found.xmp.source_type == TRAINED_ALGORITHMIC_MEDIA
    assert data.count(TRAINED_ALGORITHMIC_MEDIA.encode()) == 2


@every_format
def test_who_has_not_our_root_sees_that_it_is_whole_but_not_by_whom(
    marker: Marker, ours: Path, output_format: OutputFormat, tmp_path: Path
) -> None:
    data = marker.encode(PICTURE, output_format, receipt())
    own_certificate(tmp_path / "another")
    assert states(read(data)) == "untrusted"
    assert states(read(data, own=tmp_path / "another")) == "untrusted"
    assert states(read(data, anchors=own_roots(ours))) == "trusted"


@every_format
def test_marking_changes_no_pixel(marker: Marker, output_format: OutputFormat) -> None:
    marked = Image.open(io.BytesIO(marker.encode(PICTURE, output_format, receipt())))
    plain = Image.open(io.BytesIO(encode(PICTURE, output_format)))
    assert (marked.mode, marked.size, marked.format) == (plain.mode, plain.size, plain.format)
    assert marked.tobytes() == plain.tobytes()


@every_format
def test_the_prompt_is_in_no_byte_of_the_file_unless_it_is_asked_for(
    ours: Path, output_format: OutputFormat
) -> None:
    prompt = "zyx a cube of jade"
    silent, open_ = (Marker(own_certificate(ours), keep_prompts=keep) for keep in (False, True))
    told = receipt(prompt=prompt)
    hidden, shown = (each.encode(PICTURE, output_format, told) for each in (silent, open_))
    assert not any(word in hidden for word in (b"zyx", b"jade", "zyx".encode("utf-16-le"), b"enl4"))
    assert shown.count(prompt.encode()) == 2
    found = read(hidden).receipt
    assert found is not None
    assert found.is_prompt(prompt)
    assert read(shown).receipt == told


@every_format
def test_a_prompt_of_the_longest_kind_fits_into_every_format(ours: Path, output_format: OutputFormat) -> None:
    """A JPEG's XMP ends at 64 KiB: what is too long for it stays in the credentials."""
    marker = Marker(own_certificate(ours), keep_prompts=True)
    for letter in ("\x07", "\U0001f600", "&", '"', "木"):
        told = receipt(prompt=letter * PROMPT_MAX)
        found = read(marker.encode(PICTURE, output_format, told), own=ours)
        assert (states(found), found.receipt, found.faults) == ("trusted", told, ())
        assert found.xmp is not None
        assert found.xmp.source_type == TRAINED_ALGORITHMIC_MEDIA


@every_format
def test_other_pixels_break_the_credentials(marker: Marker, ours: Path, output_format: OutputFormat) -> None:
    found = read(with_other_pixels(marker.encode(PICTURE, output_format, receipt()), output_format), own=ours)
    assert states(found) == "invalid"
    assert found.image.tobytes() != Image.open(io.BytesIO(encode(PICTURE, output_format))).tobytes()
    assert found.pixels == ("not as the receipt says" if output_format == "png" else "not told")
    told = "\n".join(line.text for line in lines(found) if line.verdict == "bad")
    assert "the file was changed after it was signed (assertion.dataHash.mismatch)" in told


@every_format
def test_another_receipt_in_the_xmp_breaks_the_credentials(
    marker: Marker, ours: Path, output_format: OutputFormat
) -> None:
    data = marker.encode(PICTURE, output_format, receipt())
    found = read(changed(data, b"<x:xmpmeta", b"cpu x86_64", b"gpu x86_64"), own=ours)
    assert states(found) == "invalid"
    assert found.faults == ("The receipt in the content credentials and the one in the XMP packet differ.",)


@every_format
def test_another_word_in_the_credentials_breaks_them(
    marker: Marker, ours: Path, output_format: OutputFormat
) -> None:
    data = marker.encode(PICTURE, output_format, receipt())
    for old, new in ((b"embedded", b"flux-dev"), (b"c2pa.created", b"c2pa.croated"), (b"x86_64", b"x86_46")):
        found = read(changed(data, b"jumb", old, new), own=ours)
        assert states(found) == "invalid"
        assert any(line.verdict == "bad" for line in lines(found))


@every_format
def test_a_mark_taken_out_breaks_the_credentials(
    marker: Marker, ours: Path, output_format: OutputFormat
) -> None:
    data = marker.encode(PICTURE, output_format, receipt())
    found = read(
        changed(data, b"<x:xmpmeta", b"trainedAlgorithmicMedia", b"digitalCapture         "), own=ours
    )
    assert states(found) == "invalid"
    assert "It is marked as of another origin in its XMP (IPTC)" in "\n".join(
        line.text for line in lines(found)
    )


@every_format
def test_credentials_that_were_taken_out_are_missed(output_format: OutputFormat) -> None:
    found = read(encode(PICTURE, output_format))
    assert (found.credentials, found.xmp, found.receipt, found.pixels) == (None, None, None, "not told")
    texts = [line.text for line in lines(found)]
    assert "It has no content credentials: there were none, or they were taken out." in texts
    assert "It has no receipt, so it cannot be rendered again." in texts
    assert not any(line.verdict == "good" for line in lines(found))


def test_a_receipt_without_credentials_is_still_compared_with_the_pixels(marker: Marker) -> None:
    signed = chunks(marker.encode(PICTURE, "png", receipt()))
    stripped = [part for part in signed if part[0] != b"caBX"]
    found = read(png(stripped))
    assert (states(found), found.pixels) == ("none", "as the receipt says")
    other = with_other_pixels(png(stripped), "png")
    assert read(other).pixels == "not as the receipt says"


def test_credentials_of_one_picture_do_not_fit_another(marker: Marker, ours: Path) -> None:
    [credentials] = [p for p in chunks(marker.encode(PICTURE, "png", receipt())) if p[0] == b"caBX"]
    foreign = chunks(encode(picture(1), "png"))
    found = read(png([foreign[0], credentials, *foreign[1:]]), own=ours)
    assert (states(found), found.pixels) == ("invalid", "not as the receipt says")


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe1", b"RIFF\x20\0\0\0WEBP"]),
)
def test_bytes_that_are_no_picture_are_refused_in_words(noise: bytes, head: bytes) -> None:
    with pytest.raises(InvalidImage, match=r"The file is (no picture that can be read|broken)"):
        read(head + noise)


@functools.cache
def signed_by_somebody(output_format: OutputFormat) -> bytes:
    return Marker(identity(issue(DAY * 9))).encode(PICTURE, output_format, receipt())


def said(found: Provenance) -> tuple[object, ...]:
    return found.credentials, found.xmp, found.receipt, found.faults, found.image.tobytes()


@every_format
@given(data=st.data())
@settings(deadline=None)
def test_no_byte_can_change_what_a_file_says_or_shows_unnoticed(
    output_format: OutputFormat, data: st.DataObject
) -> None:
    """Some bytes of the credentials' own frame are free, as C2PA has it; none of them means anything."""
    file = bytearray(signed_by_somebody(output_format))
    whole = said(read(bytes(file)))
    at = data.draw(st.integers(0, len(file) - 1))
    file[at] ^= data.draw(st.integers(1, 255))
    try:
        found = read(bytes(file))
    except InvalidImage:
        return
    assert states(found) in ("invalid", "none") or said(found) == whole


@pytest.mark.parametrize("name", ["absent.png", "noise.png", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "noise.png").write_bytes(b"noise")
    with pytest.raises(InvalidImage, match=str(tmp_path)):
        read(tmp_path / name)


def test_a_file_is_read_as_its_bytes_are(marker: Marker, tmp_path: Path, ours: Path) -> None:
    """The name's ending says nothing."""
    (tmp_path / "out.png").write_bytes(marker.encode(PICTURE, "webp", receipt()))
    found = read(tmp_path / "out.png", own=ours)
    assert (found.output_format, states(found)) == ("webp", "trusted")


def test_many_threads_may_sign_at_once(marker: Marker, ours: Path) -> None:
    pictures = [picture(seed) for seed in range(6)]
    jobs = [(pictures[i % 6], FORMATS[i % 3], receipt(pictures[i % 6])) for i in range(60)]
    with ThreadPoolExecutor(8) as pool:
        files = list(pool.map(lambda job: marker.encode(*job), jobs))
    for data, (image, _, told) in zip(files, jobs, strict=True):
        found = read(data, own=ours)
        assert (states(found), found.receipt) == ("trusted", told.without_prompt())
        assert told.pixels_sha256 == pixel_hash(image)


def test_a_certificate_that_ended_meanwhile_signs_nothing() -> None:
    ended = identity(issue(DAY, dt.datetime.now(dt.UTC) - 3 * DAY))
    with pytest.raises(ServiceError, match=r"The picture cannot be signed: .*not valid at time of signing"):
        Marker(ended).encode(PICTURE, "png", receipt())


@every_format
def test_nothing_is_fetched_for_credentials_that_are_kept_elsewhere(output_format: OutputFormat) -> None:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        elsewhere = (
            '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
            f'xmlns:dcterms="http://purl.org/dc/terms/" dcterms:provenance="http://127.0.0.1:{server.server_port}/x"/></rdf:RDF>'
        )
        found = read(encode(PICTURE, output_format, elsewhere.encode()))
        server.shutdown()
        thread.join()
    assert asked == []
    assert "they are kept on another machine, from which nothing is fetched" in lines(found)[0].text


def test_without_the_library_the_error_says_how_to_get_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules[sys.argv[1]] = None; from pathlib import Path\n"
        "from depthwright.provenance.certificates import own_certificate\n"
        "from depthwright.provenance.marking import Marker\n"
        "try:\n    Marker(own_certificate(Path(sys.argv[2])))\n"
        "except ImportError as error:\n    print(type(error).__name__, error)"
    )
    for missing in ("c2pa", "cryptography"):
        command = [sys.executable, "-c", code, missing, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == (
            f"{EngineNotInstalled.__name__} Content credentials are not installed ({missing} missing): "
            "pip install 'depthwright[marking]'\n"
        )
