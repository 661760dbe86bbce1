"""Pictures from strangers: what is taken out of JSON, and what decoding them may cost."""

import asyncio
import base64
import io
import struct
import subprocess
import sys
import threading
import time
import zlib
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from depthwright.errors import InvalidImage
from depthwright.service import images
from depthwright.service.decode_child import MODES
from depthwright.service.images import decode, decode_async, parse_inline

KINDS = "PNG, JPEG or WebP"


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """A small PNG that holds every pixel it declares: one row of zeros after the other."""
    packed = zlib.compressobj(9)
    data = b"".join(packed.compress(bytes(1 + width)) for _ in range(height)) + packed.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def noise(width: int = 64, height: int = 48) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


PICTURE = encoded(noise())


def run_as_child(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Put this program in the place of the decoding one."""
    monkeypatch.setattr(images, "_command", lambda _: [sys.executable, "-S", "-c", code])


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_a_picture_comes_back_as_it_was(mode: str) -> None:
    picture = noise().convert(mode)
    back = decode(encoded(picture))
    assert (back.mode, back.size) == (mode, (64, 48))
    assert back.tobytes() == picture.tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_the_other_formats_are_decoded_as_pillow_does_here(kind: str) -> None:
    data = encoded(noise(), kind)
    assert decode(data).tobytes() == Image.open(io.BytesIO(data)).convert("RGB").tobytes()


def test_sixteen_bit_depth_keeps_its_precision() -> None:
    depth = np.arange(24, dtype=np.uint16).reshape(4, 6) * 2000 + 1
    assert np.array_equal(np.asarray(decode(encoded(Image.fromarray(depth)))), depth)


def test_a_picture_of_several_stripes_comes_back_as_it_was() -> None:
    depth = np.arange(1_500_000, dtype=np.uint32).astype(np.uint16).reshape(1000, 1500)
    assert np.array_equal(np.asarray(decode(encoded(Image.fromarray(depth)))), depth)


def test_palettes_bitmaps_and_print_colours_are_converted() -> None:
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    assert decode(encoded(palette)).getpixel((0, 0)) == (255, 0, 0)
    assert decode(encoded(palette, transparency=1)).getpixel((0, 0)) == (255, 0, 0, 0)
    assert decode(encoded(Image.new("1", (4, 4), 1))).getpixel((0, 0)) == 255
    assert decode(encoded(Image.new("CMYK", (8, 8)), "JPEG")).getpixel((0, 0)) == (255, 255, 255)


def test_a_picture_is_turned_upright_as_its_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(noise(), "JPEG", exif=exif)).size == (48, 64)


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_the_first_frame_of_an_animation_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    assert decode(data).convert("RGB").getpixel((3, 3)) == (255, 0, 0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"hello",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        encoded(noise(), "GIF"),
        encoded(noise(), "TIFF"),
        encoded(noise(), "BMP"),
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_other_formats_and_no_picture_at_all_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidImage, match="is no picture that can be read: PNG, JPEG and WebP are"):
        decode(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_truncated_picture_is_called_broken(kind: str) -> None:
    data = encoded(noise(), kind)
    with pytest.raises(InvalidImage, match=r"broken|no picture"):
        decode(data[: len(data) // 2])


@pytest.mark.parametrize(("width", "height"), [(12_000, 12_000), (20_000, 20_000), (60_000, 60_000)])
def test_a_bomb_is_refused_by_its_header(width: int, height: int) -> None:
    """Only the header is true; the pixels would be another error, and take long."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    with pytest.raises(InvalidImage, match="too large"):
        decode(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b""))


def test_a_bomb_with_all_its_pixels_is_refused_before_they_are_unpacked() -> None:
    data = bomb(12_000, 12_000)
    assert len(data) < 200_000
    started = time.monotonic()
    with pytest.raises(
        InvalidImage, match=r"too large, 12000 x 12000 pixels: at most 40 megapixels are read"
    ):
        decode(data)
    assert time.monotonic() - started < 2


