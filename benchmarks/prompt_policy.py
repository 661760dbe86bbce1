"""How well the prompt policy's rules tell what is refused from what is not, on a labelled set of prompts of ours.

    python -m benchmarks.prompt_policy [--docs]

Misses and false alarms are told by their ids in `benchmarks/prompts.toml`. The figures do not depend on the hardware.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from depthwright.safety.policy import Policy, load_policy

PROMPTS = Path(__file__).parent / "prompts.toml"
PAGE = Path(__file__).parents[1] / "docs" / "prompt-policy.md"
PARTS = {
    "tuned": "tuned",
    "second": "tuned, second",
    "third": "tuned, third",
    "held_out": "held out",
    "stranger": "a stranger's",
}
HEAD = ("prompts", "category", "to refuse", "precision", "recall", "missed", "refused wrongly")
ALL = "all"

TEXT = """# The prompt policy

What the service refuses to draw, what acts against it, and how well. The rules and all words on this page are the
data of `src/depthwright/safety/policy.toml`, here in version `{version}`.

| | prohibited | measures |
|---|---|---|
{categories}

A **rule** looks for terms before a model runs. Spaces and punctuation between letters, capitals, accents, invisible
characters, look-alikes of other alphabets, digits and signs for letters, and drawn-out letters make no difference to
it. A **guard** is a model that the operator may add. A **statement** says what a program cannot tell:

{statements}

## How well the rules do

Measured by `{command}`; the figures depend on the version of the policy alone, not on the hardware. Precision is how
many of the refused prompts were to be refused, for that category; recall is how many of those to be refused were.
No guard is in these figures.

{table}

The set is `benchmarks/prompts.toml`: {total} prompts of ours, {harmless} of them harmless, many of these made to look
bad to a program that searches for words, such as "a child's red toy cube on a nude beige wall". The held-out part was
written before the rules and they were never tuned against it, but the same author wrote both and knew
it: its figures flatter. The stranger's part was written by somebody who had not read the rules, in plain words and with
no wish to get around them; nothing was tuned against it. The second and the third part were written later,
against finished rules, to find their
limits; the rules were mended for them afterwards. What the rules made of those at first sight is the honest measure of
what they make of somebody who looks for a way around them:

{first_sight}

So a rule is a first fence, not a wall: whoever looks for words that it does not know will find some. What stands behind
it is told above. Prompts to be refused are as short as a filter allows, which real ones are not.

