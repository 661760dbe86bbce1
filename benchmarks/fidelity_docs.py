"""`docs/fidelity.md`, its plot and its contact sheet, from one run of the benchmark."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw

from training.captions import caption
from training.render import Render
from training.scenes import Scene

mpl.use("Agg")
import matplotlib.pyplot as plt

DOCS = Path(__file__).parents[1] / "docs"
TILE = 192
SHOWN = ("scale 0", "scale 0.5", "scale 1", "scale 2")

Rows = dict[str, dict[str, float]]

TEXT = """# Does the picture follow the depth map?

Measured by `python -m benchmarks.fidelity --scenes {scenes} --docs` on {hardware}; {steps} steps at {size},
{seconds_per_picture} s a picture (median); model `{model_version}`. Training has seen none of the scenes.

![Depth map, true render, then control scales 0, 0.5, 1 and 2](images/fidelity-sheet.jpg)

*From the left: the control image, the true render (never shown to the model), and the engine at control scales 0, 0.5,
1 and 2. The caption is the prompt.*

{table}

This is a small sample: {scenes} scenes. Each share over scenes moves by one part in {scenes} with one picture, and the
colour column counts few objects: read it as an indication, not as a rate. The wall column's own ceiling shows how far
that instrument can be trusted.

| column | meaning |
|---|---|
| RMSE | depth re-estimated on the picture against the control depth, 0-255 (ControlNet++'s protocol); lower is better |
| correlation | of the two depths after each row's mean is removed, so that the ground's own gradient scores nothing |
| shuffled | the same against another scene's depth: it has to be near zero |
| mask IoU | objects found by a network trained on renders, against the scene's true objects |
| colour | objects over 2% of the area whose mean colour is nearest to that colour's own render in the same light |
| floor, wall, light | named by the same network, against the scene |

The two first rows are ceilings: what these instruments say of the true renders, and of the renders after the
autoencoder alone. The network that measures is `training/judge.py`.

![The figures over the control scale](images/fidelity-plot.png)
"""


def write_docs(
    table: Rows,
    facts: dict[str, object],
    scenes: list[Scene],
    renders: list[Render],
    pictures: dict[str, list[np.ndarray]],
) -> None:
    """Write the page and its two pictures."""
    (DOCS / "images").mkdir(parents=True, exist_ok=True)
    _plot(table, DOCS / "images" / "fidelity-plot.png")
    _sheet(scenes, renders, pictures, DOCS / "images" / "fidelity-sheet.jpg")
    (DOCS / "fidelity.md").write_text(TEXT.format(table=_markdown(table), **facts))


def _markdown(table: Rows) -> str:
    lines = [
        "| picture | RMSE | correlation | shuffled | mask IoU | colour | floor | wall | light |",
        "|---" * 9 + "|",
    ]
    for name, row in table.items():
        shares = " | ".join(f"{row[key]:.0%}" for key in ("colour", "floor", "wall", "light"))
        depths = " | ".join(f"{row[key]:.2f}" for key in ("correlation", "shuffled", "iou"))
        lines.append(f"| {name} | {row['rmse']:.1f} | {depths} | {shares} |")
    return "\n".join(lines)


def _plot(table: Rows, path: Path) -> None:
    scales = [float(name.removeprefix("scale ")) for name in table if name.startswith("scale ")]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    left.plot(scales, [table[f"scale {scale:g}"]["rmse"] for scale in scales], "o-", color="#b0413e")
    left.axhline(table["true renders"]["rmse"], ls=":", color="grey", label="true renders")
    left.set(xlabel="control scale", ylabel="depth RMSE (0-255)", ylim=(0, None))
    left.legend()
    for key, label in (
        ("correlation", "residual correlation"),
        ("iou", "mask IoU"),
        ("shuffled", "shuffled depth"),
    ):
        right.plot(scales, [table[f"scale {scale:g}"][key] for scale in scales], "o-", label=label)
    right.set(xlabel="control scale", ylim=(-0.2, 1))
    right.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _sheet(
    scenes: list[Scene],
    renders: list[Render],
    pictures: dict[str, list[np.ndarray]],
    path: Path,
    rows: int = 10,
) -> None:
    columns = 2 + len(SHOWN)
    sheet = Image.new("RGB", (columns * TILE, min(rows, len(scenes)) * (TILE + 16)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (scene, truth) in enumerate(list(zip(scenes, renders, strict=True))[:rows]):
        depth = (truth.depth * 255).round().astype(np.uint8)[..., None].repeat(3, -1)
        top = row * (TILE + 16)
        for column, tile in enumerate([depth, truth.rgb, *(pictures[name][row] for name in SHOWN)]):
            sheet.paste(
                Image.fromarray(tile).resize((TILE, TILE), Image.Resampling.LANCZOS), (column * TILE, top)
            )
        draw.text((4, top + TILE + 2), caption(scene), fill="black")
    sheet.save(path, quality=88)