@pytest.mark.skipif(sys.platform != "linux", reason="bounds memory")
def test_the_child_cannot_have_more_memory_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bomb(8000, 5000)
    monkeypatch.setattr(images, "MEMORY_BYTES", 60_000_000)
    with pytest.raises(InvalidImage, match=r"more memory to be decoded than is allowed|is broken"):
        decode(data)
    monkeypatch.undo()
    assert decode(data).size == (8000, 5000)


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limits")
def test_every_limit_holds_before_the_child_has_read_a_byte() -> None:
    code = (
        "from depthwright.service.decode_child import restrict; restrict(7, 800_000_000)\n"
        "import resource, sys; names = 'AS CPU FSIZE NOFILE NPROC CORE'.split()\n"
        "print([resource.getrlimit(getattr(resource, 'RLIMIT_' + name)) for name in names])\n"
        "print('PIL' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    limits, pillow = done.stdout.splitlines()
    assert limits == str([(most, most) for most in (800_000_000, 7, 0, 16, 0, 0)])
    assert pillow == "False"


def test_the_child_loads_nothing_heavy_and_sees_no_secret() -> None:
    code = (
        "import os, sys; import depthwright.service.decode_child, depthwright.images, PIL.WebPImagePlugin\n"
        "print([n for n in ('torch', 'numpy', 'pydantic', 'fastapi', 'httpx') if n in sys.modules])\n"
        "print(sorted(set(os.environ) - {'LC_CTYPE', 'LD_LIBRARY_PATH', 'SYSTEMROOT'}))"
    )
    command = [*images._command(1)[:4], "-c", code]
    done = subprocess.run(command, env=images._environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n['PYTHONPATH']\n"


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.abort()",
        "import os; os._exit(0)",
        "print('RGB 8 8')",
        "print('RGB -8 8')",
        "print('RGB 0 8')",
        "print('RGB 99999 99999')",
        "print('F 8 8' + 'x' * 1000)",
        "import sys; sys.stdin.buffer.read(); print('nonsense ' * 100000)",
    ],
)
def test_a_child_that_crashes_or_lies_is_a_broken_picture(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    run_as_child(monkeypatch, code)
    with pytest.raises(InvalidImage, match="The control image is broken: decoding it failed"):
        decode(bytes(1_000_000))


def test_a_child_that_never_ends_is_ended_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it takes nothing of a picture that is larger than a pipe."""
    run_as_child(monkeypatch, "import time; time.sleep(60)")
    threads = threading.active_count()
    children = set(psutil.Process().children())
    started = time.monotonic()
    with pytest.raises(InvalidImage, match=r"took longer than 0\.3 s to decode"):
        decode(bytes(5_000_000), seconds=0.3)
    assert time.monotonic() - started < 10
    assert threading.active_count() <= threads
    assert set(psutil.Process().children()) <= children


def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    run_as_child(
        monkeypatch,
        "import sys\nsys.stdout.buffer.write(b'L 2 2\\n')\nwhile True: sys.stdout.buffer.write(bytes(65536))",
    )
    assert decode(PICTURE).size == (2, 2)


def test_decoding_does_not_hold_up_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> tuple[Image.Image, int]:
        turns = 0
        task = asyncio.create_task(decode_async(PICTURE))
        while not task.done():
            turns += 1
            await asyncio.sleep(0.001)
        return await task, turns

    picture, turns = asyncio.run(main())
    assert picture.size == (64, 48)
    assert turns > 3


@settings(max_examples=25, deadline=None)
@given(
    start=st.sampled_from([b"", *(encoded(noise(8, 8), kind) for kind in ("PNG", "JPEG", "WEBP"))]),
    data=st.data(),
)
def test_any_bytes_are_a_picture_or_an_invalid_image(start: bytes, data: st.DataObject) -> None:
    broken = bytearray(start)
    for _ in range(data.draw(st.integers(0, 4))):
        if broken:
            broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert decode(bytes(broken) + data.draw(st.binary(max_size=20))).mode in MODES
    except InvalidImage as error:
        assert str(error).startswith("The control image ")  # noqa: PT017 - a picture is as good


def test_a_picture_is_taken_from_a_data_uri_or_from_base64_alone() -> None:
    packed = base64.b64encode(PICTURE).decode()
    folded = "\r\n".join(packed[start : start + 76] for start in range(0, len(packed), 76))
    for text in (
        packed,
        folded,
        f" {packed}\n",
        f"data:image/png;base64,{packed}",
        f"DATA:image/PNG;charset=utf-8;BASE64,{packed}",
    ):
        assert parse_inline(text) == PICTURE


@pytest.mark.parametrize("url", ["https://a.example/a.png", "http://a/b", "HTTPS://a", "http://"])
def test_a_url_is_left_to_the_fetcher(url: str) -> None:
    assert parse_inline(url) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "/etc/passwd",
        "file:///etc/passwd",
        "ftp://a.example/a.png",
        "data:",
        "data:,hello",
        "data:image/png;base64",
        "data:image/png;base64,",
        "data:image/png,abcd",
        "data:text/plain;base64,aGVsbG8=",
        "data:image/png;base64,a",
        "data:image/png;base64,\xe9",
        "\0",
        "data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode(),
        base64.b64encode(encoded(noise(), "GIF")).decode(),
        base64.b64encode(PICTURE).decode().rstrip("=") + "=====",
    ],
)
def test_anything_else_is_refused_with_what_may_be_given(text: str) -> None:
    with pytest.raises(InvalidImage, match=KINDS) as caught:
        parse_inline(text)
    assert len(str(caught.value)) < 200


def test_a_picture_over_the_limit_is_refused_and_the_limit_itself_is_not() -> None:
    packed = base64.b64encode(PICTURE).decode()
    assert parse_inline(packed, len(PICTURE)) == PICTURE
    with pytest.raises(InvalidImage, match="too large: at most"):
        parse_inline(packed, len(PICTURE) - 1)
    with pytest.raises(InvalidImage, match="too large: at most 20 MB are read"):
        parse_inline("A" * 30_000_000)


@given(
    st.one_of(
        st.text(), st.text().map("data:image/".__add__), st.binary().map(base64.b64encode).map(bytes.decode)
    )
)
def test_any_text_is_a_picture_a_url_or_an_invalid_image(text: str) -> None:
    try:
        assert isinstance(parse_inline(text), bytes | None)
    except InvalidImage as error:
        assert str(error).startswith("The control image is ")  # noqa: PT017 - a picture is as good


@given(st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\n\n\n\nWEBP"]), st.binary(max_size=200))
def test_every_picture_survives_being_packed(start: bytes, rest: bytes) -> None:
    packed = base64.b64encode(start + rest).decode()
    assert parse_inline(packed) == parse_inline(f"data:image/webp;base64,{packed}") == start + rest
