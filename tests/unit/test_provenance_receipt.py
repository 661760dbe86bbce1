"""The receipt of a picture, and the packet that carries it, without any certificate."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from depthwright import __version__
from depthwright.errors import InvalidImage, InvalidParameter
from depthwright.parameters import SEED_MAX, GenerationParameters, Size
from depthwright.provenance.pixels import pixel_hash
from depthwright.provenance.receipt import Receipt, UsedAcceleration, UsedLora
from depthwright.provenance.xmp import TRAINED_ALGORITHMIC_MEDIA, Packet, packet, read_packet
from tests.support.receipts import made_up

PIXELS = "ab" * 32
words = st.text(max_size=50)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
numbers = st.floats(allow_nan=False, allow_infinity=False)
receipts = st.builds(
    Receipt,
    request=st.dictionaries(
        st.sampled_from(["control_scale", "seed", "size", "guidance_scale", "acceleration"]),
        st.none() | st.integers(0, SEED_MAX) | numbers | texts,
    ).flatmap(lambda others: texts.map(lambda prompt: {"prompt": prompt, **others})),
    image=st.integers(0, 3),
    seed=st.integers(0, SEED_MAX + 3),
    control_sha256=st.none() | st.just(PIXELS),
    profile=words,
    model_version=words,
    acceleration=st.builds(UsedAcceleration, level=words, techniques=st.lists(words, max_size=3).map(tuple)),
    hardware=words,
    loras=st.lists(st.builds(UsedLora, name=words, digest=words, scale=numbers), max_size=2).map(tuple),
    pixels_sha256=st.just(PIXELS),
)


def receipt(prompt: str = "a red cube", **changes: Any) -> Receipt:
    request = GenerationParameters.from_user(prompt=prompt, seed=7, num_images=2).model_dump(mode="json")
    alone: dict[str, Any] = {"image": 0, "seed": 7, "loras": ()}
    return made_up(request, **({"pixels_sha256": PIXELS} | alone | changes))


@given(receipts)
def test_a_receipt_comes_back_from_its_json_as_it_was(made: Receipt) -> None:
    assert Receipt.from_json(made.json_text()) == made
    assert Receipt.from_json(made.without_prompt().json_text()) == made.without_prompt()


@given(
    st.binary() | st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps)
)
def test_what_is_no_receipt_is_refused_in_words(text: str | bytes) -> None:
    with pytest.raises(InvalidImage, match="The receipt in the picture is none that this version reads: "):
        Receipt.from_json(text)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "version: input should be 1"),
        ({"colour": "red"}, "colour: extra inputs are not permitted"),
        ({"pixels_sha256": "0" * 63}, "pixels_sha256: "),
        ({"seed": "7"}, "seed: "),
        ({"seed": -1}, "seed: "),
        ({"request": {"seed": 7}}, "either its prompt or the prompt's digest"),
        ({"request": {"prompt": "a", "prompt_sha256": "b"}}, "either its prompt or the prompt's digest"),
        ({"request": {"prompt": 3}}, "a prompt is a text"),
        ({"request": {"prompt": "a", "size": [1, 2]}}, "request.size: "),
        ({"request": {"prompt": "a", "seed": True}}, "request.seed: "),
        ({"hardware": "x" * 1001}, "hardware: "),
    ],
)
def test_a_receipt_of_another_form_is_refused_by_the_field_that_is_wrong(
    change: dict[str, object], words: str
) -> None:
    text = json.dumps(json.loads(receipt().json_text()) | change)
    with pytest.raises(InvalidImage) as refused:
        Receipt.from_json(text)
    assert words in str(refused.value)


def test_a_receipt_that_is_too_long_is_not_read_at_all() -> None:
    with pytest.raises(InvalidImage, match="too long: at most 500000 characters"):
        Receipt.from_json("[" * 600_000)


def test_a_receipt_names_the_version_that_made_it() -> None:
    assert receipt().software == f"depthwright {__version__}"


def test_without_its_prompt_a_receipt_still_knows_which_prompt_it_was() -> None:
    bare = receipt("a red cube").without_prompt()
    assert "red" not in bare.json_text()
    assert bare.prompt is None
    assert bare.is_prompt("a red cube")
    assert not bare.is_prompt("a blue cube")
    assert list(bare.request) == ["prompt_sha256", *list(receipt().request)[1:]]


def test_the_digest_of_a_prompt_is_no_plain_hash_and_differs_between_pictures() -> None:
    one = receipt("a red cube").without_prompt().request["prompt_sha256"]
    other = receipt("a red cube", pixels_sha256="cd" * 32).without_prompt().request["prompt_sha256"]
    assert len({one, other, hashlib.sha256(b"a red cube").hexdigest()}) == 3


def test_a_receipt_gives_back_the_request_of_its_picture_alone() -> None:
    second = receipt(image=1, seed=8)
    expected = GenerationParameters.from_user(prompt="a red cube", seed=8)
    assert second.parameters() == expected
    assert second.without_prompt().parameters("a red cube") == expected


def test_a_size_of_any_installation_can_be_asked_for_again() -> None:
    small = receipt().model_copy(update={"request": {"prompt": "a", "size": "64*32"}})
    assert small.parameters().size == Size(64, 32)


def test_a_seed_above_the_highest_one_of_a_request_is_kept() -> None:
    assert receipt(image=1, seed=SEED_MAX + 1).parameters().seed == SEED_MAX + 1


def test_without_the_prompt_or_with_another_there_is_no_request() -> None:
    with pytest.raises(InvalidParameter, match="prompt is missing: it must be the one of the picture"):
        receipt().without_prompt().parameters()
    with pytest.raises(InvalidParameter, match="it must be the one that the picture was made from"):
        receipt().parameters("a blue cube")


def test_the_hash_of_pixels_is_of_mode_size_and_bytes() -> None:
    picture = Image.new("RGB", (2, 3), (1, 2, 3))
    assert pixel_hash(picture) == hashlib.sha256(b"RGB 2x3\n" + bytes([1, 2, 3] * 6)).hexdigest()
    assert pixel_hash(Image.new("RGB", (3, 2), (1, 2, 3))) != pixel_hash(picture)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
@example("\ufffe\uffff\x00\r\n\x85\u2028 ]]> & <!--\U0001f600")
def test_a_packet_gives_back_the_receipt_it_was_given_whatever_the_prompt(prompt: str) -> None:
    made = receipt().model_copy(update={"request": {"prompt": prompt}})
    found = read_packet(packet("depthwright & <sons>", made.json_text()))
    assert (found.tool, found.source_type) == ("depthwright & <sons>", TRAINED_ALGORITHMIC_MEDIA)
    assert found.receipt is not None
    assert Receipt.from_json(found.receipt) == made


def test_the_mark_is_the_one_that_iptc_names() -> None:
    text = packet("d", "{}").decode()
    assert 'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"' in text
    assert (
        "<Iptc4xmpExt:DigitalSourceType>http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia</"
        in text
    )


@given(st.binary(max_size=500) | st.binary(max_size=50).map(lambda noise: packet("d", "{}")[:-9] + noise))
def test_any_bytes_are_a_packet_or_refused_as_none(data: bytes) -> None:
    try:
        found = read_packet(data)
    except ValueError:
        return
    assert isinstance(found, Packet)


@pytest.mark.parametrize(
    "description",
    [
        '<r:Description i:DigitalSourceType="urn:x" c:CreatorTool="t"/>',
        '<r:Description><i:DigitalSourceType r:resource="urn:x"/><c:CreatorTool> t </c:CreatorTool></r:Description>',
        '<r:Description c:CreatorTool="t"/><r:Description i:DigitalSourceType="urn:x"/>',
    ],
)
def test_packets_of_other_programs_are_read_in_every_form_that_rdf_has(description: str) -> None:
    names = (
        'xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:c="http://ns.adobe.com/xap/1.0/" '
        'xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    )
    data = f"<r:RDF {names}>{description}</r:RDF>".encode()
    assert read_packet(data) == Packet(source_type="urn:x", tool="t")


def test_a_property_inside_another_is_not_the_pictures() -> None:
    inner = packet("d", "{}").decode().replace("<Iptc4xmpExt:Dig", "<x:of><Iptc4xmpExt:Dig", 1)
    inner = inner.replace("</Iptc4xmpExt:DigitalSourceType>", "</Iptc4xmpExt:DigitalSourceType></x:of>")
    assert read_packet(inner.encode()).source_type is None


def test_a_packet_with_a_document_type_is_refused_before_any_entity_grows() -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><x>&b;</x>'
    with pytest.raises(ValueError, match="document type"):
        read_packet(bomb.encode())


@pytest.mark.parametrize("encoding", ["nonsense", "utf-16", "idna", "rot13"])
def test_a_packet_is_read_as_utf_8_whatever_it_declares(encoding: str) -> None:
    data = f'<?xml version="1.0" encoding="{encoding}"?>'.encode() + packet("é", "{}").split(b"?>", 1)[1]
    assert read_packet(data).tool == "é"


def test_a_packet_that_is_too_long_is_refused_unread() -> None:
    with pytest.raises(ValueError, match="longer than 2000000 bytes"):
        read_packet(b" " * 2_000_001)


def test_two_palettes_make_two_hashes_of_the_same_indices() -> None:
    indices = Image.linear_gradient("L").convert("P")
    other = indices.copy()
    other.putpalette(bytes(range(255, -1, -1)) * 3)
    assert indices.tobytes() == other.tobytes()
    assert pixel_hash(indices) != pixel_hash(other)
