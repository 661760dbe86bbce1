"""Does the picture follow the depth map and the words? Held-out scenes at control scales 0 to 2.

    python -m benchmarks.fidelity [--scenes 24] [--steps 28] [--docs]

Every scene is drawn by the renderer from seeds no training phase has seen. Beside the engine's pictures stand two
ceilings measured the same way: the true renders, and those renders passed through the autoencoder alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.fidelity_docs import write_docs
from benchmarks.measures import Examiner, Figures
from depthwright import Engine
from training.captions import caption
from training.render import Render, render
from training.scenes import Scene, random_scene

JUDGE = Path(__file__).parent / "judge.safetensors"
SCALES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
FIRST_SEED = 7_000_000
SIDE = 512
COLUMNS = ("rmse", "correlation", "shuffled", "iou", "colour", "floor", "wall", "light")


def main() -> None:
    """Draw, measure, tell."""
    options = _options()
    torch.set_num_threads(options.threads)
    engine = Engine.load(options.profile)
    # 1. Scenes that no phase of training has seen, and their control images.
    rng = np.random.default_rng(FIRST_SEED)
    scenes = [random_scene(rng, seed=FIRST_SEED + index) for index in range(options.scenes)]
    renders = [render(scene, SIDE, SIDE) for scene in scenes]
    examiner = Examiner(
        JUDGE, lambda picture: np.asarray(engine.depth(Image.fromarray(picture)), np.float32) / 255
    )
    rows: dict[str, list[Figures]] = {}
    # 2. The ceilings.
    pictures = {
        "true renders": [r.rgb for r in renders],
        "autoencoder alone": [_round_trip(engine, r) for r in renders],
    }
    # 3. The engine, scale by scale.
    seconds: list[float] = []
    for scale in SCALES:
        name = f"scale {scale:g}"
        pictures[name] = []
        for scene, truth in track(list(zip(scenes, renders, strict=True)), description=name):
            started = time.perf_counter()
            pictures[name].append(_generate(engine, scene, truth, scale, options.steps))
            seconds.append(time.perf_counter() - started)
    # 4. Every picture is measured in the same way.
    for name, drawn in pictures.items():
        rows[name] = [
            examiner.examine(scene, truth, picture, renders[(index + 1) % len(renders)].depth)
            for index, (scene, truth, picture) in enumerate(zip(scenes, renders, drawn, strict=True))
        ]
    # 5. Table, plot, sheet, JSON.
    table = {name: summary(figures) for name, figures in rows.items()}
    _print(table)
    facts = {
        "scenes": options.scenes,
        "steps": options.steps,
        "size": f"{SIDE}*{SIDE}",
        "seconds_per_picture": round(float(np.median(seconds)), 2),
        "hardware": hardware(options.threads),
        "model_version": engine.model_version,
    }
    if options.docs:
        write_docs(table, facts, scenes, renders, pictures)
    print(json.dumps({**facts, "table": table}))


def summary(figures: list[Figures]) -> dict[str, float]:
    """Means over pictures (over large objects for colour)."""
    colours = [right for one in figures for right in one.colours]
    return {
        "rmse": _mean([one.rmse for one in figures]),
        "correlation": _mean([one.correlation for one in figures]),
        "shuffled": _mean([one.shuffled for one in figures]),
        "iou": _mean([one.iou for one in figures]),
        "colour": _mean(colours),
        **{name: _mean([one.attributes[name] for one in figures]) for name in ("floor", "wall", "light")},
    }


def _mean(values: list[float] | list[bool]) -> float:
    return round(float(np.mean(values)), 3) if values else float("nan")


def _generate(engine: Engine, scene: Scene, truth: Render, scale: float, steps: int) -> np.ndarray:
    result = engine.generate(
        prompt=caption(scene),
        control_image=Image.fromarray((truth.depth * 255).round().astype(np.uint8)),
        control_scale=scale,
        num_inference_steps=steps,
        size=f"{SIDE}*{SIDE}",
        seed=scene.seed,
    )
    return np.asarray(result.images[0])


@torch.inference_mode()
def _round_trip(engine: Engine, truth: Render) -> np.ndarray:
    """The render at the model's native size through the autoencoder and back to the measured size."""
    native = Image.fromarray(truth.rgb).resize((256, 256), Image.Resampling.LANCZOS)
    vae = engine.components.vae
    pixels = torch.from_numpy(np.asarray(native).copy()).permute(2, 0, 1)[None].to(vae.dtype) / 127.5 - 1
    decoded = vae.decode(vae.encode(pixels).latent_dist.mode()).sample[0]
    back = ((decoded.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    return np.asarray(Image.fromarray(back).resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def _print(table: dict[str, dict[str, float]]) -> None:
    shown = Table("picture", *COLUMNS, title="Fidelity on held-out scenes")
    for name, row in table.items():
        shown.add_row(name, *(f"{row[column]:.2f}" for column in COLUMNS))
    Console(width=100).print(shown)


def hardware(threads: int) -> str:
    """The processor by its own name, where the system tells it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, torch on {threads} threads"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fidelity", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--profile", default="embedded")
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--docs", action="store_true", help="rewrite docs/fidelity.md and its pictures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
