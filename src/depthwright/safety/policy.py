"""The prompt policy: what is refused before a model runs, by rules that are data, and in which words."""

import hashlib
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import pairwise, product
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from depthwright.errors import InvalidParameter
from depthwright.safety.normalise import normalise
from depthwright.safety.numbers import numbers
from depthwright.safety.terms import Hit, Lexicon

Measure = Literal["rule", "guard", "statement"]
_SLOT = re.compile(r"\{([a-z_]+)\}")
_VERSION_LENGTH = 12


@dataclass(frozen=True)
class Refusal:
    """Why a prompt is refused: the category's machine name, and what its user reads. It holds no word of the prompt."""

    category: str
    message: str


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rule(_Data):
    """Holds when each list in `all` has a term in the prompt; two of them at most `within` letters apart, if given."""

    all: Annotated[tuple[str, ...], Field(min_length=1)]
    within: int | None = None


class _CategoryData(_Data):
    name: str
    title: str
    prohibition: str
    measures: tuple[Measure, ...]
    message: str
    statement: str
    labels: tuple[str, ...]
    always: bool = False
    rule: tuple[Rule, ...] = ()


class _File(_Data):
    apart_from: tuple[str, ...]
    category: tuple[_CategoryData, ...]
    prefixes: Mapping[str, tuple[str, ...]]
    sets: Mapping[str, tuple[str, ...]]
    lists: Mapping[str, Mapping[str, tuple[str, ...]]]


@dataclass(frozen=True)
class Category:
    """One thing that is not drawn: in our words, with what acts against it and what a refused user reads."""

    name: str
    title: str
    prohibition: str
    measures: tuple[str, ...]
    statement: str
    message: str
    labels: tuple[str, ...]
    always: bool
    rules: tuple[Rule, ...]

    @property
    def refusal(self) -> Refusal:
        """What a prompt of this category is answered, whether a rule or a guard found it."""
        return Refusal(self.name, self.message)


@dataclass(frozen=True)
class Policy:
    """All categories, those that are switched off too; `version` is a digest of the data that they come from."""

    categories: tuple[Category, ...]
    version: str
    disabled: frozenset[str]
    lexicon: Lexicon = field(repr=False)

    @property
    def active(self) -> tuple[Category, ...]:
        """The categories that are not switched off."""
        return tuple(each for each in self.categories if each.name not in self.disabled)

    def judge(self, prompt: str) -> Refusal | None:
        """The first category of which a rule holds, in the order of the data, or None."""
        text = normalise(prompt)
        hits: dict[str, list[Hit]] = {}
        for hit in (*self.lexicon.hits(text), *numbers(text)):
            hits.setdefault(hit.kind, []).append(hit)
        for category in self.active:
            if any(_holds(rule, hits) for rule in category.rules):
                return category.refusal
        return None

    def of_label(self, label: str) -> Category | None:
        """The category that a guard model's label belongs to; None where there is none, or it is switched off."""
        wanted = label.strip().casefold()
        return next((each for each in self.active if wanted in each.labels), None)


def load_policy(disabled: Collection[str] = ()) -> Policy:
    """The policy as shipped, less what is switched off. Raises InvalidParameter for what is unknown or always on."""
    raw = (files("depthwright.safety") / "policy.toml").read_bytes()
    data = _File.model_validate(tomllib.loads(raw.decode("utf-8")))
    _check(disabled, data.category)
    lists = {
        kind: {
            language: [*_written_out(terms, data.sets, data.prefixes.get(language, ()))]
            for language, terms in languages.items()
        }
        for kind, languages in data.lists.items()
    }
    categories = (_category(each) for each in data.category)
    return Policy(
        tuple(categories),
        hashlib.sha256(raw).hexdigest()[:_VERSION_LENGTH],
        frozenset(disabled),
        Lexicon(lists, data.apart_from),
    )


def _category(data: _CategoryData) -> Category:
    return Category(
        name=data.name,
        title=data.title,
        prohibition=data.prohibition,
        measures=data.measures,
        statement=data.statement,
        message=data.message,
        labels=data.labels,
        always=data.always,
        rules=data.rule,
    )


def _check(disabled: Collection[str], categories: Iterable[_CategoryData]) -> None:
    always = {each.name: each.always for each in categories}
    free = ", ".join(name for name, stays in always.items() if not stays)
    for name in disabled:
        if name not in always:
            raise InvalidParameter("A category to switch off", name, f"one of {free}")
        if always[name]:
            raise InvalidParameter(
                "A category to switch off", name, f"one of {free}; {name} cannot be switched off"
            )


def _written_out(
    terms: Iterable[str], sets: Mapping[str, Sequence[str]], prefixes: Iterable[str]
) -> Iterator[str]:
    """Each term with every word of a set in the place that is named for it, without a prefix and with each."""
    for term in terms:
        # Words and the names of sets take turns in what the split gives.
        parts = _SLOT.split(term)
        choices = (sets[part] if place % 2 else (part,) for place, part in enumerate(parts))
        for chosen in product(("", *prefixes), *choices):
            yield "".join(chosen)


def _holds(rule: Rule, hits: Mapping[str, Sequence[Hit]]) -> bool:
    groups = [hits.get(kind, ()) for kind in rule.all]
    if not all(groups):
        return False
    spoken = [{hit.language for hit in group} for group in groups]
    beside = [set().union(*spoken[:which], *spoken[which + 1 :]) for which in range(len(groups))]
    counted = [
        [hit for hit in group if not hit.own or hit.language in languages]
        for group, languages in zip(groups, beside, strict=True)
    ]
    if rule.within is None:
        return all(counted)
    # Of all pairs from different lists, the closest are neighbours in the prompt.
    placed = sorted((hit.start, which) for which, group in enumerate(counted) for hit in group)
    return any(
        left != right and second - first <= rule.within for (first, left), (second, right) in pairwise(placed)
    )
