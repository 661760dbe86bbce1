import errno
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from PIL import Image

from depthwright.errors import DiskFull, InvalidImage, OutputNotWritable
from depthwright.images import MAX_PIXELS, check_output, open_image, output_paths, save_images


class FailingImage(Image.Image):
    """A picture that writes a few bytes, and then meets an error of the disk."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:  # noqa: A002, ARG002 - Pillow's names
        file: IO[bytes] = fp
        file.write(b"half a picture")
        raise OSError(self._number, os.strerror(self._number))


def picture(width: int = 6, height: int = 4, colour: str = "red") -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    """A PNG file that promises a picture of this size and holds none of it."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".webp", ".PNG"])
def test_a_picture_survives_being_written_and_read(tmp_path: Path, suffix: str) -> None:
    [path] = save_images([picture()], tmp_path / f"out{suffix}")
    assert path == tmp_path / f"out{suffix}"
    colour = np.asarray(open_image(path).convert("RGB"))[2, 3]
    assert np.allclose(colour, (255, 0, 0), atol=3)


def test_sixteen_bit_depth_keeps_its_precision(tmp_path: Path) -> None:
    depth = np.arange(24, dtype=np.uint16).reshape(4, 6) * 2000 + 1
    Image.fromarray(depth).save(tmp_path / "depth.png")
    assert np.array_equal(np.asarray(open_image(tmp_path / "depth.png")), depth)


def test_a_picture_is_turned_upright_as_its_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    picture(6, 4).save(tmp_path / "photo.jpg", exif=exif)
    upright = open_image(tmp_path / "photo.jpg")
    assert upright.size == (4, 6)
    assert 0x0112 not in upright.getexif()


def test_a_picture_over_the_limit_is_refused_by_its_header_alone(tmp_path: Path) -> None:
    """The file holds no pixels: decoding it would give another error."""
    (tmp_path / "large.png").write_bytes(png_header(8200, 5000))
    with pytest.raises(InvalidImage, match=r"too large, 8200 x 5000 pixels: at most 40 megapixels"):
        open_image(tmp_path / "large.png")


def test_the_limit_itself_is_not_too_large(tmp_path: Path) -> None:
    assert MAX_PIXELS == 8000 * 5000
    (tmp_path / "limit.png").write_bytes(png_header(8000, 5000))
    with pytest.raises(InvalidImage, match="broken"):
        open_image(tmp_path / "limit.png")


def test_a_picture_that_pillow_itself_takes_for_a_bomb_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_header(60_000, 60_000))
    with pytest.raises(InvalidImage, match="too large"):
        open_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_truncated_file_is_called_broken(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InvalidImage, match=r"broken|no picture"):
        open_image(path)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(50), b"RIFF\0\0\0\0WEBPVP8 "]
)
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(InvalidImage, match="no picture that can be read: PNG, JPEG and WebP are"):
        open_image(tmp_path / "x.png")


def test_a_format_that_is_not_read_is_refused_whatever_its_name(tmp_path: Path) -> None:
    picture().save(tmp_path / "x.png", format="TIFF")
    with pytest.raises(InvalidImage, match="PNG, JPEG and WebP"):
        open_image(tmp_path / "x.png")


def test_a_missing_file_a_folder_and_a_pipe_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InvalidImage, match="is not there"):
        open_image(tmp_path / "missing.png")
    for name in (".", "pipe.png"):
        with pytest.raises(InvalidImage, match="is no file"):
            open_image(tmp_path / name)


@pytest.mark.parametrize("path", ["a\0b.png", "x" * 5000 + ".png"])
def test_a_path_that_no_file_can_have_is_refused(path: str) -> None:
    with pytest.raises(InvalidImage, match="cannot be read"):
        open_image(path)


def test_several_pictures_are_numbered(tmp_path: Path) -> None:
    pictures = [picture(colour=colour) for colour in ("red", "lime", "blue")]
    paths = save_images(pictures, tmp_path / "out.png")
    assert (
        [path.name for path in paths] == ["out-1.png", "out-2.png", "out-3.png"] == sorted(listing(tmp_path))
    )
    assert [open_image(path).getpixel((0, 0)) for path in paths] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert output_paths(tmp_path / "out.png", 3) == paths


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, OutputNotWritable)]
)
@pytest.mark.parametrize("last", [list, lambda: [picture()]], ids=["last", "middle"])
def test_a_failing_write_leaves_the_folder_as_it_was(
    tmp_path: Path, number: int, error: type[Exception], last: Callable[[], list[Image.Image]]
) -> None:
    (tmp_path / "out-1.png").write_bytes(b"what was there")
    before = listing(tmp_path)
    with pytest.raises(error):
        save_images([picture(), FailingImage(number), *last()], tmp_path / "out.png")
    assert listing(tmp_path) == before


def test_an_interrupted_write_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    class Interrupted(FailingImage):
        def save(self, fp: Any, format: str | None = None, **params: Any) -> None:  # noqa: A002, ARG002
            fp.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_images([picture(), Interrupted(0)], tmp_path / "out.png")
    assert listing(tmp_path) == {}


def test_an_existing_file_is_replaced_whole(tmp_path: Path) -> None:
    save_images([picture(colour="red")], tmp_path / "out.png")
    save_images([picture(colour="blue")], tmp_path / "out.png")
    assert open_image(tmp_path / "out.png").getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize("name", ["out", "out.gif", "out.png.txt", "out."])
def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputNotWritable, match=r"must end in \.png, \.jpg, \.jpeg, \.webp"):
        check_output(tmp_path / name)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputNotWritable, match=r"the folder .*missing is not there"):
        check_output(tmp_path / "missing" / "out.png")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputNotWritable, match="is not there"):
        check_output(tmp_path / "file" / "out.png")


def test_a_folder_in_the_outputs_place_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "out-2.png").mkdir()
    with pytest.raises(OutputNotWritable, match=r"out-2\.png is a folder"):
        save_images([picture(), picture()], tmp_path / "out.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-2.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputNotWritable, match="permission denied"):
        check_output(tmp_path / "out.png")


def test_checking_an_output_leaves_nothing_behind(tmp_path: Path) -> None:
    check_output(tmp_path / "out.png", 4)
    assert listing(tmp_path) == {}
