"""How bold may the step cache be? Speed against nearness to the reference, over thresholds.

    python -m benchmarks.step_cache [--scenes 8] [--docs]

Held-out scenes of three sizes, at control scales 0, 1 and 2 and under strong guidance. Each point is a threshold and a
longest run; the profile's own levels are marked. Only denoising counts for speed, and it works in the model's own
precision: what fewer bits change is not the cache's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.fidelity import hardware
from benchmarks.pictures import Asked, asked, psnr
from depthwright import Engine
from depthwright.engine.profiles import StepCacheSettings
from depthwright.parameters import Size
from depthwright.result import GenerationResult

mpl.use("Agg")
import matplotlib.pyplot as plt

PLOT = Path(__file__).parents[1] / "docs" / "images" / "step-cache.png"
STEPS = 28
# The worst pictures come of strong guidance and of sizes beside the square: thresholds have to bear both.
SIZES = (Size(512, 512), Size(864, 1636), Size(1024, 768))
SETTINGS = ({"control_scale": 0.0}, {"control_scale": 1.0}, {"control_scale": 2.0}, {"guidance_scale": 20.0})
THRESHOLDS = (0.025, 0.04, 0.06, 0.1, 0.14)
RUNS = (3, 6)
BOUNDS = {"regular": 40.0, "high": 31.0}


class Pair(NamedTuple):
    """A picture by a setting beside its reference: seconds of denoising of both, and how far they are apart."""

    seconds: tuple[float, float]
    forecast: int
    psnr: float
    rmse_change: float


@dataclass(frozen=True)
class Point:
    """One setting: denoising's speed over `none`, steps forecast of all, worst PSNR, change of the mean depth RMSE."""

    threshold: float
    longest_run: int
    speed: float
    forecast: float
    worst_psnr: float
    rmse_change: float


def main() -> None:
    """Draw every scene by every setting, measure, tell."""
    options = _options()
    torch.set_num_threads(1)
    engine = Engine.load("embedded")
    levels = engine.components.profile.step_cache
    tried = [StepCacheSettings(threshold=one, longest_run=run) for run in RUNS for one in THRESHOLDS]
    tried += [each for each in levels.values() if each not in tried]
    requests = [
        _request(picture, size) | changes
        for size in SIZES
        for picture in asked(options.scenes, size)
        for changes in SETTINGS
    ]
    # 1. Each request by the reference and by every setting, in turn: what else the machine does meets them all.
    pairs: list[list[Pair]] = [[] for _ in tried]
    for request in track(requests, "requests"):
        reference = _drawn(engine, request, None)
        for settings, seen in zip(tried, pairs, strict=True):
            seen.append(_pair(reference, _drawn(engine, request, settings)))
    points = [_point(settings, seen) for settings, seen in zip(tried, pairs, strict=True)]
    # 2. Table, plot, JSON.
    _print(points, levels)
    if options.docs:
        _plot(points, levels, options.scenes)
    sizes = [str(size) for size in SIZES]
    facts = {"scenes": options.scenes, "sizes": sizes, "settings": SETTINGS, "steps": STEPS}
    chosen = {
        name: vars(point)
        for name, settings in levels.items()
        for point in points
        if (point.threshold, point.longest_run) == (settings.threshold, settings.longest_run)
    }
    told = {**facts, "hardware": hardware(1), "model_version": engine.model_version, "levels": chosen}
    print(json.dumps({**told, "points": [vars(point) for point in points]}))


def _request(picture: Asked, size: Size) -> dict[str, Any]:
    return {
        "prompt": picture.prompt,
        "control_image": picture.depth,
        "seed": picture.seed,
        "size": str(size),
        "num_inference_steps": STEPS,
    }


