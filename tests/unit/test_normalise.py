"""One spelling for all that looks the same."""
# ruff: noqa: RUF001 - look-alikes are what this is about

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depthwright.safety.normalise import normalise


@given(st.text())
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("LANTERN", "lantern"),
        ("lan\u200btern", "lantern"),
        ("lan\u00adte\u2060rn", "lantern"),
        ("l\u0301a\u0336n\u20e3tern", "lantern"),
        ("ｌａｎｔｅｒｎ", "lantern"),
        ("𝓵𝓪𝓷𝓽𝓮𝓻𝓷", "lantern"),
        ("ⓛⓐⓝⓣⓔⓡⓝ", "lantern"),
        ("🅻🅰🅽🆃🅴🆁🅽", "lantern"),
        ("🇱🇦🇳🇹🇪🇷🇳", "lantern"),
        ("lаntеrn", "lantern"),  # Cyrillic letters among Latin ones
        ("ʟᴀɴᴛᴇʀɴ", "lantern"),
        ("Laterne à l’œil", "laterne a l'oeil"),
        ("١٢ ｘ １２", "12 x 12"),
    ],
)
def test_what_looks_the_same_is_read_the_same(written: str, read: str) -> None:
    assert normalise(written) == read


@pytest.mark.parametrize("text", ["子供と城", "가나다", "गेंद", "がぎぐ"])
def test_marks_that_a_script_cannot_do_without_stay(text: str) -> None:
    assert normalise(text) == text


def test_the_two_cases_and_both_forms_of_unicode_are_one_text() -> None:
    for text in ("Стройный наш вечер", "Größe", "Kız Çiçeği", "ガギグ", "한국어"):
        forms = {normalise(unicodedata.normalize(form, text)) for form in ("NFC", "NFD", "NFKC", "NFKD")}
        assert forms == {normalise(text)}
        assert normalise(text.upper()) == normalise(text)
