"""Terms found in a prompt, however they are spaced out or drawn out, in time that grows with the prompt alone."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

from depthwright.safety.normalise import normalise

# Terms of these lists take out those that they contain; of the second only where they stand apart from some others.
HARMLESS, HARMLESS_APART = "harmless", "harmless_apart"
_HARMLESS = (HARMLESS, HARMLESS_APART)
# Scripts without spaces between words; Hangul stands here for the particles that it joins to its words.
_UNSPACED = (
    "\u1100-\u11ff\u2e80-\u2fff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
_LETTER = (
    "a-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02ff\u0370-\u037d\u0388-\u052f\u0561-\u0588\u05d0-\u05ea\u0620-\u064a"
    "\u0671-\u06d3\u06fa-\u06ff\u0750-\u077f\u08a0-\u08c9\u0900-\u0963\u0971-\u0e7f\u0f40-\u109f\u10d0-\u10fa"
    "\u1200-\u137f\u13a0-\u13f5\u1780-\u17d3\u1e00-\u1fbc\ua640-\ua69d\ua720-\ua7ff\uab30-\uabbf"
)
# What follows an apostrophe belongs to the word before it: "men's ex" has no word "s".
_WORD = re.compile(f"[{_UNSPACED}]|[0-9\ue000]+|(?:(?<=[{_LETTER}])')?[{_LETTER}]+")
# Save after these, which other tongues join to the next word: l'enfant.
_ELIDED = frozenset({"l", "d", "qu", "c", "j", "m", "n", "s", "un", "dell", "nell", "sull", "dall", "all"})
# A sign that hides a letter is read as any letter; no normalised text has this one, of Unicode's private ones.
_ANY = "\ue000"
_SIGN = re.compile(r"[!|+@$*#]")
_READ_SIGNS = re.compile(r"[!|+@$]|(?<=[a-z0-9])[*#](?=[a-z0-9])")
_SIGNS_READ = str.maketrans("!|+@$*#", f"11745{_ANY * 2}")
# A small L and a capital I look the same, so all four are one letter.
_DIGITS_READ = str.maketrans("0123456789l", "oizeasgtbgi")
_ONE_LETTER = str.maketrans("l", "i")
_DIGITS = re.compile(f"[0-9{_ANY}]+")
_READABLE = re.compile(r"[0-9!|+@$*#]")
_HEAD = 4  # letters that tell of most words that no term begins like them
_SHORTEST_PART = 3  # of a word that two terms make up: shorter ones make up too many
_DRAWN_OUT = re.compile(r"(.)\1{2,}", re.DOTALL)
_SOFT = re.compile(r"[\s\-_']*")


class Hit(NamedTuple):
    """A term of a list, in a language; `start` and `end` count the letters of the prompt alone."""

    kind: str
    language: str
    own: bool
    start: int
    end: int


class Words:
    """A normalised text as one run of letters, with the places at which its words begin and end."""

    def __init__(self, text: str, *, digits_are_letters: bool = False) -> None:
        if digits_are_letters and _SIGN.search(text):
            text = _READ_SIGNS.sub(lambda found: found[0].translate(_SIGNS_READ), text)
        self.text = text
        pieces = _WORD.findall(self.text)
        if "'" in self.text:
            joined = [
                piece[0] == "'" and before not in _ELIDED
                for before, piece in zip(["", *pieces], pieces, strict=False)
            ]
            pieces = [piece.lstrip("'") for piece in pieces]
        else:
            joined = []
        letters = "".join(pieces)
        self._digits = [*_DIGITS.finditer(letters)] if digits_are_letters else []
        self.letters = letters.translate(_DIGITS_READ if digits_are_letters else _ONE_LETTER)
        self.ends = [*accumulate(map(len, pieces))]
        places = [0, *self.ends[:-1]] if pieces else []
        self._places = places
        self.begins = (
            [each for each, inner in zip(places, joined, strict=True) if not inner] if joined else places
        )

    def begins_before_digits(self, reach: int) -> list[int]:
        """The words that begin at most `reach` letters before a digit that is read as a letter."""
        found: list[int] = []
        beyond = 0
        for digits in self._digits:
            first = max(beyond, bisect_left(self.begins, digits.start() - reach))
            beyond = max(first, bisect_left(self.begins, digits.end()))
            found += self.begins[first:beyond]
        return found

    @cached_property
    def runs(self) -> Mapping[int, int]:
        """Where a letter is repeated more than twice: from each place but the first, where its run ends."""
        return {
            place: run.end()
            for run in _DRAWN_OUT.finditer(self.letters)
            for place in range(run.start(), run.end())
        }

    @cached_property
    def _spans(self) -> list[tuple[int, int]]:
        return [found.span() for found in _WORD.finditer(self.text)]

    def parts(self, start: int, end: int) -> tuple[int, ...]:
        """Where the text from one place to another is parted, counted from the first."""
        first, last = bisect_right(self._places, start), bisect_left(self._places, end)
        return tuple(each - start for each in self._places[first:last])

    def plain_between(self, start: int, end: int) -> bool:
        """Whether nothing but spaces and hyphens stands between the words from one place to another."""
        first, last = bisect_right(self._places, start) - 1, bisect_left(self._places, end) - 1
        return all(self._soft(each) for each in range(first, last))

    def follows(self, place: int) -> bool:
        """Whether the word at a place follows the one before with no punctuation, and that is no owner of it."""
        before = bisect_right(self._places, place) - 2
        if before < 0 or not self._soft(before):
            return False
        start, end = self._spans[before]
        return "'" not in self.text[start : end + 1]

    def _soft(self, word: int) -> bool:
        return _SOFT.fullmatch(self.text, self._spans[word][1], self._spans[word + 1][0]) is not None


@dataclass(frozen=True)
class _Term:
    kind: str
    language: str
    own: bool
    any_ending: bool
    parts: tuple[int, ...]  # where its second and later words begin


class Lexicon:
    """All terms of all lists as one tree of letters; those of the harmless lists take out what they contain."""

    def __init__(self, lists: Mapping[str, Mapping[str, Iterable[str]]], apart_from: Iterable[str]) -> None:
        self._root: dict[str, Any] = {}
        self._heads: set[str] = set()
        self._longest = 0
        self._kinds = frozenset(lists)
        self._apart_from = frozenset(apart_from)
        for kind, languages in lists.items():
            for language, terms in languages.items():
                for term in terms:
                    self._add(kind, language, term)

    @property
    def kinds(self) -> frozenset[str]:
        """The lists that there are."""
        return self._kinds

    def hits(self, prompt: str) -> list[Hit]:
        """The terms of a normalised prompt: as it stands, and with digits and signs read as letters."""
        plain = Words(prompt)
        found = self._counted(plain, plain.begins)
        if _READABLE.search(prompt):
            read = Words(prompt, digits_are_letters=True)
            found += self._counted(read, read.begins_before_digits(self._longest))
        return found

    def _add(self, kind: str, language: str, term: str) -> None:
        own, any_ending = term.startswith("~"), term.endswith("*")
        text = normalise(term.strip("~*"))
        for digits_are_letters in (False, True) if _READABLE.search(text) else (False,):
            words = Words(text, digits_are_letters=digits_are_letters)
            self._heads.update(_heads(words.letters))
            self._longest = max(self._longest, len(words.letters))
            node = self._root
            for letter in words.letters:
                node = node.setdefault(letter, {})
            entry = _Term(kind, language, own, any_ending, words.parts(0, len(words.letters)))
            if entry not in node.setdefault("", []):
                node[""].append(entry)

    def _counted(self, words: Words, begins: Iterable[int]) -> list[Hit]:
        found = set(self._found(words, begins))
        stops = {hit.end for hit in found if hit.kind in self._apart_from}
        spans = sorted(
            (hit.start, hit.end)
            for hit in found
            if hit.kind == HARMLESS
            or (hit.kind == HARMLESS_APART and not (hit.start in stops and words.follows(hit.start)))
        )
        starts = [start for start, _ in spans]
        reach = [0, *accumulate((end for _, end in spans), max)]
        return [
            hit
            for hit in found
            if hit.kind not in _HARMLESS and reach[bisect_right(starts, hit.start)] < hit.end
        ]

    def _found(self, words: Words, begins: Iterable[int]) -> Iterator[Hit]:
        """The terms from each word's beginning; two that make up one word count as if they were two words."""
        letters, heads, ends = words.letters, self._heads, frozenset(words.ends)
        glued: list[Hit] = []
        for start in begins:
            head = letters[start : start + _HEAD]
            if (
                _ANY not in head
                and head not in heads
                and head[:3] not in heads
                and head[:2] not in heads
                and head[0] not in heads
            ):
                continue
            for term, end in self._from(words, start):
                if end in ends or term.any_ending:
                    yield from _hit(words, term, start, end)
                elif end - start >= _SHORTEST_PART and not term.own and term.kind not in _HARMLESS:
                    glued.append(Hit(term.kind, term.language, term.own, start, end))
        for place in {hit.end for hit in glued}:
            second = [
                Hit(term.kind, term.language, term.own, place, end)
                for term, end in self._from(words, place)
                if end in ends
                and end - place >= _SHORTEST_PART
                and not term.own
                and term.kind not in _HARMLESS
            ]
            if second:
                yield from second
                yield from (hit for hit in glued if hit.end == place)

    def _from(self, words: Words, start: int) -> Iterator[tuple[_Term, int]]:
        """The terms that stand at a place, with their ends; a letter that is written again may count once."""
        letters, length = words.letters, len(words.letters)
        states = [(self._root, start)]
        while states:
            node, place = states.pop()
            while True:
                for term in node.get("", ()):
                    yield term, place
                if place == length:
                    break
                if letters[place] == _ANY:
                    states += [(child, place + 1) for letter, child in node.items() if letter]
                    break
                child = node.get(letters[place])
                if place > start and letters[place] == letters[place - 1]:
                    # Two ways on: the term has this letter twice, or it is only drawn out.
                    if child is not None:
                        states.append((child, place + 1))
                    place = words.runs.get(place, place + 1)
                elif child is not None:
                    node, place = child, place + 1
                else:
                    break


def _hit(words: Words, term: _Term, start: int, end: int) -> Iterator[Hit]:
    if term.kind not in _HARMLESS or (
        words.parts(start, end) == term.parts and words.plain_between(start, end)
    ):
        yield Hit(term.kind, term.language, term.own, start, end)


def _heads(letters: str, room: int = _HEAD) -> set[str]:
    """How a term may begin in a prompt, with its letters drawn out or not; a shorter term as a whole."""
    if not letters or not room:
        return {""}
    return {
        letters[0] * times + rest
        for times in range(1, room + 1)
        for rest in _heads(letters[1:], room - times)
    }