def _drawn(engine: Engine, request: dict[str, Any], settings: StepCacheSettings | None) -> GenerationResult:
    """A result at level high with this cache and no other loss, or at level none."""
    parts = engine.components
    high = replace(parts.chosen.levels["high"], step_cache=settings, blocks=None, decoding=None)
    chosen = replace(parts.chosen, levels={**parts.chosen.levels, "high": high})
    return Engine(replace(parts, chosen=chosen)).generate(
        **request, acceleration="high" if settings else "none"
    )


def _pair(reference: GenerationResult, drawn: GenerationResult) -> Pair:
    return Pair(
        seconds=(reference.seconds["denoise"], drawn.seconds["denoise"]),
        forecast=drawn.acceleration.steps_forecast,
        psnr=psnr(reference.images[0], drawn.images[0]),
        rmse_change=drawn.fidelity[0].rmse - reference.fidelity[0].rmse,
    )


def _point(settings: StepCacheSettings, pairs: list[Pair]) -> Point:
    plain, fast = np.sum([pair.seconds for pair in pairs], axis=0)
    return Point(
        threshold=settings.threshold,
        longest_run=settings.longest_run,
        speed=round(float(plain / fast), 2),
        forecast=round(float(np.mean([pair.forecast for pair in pairs])) / STEPS, 3),
        worst_psnr=round(min(pair.psnr for pair in pairs), 1),
        rmse_change=round(float(np.mean([pair.rmse_change for pair in pairs])), 2),
    )


def _print(points: list[Point], levels: Mapping[Any, StepCacheSettings]) -> None:
    shown = Table("threshold", "longest run", "speed", "forecast", "worst PSNR", "depth RMSE", "level")
    names = {(each.threshold, each.longest_run): name for name, each in levels.items()}
    for point in points:
        cells = [point.threshold, point.longest_run, point.speed, point.forecast, point.worst_psnr]
        name = names.get((point.threshold, point.longest_run), "")
        shown.add_row(*map(str, cells), f"{point.rmse_change:+.2f}", name)
    Console(width=100).print(shown)


def _plot(points: list[Point], levels: Mapping[Any, StepCacheSettings], scenes: int) -> None:
    figure, (near, depth) = plt.subplots(1, 2, figsize=(11, 4.2))
    for run in RUNS:
        line = sorted((each for each in points if each.longest_run == run), key=lambda each: each.threshold)
        speeds = [point.speed for point in line]
        label = f"at most {run} forecasts in a row"
        near.plot(speeds, [point.worst_psnr for point in line], "o-", label=label, markersize=4)
        depth.plot(speeds, [point.rmse_change for point in line], "o-", label=label, markersize=4)
    for name, settings in levels.items():
        for point in points:
            if (point.threshold, point.longest_run) == (settings.threshold, settings.longest_run):
                near.annotate(name, (point.speed, point.worst_psnr), (8, 8), textcoords="offset points")
                near.plot([point.speed], [point.worst_psnr], "k*", markersize=12)
                depth.annotate(name, (point.speed, point.rmse_change), (8, 8), textcoords="offset points")
                depth.plot([point.speed], [point.rmse_change], "k*", markersize=12)
    for name, bound in BOUNDS.items():
        near.axhline(bound, color="grey", linestyle=":")
        near.text(near.get_xlim()[0], bound + 0.4, f"bound of {name}", color="grey", fontsize=8)
    near.set(xlabel="speed of denoising over none", ylabel="worst PSNR to none, dB")
    depth.set(xlabel="speed of denoising over none", ylabel="change of mean depth RMSE, 0-255")
    depth.axhline(1, color="grey", linestyle=":")
    near.legend(fontsize=8)
    figure.suptitle(
        f"Step cache, embedded model: {scenes} held-out scenes of each of three sizes,"
        " control scales 0 to 2, guidance 3.5 and 20",
        fontsize=11,
    )
    figure.tight_layout()
    figure.savefig(PLOT, dpi=110)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.step_cache", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--docs", action="store_true", help="redraw docs/images/step-cache.png")
    return parser.parse_args()


if __name__ == "__main__":
    main()
