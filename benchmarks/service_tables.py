"""The tables of a run."""

from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.service_verdict import ADDED_MS, FLAT, RSS_MB, SUBMISSIONS

Rows = list[list[str]]

_PARTS = {
    "submit_to_start": "submit to start",
    "running": "while it runs",
    "finish_to_visible": "finish to visible",
    "total": "all of it",
}
_WAYS = {"poll": "polled without a pause", "sync": "sync mode", "events": "server-sent events"}
_KINDS = {
    "submit": "submission, durable",
    "poll": "look-up of a finished prediction",
    "list": "first page of the list",
}


def show(figures: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console(width=110)
    for title, (head, *rows) in tables(figures).items():
        table = Table(*head, title=title)
        for row in rows:
            table.add_row(*row)
        console.print(table)


def tables(figures: dict[str, Any]) -> dict[str, Rows]:
    """All tables by their titles, each with its head as the first row."""
    return {
        "Goals": goals(figures),
        "Added to a prediction, ms": _added(figures),
        "Requests a second": _requests(figures),
        "Peers": _peers(figures),
    }


def goals(figures: dict[str, Any]) -> Rows:
    """The goals, and what was reached."""
    said = {
        "added": (f"added by the service, median: at most {ADDED_MS} ms", "ms"),
        "submissions": (f"durable submissions: at least {SUBMISSIONS} a second", "a second"),
        "flat": (f"cost at the most stored predictions over the fewest: at most {FLAT}", ""),
        "api_rss": (f"memory of the API process: under {RSS_MB} MB", "MB"),
        "no_torch": ("torch in the API process: never", ""),
    }
    rows = [["goal", "reached", "met"]]
    for name, goal in figures["goals"].items():
        words, unit = said[name]
        reached = (
            goal["reached"]
            if not isinstance(goal["reached"], bool)
            else ("loaded" if goal["reached"] else "not loaded")
        )
        rows.append([words, f"{reached} {unit}".strip(), "met" if goal["met"] else "**missed**"])
    return rows


def _added(figures: dict[str, Any]) -> Rows:
    rows = [
        [
            "its end is seen by",
            *(f"{words}, {share}" for words in _PARTS.values() for share in ("p50", "p95")),
        ]
    ]
    for way, words in _WAYS.items():
        parts = figures["added_ms_by"][way]
        rows.append([words, *(f"{parts[part][share]:.1f}" for part in _PARTS for share in ("p50", "p95"))])
    return rows


def _requests(figures: dict[str, Any]) -> Rows:
    rows = [["request", "stored", "1", "8", "32 connections", "p50 ms", "p95 ms"]]
    for kind, words in _KINDS.items():
        for stored, at in figures["at"].items():
            rates = [
                f"{at[f'{kind}_{each}']['per_s']:.0f}" if f"{kind}_{each}" in at else ""
                for each in (1, 8, 32)
            ]
            one = at[f"{kind}_1"]
            rows.append([words, f"{int(stored):,}", *rates, f"{one['p50_ms']:.1f}", f"{one['p95_ms']:.1f}"])
    for stored, at in figures["at"].items():
        total = at["added_ms"]["total"]
        rows.append(
            [
                "whole prediction, sync mode",
                f"{int(stored):,}",
                "",
                "",
                "",
                f"{total['p50']:.1f}",
                f"{total['p95']:.1f}",
            ]
        )
    return rows


def _peers(figures: dict[str, Any]) -> Rows:
    rows = [["server", "connections", "a second", "p50 ms", "p95 ms", "p50 over ours"]]
    for name, at in figures["peers"].items():
        for connections, row in at.items():
            ours = figures["peers"]["depthwright"][connections]["p50_ms"]
            ratio = f"{row['p50_ms'] / ours:.2f}"
            rows.append(
                [
                    name,
                    connections,
                    f"{row['per_s']:.0f}",
                    f"{row['p50_ms']:.1f}",
                    f"{row['p95_ms']:.1f}",
                    ratio,
                ]
            )
    return rows
