"""Does the picture follow the depth map and the words? Held-out scenes at control scales 0 to 2, and what users bring.

    python -m benchmarks.fidelity [--scenes 24] [--steps 28] [--docs]

Every scene is drawn by the renderer from seeds no training phase has seen. Beside the engine's pictures stand two
ceilings measured the same way: the true renders, and those renders passed through the autoencoder alone.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.fidelity_docs import write_docs
from benchmarks.foreign import MAPS, PLAIN, PROMPTS
from benchmarks.machine import processor
from benchmarks.measures import Examiner, Figures, kernel_distance
from benchmarks.pictures import held_out
from depthwright import Engine
from depthwright.engine.fidelity import measure
from training.captions import caption
from training.render import Render, render
from training.scenes import Scene

JUDGE = Path(__file__).parent / "judge.safetensors"
SCALES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
GUIDANCES = (1.0, 3.5, 6.0)
FEW_STEPS = (4, 8)
FIRST_SEED, OTHER_SEED = 7_000_000, 7_500_000
# Renders of other scenes, which pictures as a whole should be like.
OTHERS = 128
SIDE = 512
# Of how many scenes pictures at other guidances and numbers of steps are shown.
KEPT = 6
WORDS = ("floor", "wall", "relief", "light", "style")
COLUMNS = ("rmse", "correlation", "shuffled", "iou", "kid", "colour", *WORDS, "matches", "clipped")

Rows = dict[str, dict[str, float]]


@dataclass
class Session:
    """The engine, the held-out scenes with their renders, features of other renders, and the seconds pictures took."""

    engine: Engine
    scenes: list[Scene]
    renders: list[Render]
    examiner: Examiner
    others: np.ndarray
    seconds: list[float] = field(default_factory=list)
    shown: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def draw(self, prompt: str, depth: np.ndarray, seed: int, **parameters: float) -> np.ndarray:
        """One picture of the engine; `depth` is float 0..1."""
        started = time.perf_counter()
        fields: dict[str, Any] = dict(parameters)
        result = self.engine.generate(
            prompt=prompt,
            control_image=Image.fromarray((depth * 255).round().astype(np.uint8)),
            size=f"{SIDE}*{SIDE}",
            seed=seed,
            **fields,
        )
        self.seconds.append(time.perf_counter() - started)
        return np.asarray(result.images[0])

    def draw_all(self, name: str, **parameters: float) -> list[np.ndarray]:
        """A picture of every scene."""
        pairs = list(zip(self.scenes, self.renders, strict=True))
        return [
            self.draw(caption(scene), truth.depth, scene.seed, **parameters)
            for scene, truth in track(pairs, description=name)
        ]

    def look(self, name: str, **parameters: float) -> dict[str, float]:
        """A picture of every scene, measured; the first few are kept to be shown."""
        drawn = self.draw_all(name, **parameters)
        self.shown[name] = drawn[:KEPT]
        return self.examine_all(drawn)

    def examine_all(self, pictures: list[np.ndarray]) -> dict[str, float]:
        """Every picture is measured in the same way, and all of them beside renders of other scenes."""
        features = np.stack([self.examiner.features(picture) for picture in pictures])
        return {"kid": round(kernel_distance(self.others, features), 3)} | summary(
            [
                self.examiner.examine(
                    scene, truth, picture, self.renders[(index + 1) % len(self.renders)].depth
                )
                for index, (scene, truth, picture) in enumerate(
                    zip(self.scenes, self.renders, pictures, strict=True)
                )
            ]
        )


def main() -> None:
    """Draw, measure, tell."""
    options = _options()
    torch.set_num_threads(options.threads)
    session = _session(options)
    # 1. The ceilings.
    round_trips = [_round_trip(session.engine, truth) for truth in session.renders]
    pictures = {
        "true renders": [truth.rgb for truth in session.renders],
        "autoencoder alone": [picture for picture, _ in round_trips],
    }
    # 2. The engine, scale by scale.
    for scale in SCALES:
        name = f"scale {scale:g}"
        pictures[name] = session.draw_all(name, control_scale=scale, num_inference_steps=options.steps)
    seconds = float(np.median(session.seconds))
    tables = {"scales": {name: session.examine_all(drawn) for name, drawn in pictures.items()}}
    # 3. Guidance, with control and without, and numbers of steps.
    asked: dict[str, dict[str, float]] = {
        f"guidance {guidance:g}, scale {scale:g}": {"guidance_scale": guidance, "control_scale": scale}
        for scale in (1.0, 0.0)
        for guidance in GUIDANCES
    }
    tables["guidance"] = {
        name: session.look(name, **more, num_inference_steps=options.steps) for name, more in asked.items()
    }
    few = {f"{steps} steps": session.look(f"{steps} steps", num_inference_steps=steps) for steps in FEW_STEPS}
    tables["steps"] = {**few, f"{options.steps} steps": tables["scales"]["scale 1"]}
    # 4. What users bring.
    foreign, foreign_pictures = _foreign(session, options.steps)
    tables["foreign"] = foreign
    # 5. Tables, plot, sheets, JSON.
    facts = {
        "scenes": options.scenes,
        "steps": options.steps,
        "size": f"{SIDE}*{SIDE}",
        "seconds_per_picture": round(seconds, 2),
        "autoencoder_psnr": round(float(np.mean([psnr for _, psnr in round_trips])), 1),
        "objects": sum((truth.ids == index).mean() > 0.01 for truth in session.renders for index in range(4)),
        "hardware": hardware(options.threads),
        "model_version": session.engine.model_version,
    }
    for name, table in tables.items():
        _print(name, table)
    if options.docs:
        write_docs(
            tables, facts, session.scenes, session.renders, pictures, session.shown, foreign_pictures, PLAIN
        )
    print(json.dumps({**facts, "objects": int(facts["objects"]), "tables": tables}))


def summary(figures: list[Figures]) -> dict[str, float]:
    """Means over pictures (over large objects for colour)."""
    return {
        **{
            name: _mean([getattr(one, name) for one in figures])
            for name in ("rmse", "correlation", "shuffled", "iou", "matches", "clipped")
        },
        "colour": _mean([right for one in figures for right in one.colours]),
        **{name: _mean([one.attributes[name] for one in figures]) for name in WORDS},
    }


def _mean(values: list[float] | list[bool]) -> float:
    return round(float(np.mean(values)), 3) if values else float("nan")


def _session(options: argparse.Namespace) -> Session:
    engine = Engine.load(options.profile)
    scenes = held_out(FIRST_SEED, options.scenes)
    examiner = Examiner(
        JUDGE, lambda picture: np.asarray(engine.depth(Image.fromarray(picture)), np.float32) / 255
    )
    renders = [render(scene, SIDE, SIDE) for scene in scenes]
    features = [
        examiner.features(render(scene, SIDE, SIDE).rgb)
        for scene in track(held_out(OTHER_SEED, OTHERS), description="others")
    ]
    return Session(engine, scenes, renders, examiner, np.stack(features))


def _foreign(session: Session, steps: int) -> tuple[Rows, list[tuple[str, np.ndarray, np.ndarray]]]:
    """Depth maps of other makers with a plain prompt, our own with prompts of other worlds."""
    cases = [(name, PLAIN, make(SIDE)) for name, make in MAPS.items()]
    cases += [(prompt, prompt, session.renders[0].depth) for prompt in PROMPTS]
    table: Rows = {}
    pictures = []
    for name, prompt, depth in cases:
        picture = session.draw(prompt, depth, 1, num_inference_steps=steps)
        fidelity = measure(depth, session.examiner.estimate_depth(picture))
        table[name] = {
            "rmse": round(fidelity.rmse, 1),
            "correlation": round(fidelity.residual_correlation or 0, 2),
        }
        pictures.append((name, (depth * 255).astype(np.uint8)[..., None].repeat(3, -1), picture))
    return table, pictures


@torch.inference_mode()
def _round_trip(engine: Engine, truth: Render) -> tuple[np.ndarray, float]:
    """The render at the model's native size through the autoencoder and back to the measured size, and the PSNR."""
    native = Image.fromarray(truth.rgb).resize((256, 256), Image.Resampling.LANCZOS)
    vae = engine.components.vae
    pixels = torch.from_numpy(np.asarray(native).copy()).permute(2, 0, 1)[None].to(vae.dtype) / 127.5 - 1
    decoded = vae.decode(vae.encode(pixels).latent_dist.mode()).sample
    psnr = float(-10 * torch.log10((decoded.clamp(-1, 1) - pixels).float().square().mean() / 4))
    back = ((decoded[0].float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    return np.asarray(Image.fromarray(back).resize((SIDE, SIDE), Image.Resampling.LANCZOS)), psnr


def _print(title: str, table: Rows) -> None:
    columns = [column for column in COLUMNS if column in next(iter(table.values()))]
    shown = Table(title, *columns, title=f"Fidelity: {title}")
    for name, row in table.items():
        shown.add_row(name[:40], *(f"{row[column]:.2f}" for column in columns))
    Console(width=140).print(shown)


def hardware(threads: int) -> str:
    """The processor, and how much of it torch uses."""
    return f"{processor()}, torch on {threads} threads"


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
