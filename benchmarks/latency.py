"""Ours at each level of acceleration beside a plain diffusers pipeline, on the same weights, in turn, in one run.

    python -m benchmarks.latency [--rounds 5] [--steps 28] [--docs]

The plain script is what anybody would write: `FluxControlPipeline`, the LoRA loaded by PEFT, torch as it comes. It
draws at the size asked for. Ours draws small models at their native area and enlarges along the depth map, so the plain
script stands here a second time, at that native size and enlarged by Lanczos: that row shows what the levels alone are
worth.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.fidelity import hardware
from benchmarks.latency_docs import write_docs
from benchmarks.pictures import Asked, asked, psnr
from benchmarks.plain import Plain
from depthwright import Engine
from depthwright.engine.framing import frame
from depthwright.parameters import Level, Size

SIZES = (Size(512, 512), Size(864, 1636))
LEVELS: tuple[Level, ...] = ("none", "regular", "high")
PLAIN, PLAIN_NATIVE = "plain", "plain, native size"


@dataclass
class Row:
    """What one way of drawing took, picture by picture: seconds in all and by stage, and how near it is to `none`."""

    seconds: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)
    psnr: list[float] = field(default_factory=list)
    rmse: list[float] = field(default_factory=list)
    forecast: list[int] = field(default_factory=list)

    def told(self) -> dict[str, object]:
        """Medians for the table and JSON; the worst PSNR, since a level promises a bound."""
        return {
            "seconds": round(median(self.seconds), 3),
            "stages": {stage: round(median(values), 3) for stage, values in self.stages.items()},
            **({"psnr_min": round(min(self.psnr), 1)} if self.psnr else {}),
            **({"depth_rmse": round(sum(self.rmse) / len(self.rmse), 2)} if self.rmse else {}),
            **({"steps_forecast": median(self.forecast)} if self.forecast else {}),
        }


def main() -> None:
    """Draw in turns, measure, tell."""
    options = _options()
    engine, plain = Engine.load("embedded"), Plain()
    table: dict[str, dict[str, dict[str, object]]] = {}
    for size in SIZES:
        rows = _measured(engine, plain, size, options.rounds, options.steps)
        table[str(size)] = {name: row.told() for name, row in rows.items()}
    speedup = {level: _speedup(table, level, PLAIN) for level in LEVELS}
    native = {level: _speedup(table, level, PLAIN_NATIVE) for level in LEVELS}
    facts = {
        "rounds": options.rounds,
        "steps": options.steps,
        "hardware": hardware(torch.get_num_threads()),
        "model_version": engine.model_version,
        "speedup": speedup,
        "speedup_at_native_size": native,
    }
    _print(table)
    if options.docs:
        write_docs(table, facts)
    print(json.dumps({**facts, "table": table}))


def _measured(engine: Engine, plain: Plain, size: Size, rounds: int, steps: int) -> dict[str, Row]:
    native = frame(size, engine.components.multiple, engine.components.profile.native).render
    ways: dict[str, Callable[[Asked, Row], Image.Image]] = {
        PLAIN: lambda picture, row: plain.draw(picture, size, steps, row.stages),
        PLAIN_NATIVE: lambda picture, row: plain.draw(picture, native, steps, row.stages).resize(
            size, Image.Resampling.LANCZOS
        ),
        **{level: _ours(engine, size, steps, level) for level in LEVELS},
    }
    rows = {name: Row() for name in ways}
    # One picture that is not counted, then all ways in turn, picture by picture.
    for number, picture in enumerate(track(asked(rounds + 1, size), description=f"{size}")):
        drawn: dict[str, Image.Image] = {}
        for name, draw in ways.items():
            row = rows[name] if number else Row()
            started = time.perf_counter()
            drawn[name] = draw(picture, row)
            row.seconds.append(time.perf_counter() - started)
        for level in LEVELS if number else ():
            rows[level].psnr.append(psnr(drawn[level], drawn["none"]))
    return rows


def _ours(engine: Engine, size: Size, steps: int, level: Level) -> Callable[[Asked, Row], Image.Image]:
    def draw(picture: Asked, row: Row) -> Image.Image:
        # What was kept of this prompt and control image would flatter the level that comes last.
        engine.components.forget()
        result = engine.generate(
            prompt=picture.prompt,
            control_image=picture.depth,
            seed=picture.seed,
            size=str(size),
            num_inference_steps=steps,
            acceleration=level,
        )
        for stage, seconds in result.seconds.items():
            row.stages.setdefault(stage, []).append(seconds)
        row.rmse.append(result.fidelity[0].rmse)
        row.forecast.append(result.acceleration.steps_forecast)
        return result.images[0]

    return draw


def _speedup(table: dict[str, dict[str, dict[str, object]]], level: Level, over: str) -> float:
    """The least over all sizes."""
    ratios = [
        float(str(rows[over]["seconds"])) / float(str(rows[level]["seconds"])) for rows in table.values()
    ]
    return round(min(ratios), 2)


def _print(table: dict[str, dict[str, dict[str, object]]]) -> None:
    for size, rows in table.items():
        shown = Table("way", "seconds", "times plain", "worst PSNR to none", "depth RMSE", title=size)
        whole = float(str(rows[PLAIN]["seconds"]))
        for name, row in rows.items():
            times = whole / float(str(row["seconds"]))
            cells = [str(row.get(key, "")) for key in ("psnr_min", "depth_rmse")]
            shown.add_row(name, str(row["seconds"]), f"{times:.2f}", *cells)
        Console(width=100).print(shown)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="pictures of each size that count")
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--docs", action="store_true", help=f"rewrite {Path('docs/latency.md')}")
    return parser.parse_args()


if __name__ == "__main__":
    main()
