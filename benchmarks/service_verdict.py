"""The goals, and whether a run met them."""

from typing import Any

ADDED_MS, SUBMISSIONS, FLAT, RSS_MB = 10, 500, 1.2, 200
_COSTS = ("submit_1", "poll_1", "list_1")


def verdict(figures: dict[str, Any]) -> dict[str, Any]:
    """The headline figures and the goals; each goal with what was reached."""
    at = figures["at"]
    fewest, *_, most = at
    ratios = {name: _ratio(at[most][name]["p50_ms"], at[fewest][name]["p50_ms"]) for name in _COSTS}
    ratios["whole_prediction"] = _ratio(*(at[each]["added_ms"]["total"]["p50"] for each in (most, fewest)))
    flat = max(ratios.values())
    submissions, polls = (
        max(row["per_s"] for name, row in at[fewest].items() if name.startswith(kind))
        for kind in ("submit", "poll")
    )
    added = round(
        sum(figures["added_ms"][part]["p50"] for part in ("submit_to_start", "finish_to_visible")), 2
    )
    reached = {
        "added": (added, added <= ADDED_MS),
        "submissions": (submissions, submissions >= SUBMISSIONS),
        "flat": (flat, flat <= FLAT),
        "api_rss": (figures["api_peak_mb"], figures["api_peak_mb"] < RSS_MB),
        "no_torch": (figures["torch_loaded"], not figures["torch_loaded"]),
    }
    return {
        "submissions_per_s": submissions,
        "polls_per_s": polls,
        "flat": flat,
        "ratios": ratios,
        "goals": {name: {"reached": value, "met": met} for name, (value, met) in reached.items()},
    }


def _ratio(late: float, early: float) -> float:
    return round(late / early, 2)