Missed: {missed}. Refused wrongly, or for another category: {wrong}. Each is told by its part, its category and its
place in the file.
"""


@dataclass(frozen=True)
class Judged:
    """A prompt of the set, by its id: what it is, and what the policy took it for."""

    id: str
    half: str
    category: str | None
    got: str | None


def judge(policy: Policy, path: Path = PROMPTS) -> list[Judged]:
    """Every prompt of the set."""
    judged = []
    for each in tomllib.loads(path.read_text(encoding="utf-8"))["set"]:
        half, category = each["half"], each.get("category")
        for number, prompt in enumerate(each["prompts"], 1):
            refusal = policy.judge(prompt)
            name = f"{half}-{category or 'harmless'}-{number}"
            judged.append(Judged(name, half, category, refusal.category if refusal else None))
    return judged


def figures(judged: Sequence[Judged], category: str | None) -> dict[str, Any]:
    """Of one category, or of all: `category` None counts whatever is refused at all."""

    def counts(name: str | None) -> bool:
        return name is not None if category is None else name == category

    wanted = [each for each in judged if counts(each.category)]
    refused = [each for each in judged if counts(each.got)]
    right = [each for each in wanted if counts(each.got)]
    return {
        "wanted": len(wanted),
        "refused": len(refused),
        "harmless": sum(each.category is None for each in judged),
        "precision": round(len(right) / len(refused), 3) if refused else None,
        "recall": round(len(right) / len(wanted), 3) if wanted else None,
        "missed": [each.id for each in wanted if not counts(each.got)],
        "refused_wrongly": [each.id for each in refused if not counts(each.category)],
    }


def measure(policy: Policy) -> dict[str, Any]:
    """All figures: by half, and in it by category and in all."""
    judged = judge(policy)
    names = [each.name for each in policy.categories]
    halves = {
        half: {
            name or ALL: figures([each for each in judged if each.half == half], name)
            for name in (*names, None)
        }
        for half in PARTS
    }
    return {"version": policy.version, "prompts": len(judged), **halves}


def rows(told: dict[str, Any], policy: Policy) -> list[tuple[str, ...]]:
    """The table, half by half."""
    by_rule = {each.name: bool(each.rules) for each in policy.categories} | {ALL: True}
    return [
        (
            title,
            name,
            str(row["wanted"]) if by_rule[name] else "no rule",
            _share(row["precision"]),
            _share(row["recall"]),
            str(len(row["missed"])) if by_rule[name] else "",
            str(len(row["refused_wrongly"])) if by_rule[name] else "",
        )
        for half, title in PARTS.items()
        for name, row in told[half].items()
    ]


def page(told: dict[str, Any], policy: Policy, command: str) -> str:
    """`docs/prompt-policy.md`."""
    both = [told[half][ALL] for half in PARTS]
    per_category = [row for half in PARTS for name, row in told[half].items() if name != ALL]
    text = TEXT.format(
        version=told["version"],
        command=command,
        total=told["prompts"],
        harmless=sum(row["harmless"] for row in both),
        first_sight=_markdown(_first_sight()),
        categories="\n".join(
            f"| {each.title} | {each.prohibition} | {', '.join(each.measures)}{'; always on' if each.always else ''} |"
            for each in policy.categories
        ),
        statements="\n\n".join(f"**{each.title}.** {each.statement}" for each in policy.categories),
        table=_markdown([HEAD, *rows(told, policy)]),
        missed=_listed(per_category, "missed"),
        wrong=_listed(per_category, "refused_wrongly"),
    )
    return _folded(text)


def main() -> None:
    """Judge all prompts, tell."""
    options = _options()
    policy = load_policy()
    told = measure(policy)
    table = Table(*(Column(name, no_wrap=True) for name in HEAD), title=f"Prompt policy {policy.version}")
    for row in rows(told, policy):
        table.add_row(*row)
    Console().print(table)
    for half in PARTS:
        for name, row in told[half].items():
            if name != ALL and (row["missed"] or row["refused_wrongly"]):
                print(f"{half} {name}: missed {row['missed']}, refused wrongly {row['refused_wrongly']}")
    if options.docs:
        command = " ".join(["python -m benchmarks.prompt_policy", *sys.argv[1:]])
        PAGE.write_text(page(told, policy, command), encoding="utf-8")
    print(json.dumps(told))


def _first_sight() -> list[tuple[str, ...]]:
    told = tomllib.loads(PROMPTS.read_text(encoding="utf-8"))["first_sight"]
    head = ("prompts", "minors found", "found in all", "harmless refused")
    return [head, *((part, row["minors"], row["all"], row["refused_wrongly"]) for part, row in told.items())]


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _listed(figures_of: Sequence[dict[str, Any]], key: str) -> str:
    ids = dict.fromkeys(name for row in figures_of for name in row[key])
    return ", ".join(ids) or "none"


def _markdown(table: Sequence[Sequence[str]]) -> str:
    head, *body = ("| " + " | ".join(row) + " |" for row in table)
    return "\n".join([head, "|---" * len(table[0]) + "|", *body])


def _folded(text: str) -> str:
    paragraphs = text.strip().split("\n\n")
    folded = (
        each if each[0] in "#|" else fill(each, 118, break_long_words=False, break_on_hyphens=False)
        for each in paragraphs
    )
    return "\n\n".join(folded) + "\n"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prompt_policy", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--docs", action="store_true", help="rewrite docs/prompt-policy.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
