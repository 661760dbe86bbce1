"""What is said of a picture's origin, and of a picture rendered again."""

import dataclasses
import math
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from depthwright import __version__
from depthwright.provenance.certificates import own_certificate
from depthwright.provenance.comparing import compare
from depthwright.provenance.encoding import OutputFormat, encode
from depthwright.provenance.marking import Marker
from depthwright.provenance.pixels import pixel_hash
from depthwright.provenance.reading import read
from depthwright.provenance.showing import lines, rerun_line
from tests.support.receipts import made_up

FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)
every_format = pytest.mark.parametrize("output_format", FORMATS)
PICTURE = Image.linear_gradient("L").resize((96, 64)).convert("RGB")
RECEIPT = made_up(
    {"prompt": "a red cube", "control_scale": 1.0, "seed": 7, "num_images": 2, "size": "96*64"},
    pixel_hash(PICTURE),
)


def test_each_sentence_has_its_verdict(marker: Marker, ours: Path) -> None:
    said = lines(read(marker.encode(PICTURE, "png", RECEIPT), own=ours))
    assert {line.verdict for line in said} == {"good"}
    text = "\n".join(line.text for line in said)
    for words in (
        f"are whole, and signed by '{own_certificate(ours).name}', who is trusted here.",
        f"made by the model 'embedded 2-0123abcd' with 'depthwright {__version__}'.",
        "(trainedAlgorithmicMedia) in its content credentials.",
        "(trainedAlgorithmicMedia) in its XMP (IPTC).",
        "image 2 of a request with control_scale 1.0, seed 7, num_images 2, size '96*64';",
        "its own seed 8.",
        "keeps only a digest of the prompt.",
        "acceleration 'regular' ('step cache'), on 'cpu x86_64'.",
        "the LoRA 'ink' at scale 0.8,",
        "Its pixels are those of the receipt.",
    ):
        assert words in text


def test_words_of_a_file_cannot_speak_to_the_terminal(ours: Path) -> None:
    wild = {"request": {"prompt": "\x1b[31mred"}, "hardware": "\x1b]0;gpu\x07", "profile": "\x1b[2J"}
    told = RECEIPT.model_copy(update=wild)
    marker = Marker(own_certificate(ours), keep_prompts=True)
    said = lines(read(marker.encode(PICTURE, "png", told), own=ours))
    assert not any("\x1b" in line.text for line in said)


@every_format
def test_a_picture_rendered_again_is_equal_or_not_and_by_how_much(
    marker: Marker, output_format: OutputFormat
) -> None:
    found = read(marker.encode(PICTURE, output_format, RECEIPT))
    assert rerun_line(found, PICTURE) == ("good", "Rendered again, it is equal to the pixel.")
    near = PICTURE.copy()
    near.putpixel((3, 3), (0, 0, 0))
    verdict, text = rerun_line(found, near)
    assert verdict == "bad"
    assert text.startswith("Rendered again, it is not equal: ")
    assert "PSNR" in text


def test_a_rerun_tells_a_file_that_was_changed_from_a_receipt_that_was(marker: Marker) -> None:
    data = marker.encode(PICTURE, "png", RECEIPT)
    verdict, text = rerun_line(dataclasses.replace(read(data), image=PICTURE.rotate(180)), PICTURE)
    assert (verdict, "as the receipt says, and the file is not" in text) == ("bad", True)
    plain = read(encode(PICTURE, "png"))
    assert rerun_line(plain, PICTURE).verdict == "open"


def test_another_encoders_file_is_judged_by_its_receipt_while_its_credentials_hold(marker: Marker) -> None:
    found = read(marker.encode(PICTURE, "jpeg", RECEIPT))
    blurred = dataclasses.replace(found, image=found.image.point(lambda value: value ^ 1))
    verdict, text = rerun_line(blurred, PICTURE)
    assert (verdict, "this machine packs it otherwise: " in text) == ("good", True)
    assert rerun_line(dataclasses.replace(blurred, credentials=None), PICTURE).verdict == "bad"


def test_a_difference_is_told_in_numbers() -> None:
    black = Image.new("RGB", (10, 10))
    one = black.copy()
    one.putpixel((0, 0), (0, 30, 0))
    difference = compare(black, one)
    assert (difference.equal, difference.largest) == (False, 30)
    assert difference.different == pytest.approx(0.01)
    assert difference.psnr == pytest.approx(10 * math.log10(255**2 / (900 / 300)))
    assert difference.sentence == "1.00 % of its pixels differ, by 30 of 255 at most; PSNR 43.4 dB."
    same = compare(black, black)
    assert (same.equal, same.different, same.largest, same.psnr) == (True, 0, 0, math.inf)
    assert same.sentence == "the two are equal to the pixel."
    assert compare(black, Image.new("RGB", (5, 10))).sentence == "one has 10 x 10 pixels, the other 5 x 10."


@given(st.integers(0, 20), st.integers(0, 20))
def test_pictures_are_equal_exactly_when_their_hashes_are(one: int, other: int) -> None:
    a, b = (Image.new("RGB", (8, 8), (value, 0, 0)) for value in (one, other))
    assert compare(a, b).equal == (pixel_hash(a) == pixel_hash(b)) == (one == other)
