"""What each technique gains on FLUX's own geometry, 12 billion parameters, with random weights.

    python -m benchmarks.flux_geometry [--geometry flux] [--device cuda] [--sizes 1024*1024 864*1632]

Every technique runs in a process of its own on the same weights, and what it says is compared with what diffusers says;
the compiled one runs twice, the second time on what the first one kept. Float8 blocks are compiled where there is a
GPU. Without one the same runs at a small geometry, and float8 is emulated: it says how near it comes, not how fast.
Nothing is forecast here: how often a step cache hits on random weights means nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.fidelity import hardware
from benchmarks.geometry_run import GEOMETRIES
from depthwright.engine.acceleration.compilation import missing_compiler
from depthwright.parameters import Size

TECHNIQUES = (
    "diffusers, live LoRA", "diffusers, merged LoRA", "fast walk", "compiled", "float8 blocks", "stored in fp8",
)  # fmt: skip
SIZES = {"flux": ("1024*1024", "864*1632"), "small": ("256*256", "256*384")}


@dataclass(frozen=True)
class Row:
    """One technique at one size. `warm_s` is the first step in a second process; `error` is relative to diffusers."""

    technique: str
    size: Size
    figures: dict[str, float]
    warm_s: float | None
    error: float

    @property
    def roofline(self) -> float:
        """The share of what one large product reaches on this device."""
        return self.figures["tflop"] / self.figures["step_s"] / self.figures["matmul_tflop_s"]


def main() -> None:
    """Run every technique at every size, compare, tell."""
    options = _options()
    device = torch.device(options.device)
    techniques = [each for each in TECHNIQUES if each != "compiled" or missing_compiler(device) is None]
    rows: list[Row] = []
    console = Console(width=None if sys.stdout.isatty() else 140)
    for size in [Size.parse(text) for text in options.sizes or SIZES[options.geometry]]:
        with tempfile.TemporaryDirectory(prefix="geometry-") as name:
            folder = Path(name)
            reference: torch.Tensor | None = None
            for technique in track(techniques, str(size), console=console):
                # 1. Once from nothing; what is compiled, once more.
                figures, said = _run(options, technique, size, folder)
                warm = (
                    _run(options, technique, size, folder)[0]["first_step_s"]
                    if technique == "compiled"
                    else None
                )
                # 2. The first technique is what the others must agree with.
                reference = said if reference is None else reference
                error = float((said - reference).norm() / reference.norm())
                rows.append(Row(technique, size, figures, warm, error))
    # 3. Table and JSON.
    _print(console, rows)
    told = {
        "geometry": options.geometry,
        "device": options.device,
        "dtype": options.dtype,
        "hardware": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else hardware(options.threads),
        "steps": options.steps,
        "rows": [
            {
                "technique": row.technique,
                "size": str(row.size),
                **row.figures,
                "warm_first_step_s": row.warm_s,
                "relative_error": row.error,
                "roofline": row.roofline,
            }
            for row in rows
        ],
    }
    sys.stdout.write(json.dumps(told) + "\n")


def _run(
    options: argparse.Namespace, technique: str, size: Size, folder: Path
) -> tuple[dict[str, float], torch.Tensor]:
    velocity = folder / "velocity.pt"
    command = [
        sys.executable, "-m", "benchmarks.geometry_run", "--technique", technique,
        "--geometry", options.geometry, "--width", str(size.width), "--height", str(size.height),
        "--steps", str(options.steps), "--device", options.device, "--dtype", options.dtype,
        "--threads", str(options.threads), "--velocity", str(velocity),
    ]  # fmt: skip
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(folder / "compiled")}
    ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    figures: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return figures, torch.load(velocity, weights_only=True)


def _print(console: Console, rows: list[Row]) -> None:
    table = Table(title="One step of the transformer, random weights")
    for heading in ("size", "technique", "s a step", "speed", "of a product's TFLOP/s", "GB", "scale change, ms",
                    "first step, s", "again, s", "error"):  # fmt: skip
        table.add_column(heading, justify="left" if heading in ("size", "technique") else "right")
    first = {row.size: row.figures["step_s"] for row in reversed(rows)}
    for row in rows:
        figures = row.figures
        table.add_row(
            str(row.size),
            row.technique,
            f"{figures['step_s']:.3f}",
            f"{first[row.size] / figures['step_s']:.2f}x",
            f"{row.roofline:.0%}",
            f"{figures['memory_gb']:.2f}",
            f"{figures['scale_change_s'] * 1000:.1f}",
            f"{figures['first_step_s']:.1f}",
            "" if row.warm_s is None else f"{row.warm_s:.1f}",
            f"{row.error:.1e}",
        )
    console.print(table)


def _options() -> argparse.Namespace:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--geometry", choices=GEOMETRIES, default="flux" if on_gpu else "small")
    parser.add_argument("--sizes", nargs="*", metavar="W*H", help="multiples of 16 pixels")
    parser.add_argument("--steps", type=int, default=28 if on_gpu else 8)
    parser.add_argument("--device", default="cuda" if on_gpu else "cpu")
    parser.add_argument("--dtype", default="bfloat16" if on_gpu else "float32")
    parser.add_argument("--threads", type=int, default=1, help="on a CPU")
    return parser.parse_args()


if __name__ == "__main__":
    main()
