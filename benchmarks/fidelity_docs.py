"""`docs/fidelity.md`, its plot and its contact sheets, from one run of the benchmark."""

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
FIGURES = {
    "rmse": "RMSE",
    "correlation": "correlation",
    "shuffled": "shuffled",
    "iou": "mask IoU",
    "kid": "KID",
}
SHARES = ("colour", "floor", "wall", "relief", "light", "style", "matches", "clipped")

Rows = dict[str, dict[str, float]]

TEXT = """# Does the picture follow the depth map and the words?

Measured by `python -m benchmarks.fidelity --scenes {scenes} --docs` on {hardware}; {steps} steps at {size},
{seconds_per_picture} s a picture (median); model `{model_version}`. Training has seen none of the scenes.

![Depth map, true render, then control scales 0, 0.5, 1 and 2](images/fidelity-sheet.jpg)

*From the left: the control image, the true render (never shown to the model), and the engine at control scales 0, 0.5,
1 and 2. The caption is the prompt.*

{scales}

This is a small sample: {scenes} scenes with {objects} objects over 1% of the area. Each share over scenes moves by one
part in {scenes} with one picture: read it as an indication, not as a rate. The first rows are ceilings: what these
instruments say of the true renders, and of the renders after the autoencoder alone ({autoencoder_psnr} dB at 256x256).

| column | meaning |
|---|---|
| RMSE | depth re-estimated on the picture against the control depth, 0-255 (ControlNet++'s protocol); lower is better |
| correlation | of the two depths after each row's mean is removed, so that the ground's own gradient scores nothing |
| shuffled | the same against another scene's depth: it has to be near zero |
| mask IoU | objects found by a network trained on renders, against the scene's true objects |
| KID | kernel distance (Binkowski and others) to 128 other renders by that network's features; lower is better |
| colour | objects over 1% of the area whose mean colour is nearest to that colour's own render in its light, style |
| floor, wall, relief, light, style | named by the same network, against the scene |
| matches | floor, light and style right, and every object's colour found among the objects, wherever they stand |
| clipped | values within two of 0 or 255: what burning out would raise |

The network that measures is `training/judge.py`. Where it names the true renders wrongly, a share says little. Scenes
of one to four objects, in four styles, are drawn as training draws them today.

![The figures over the control scale](images/fidelity-plot.png)

## Guidance and steps

![Guidance 1, 3.5 and 6 at scale 1, then at scale 0, then 4 and 8 steps](images/fidelity-guidance.jpg)

*From the left: guidance 1, 3.5 and 6 at control scale 1, the same at scale 0, then 4 and 8 steps at scale 1.*

{guidance}

{steps_table}

## What users bring

Depth maps that our renderer did not draw, with the prompt "{plain}";
then a depth map of ours with prompts from outside the model's world. Correlation is the one above, which asks for the
shape; RMSE asks for the distances too, where the depth estimator has only seen our scenes. A map that is the same along
each row has nothing for correlation to follow.

![Control images and pictures](images/fidelity-foreign.jpg)

{foreign}
"""


def write_docs(
    tables: dict[str, Rows],
    facts: dict[str, object],
    scenes: list[Scene],
    renders: list[Render],
    pictures: dict[str, list[np.ndarray]],
    shown: dict[str, list[np.ndarray]],
    foreign: list[tuple[str, np.ndarray, np.ndarray]],
    plain: str,
) -> None:
    """Write the page, its plot and its sheets; `shown` are pictures of the first scenes in other ways, in columns."""
    images = DOCS / "images"
    images.mkdir(parents=True, exist_ok=True)
    _plot(tables["scales"], images / "fidelity-plot.png")
    depths = [(truth.depth * 255).round().astype(np.uint8)[..., None].repeat(3, -1) for truth in renders]
    rows = [
        (caption(scene), [depths[index], renders[index].rgb, *(pictures[name][index] for name in SHOWN)])
        for index, scene in enumerate(scenes[:12])
    ]
    _sheet(rows, images / "fidelity-sheet.jpg")
    _sheet([(name, [depth, picture]) for name, depth, picture in foreign], images / "fidelity-foreign.jpg")
    columns = list(shown.values())
    rows = [
        (caption(scene), [column[index] for column in columns])
        for index, scene in enumerate(scenes[: len(columns[0])])
    ]
    _sheet(rows, images / "fidelity-guidance.jpg")
    text = TEXT.format(
        **facts,
        scales=_markdown(tables["scales"]),
        guidance=_markdown(tables["guidance"]),
        steps_table=_markdown(tables["steps"]),
        foreign=_markdown(tables["foreign"]),
        plain=plain,
    )
    (DOCS / "fidelity.md").write_text(text)


def _markdown(table: Rows) -> str:
    columns = next(iter(table.values()))
    figures, shares = [key for key in FIGURES if key in columns], [key for key in SHARES if key in columns]
    head = ["picture", *(FIGURES[key] for key in figures), *shares]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, row in table.items():
        told = [f"{row[key]:.1f}" if key == "rmse" else f"{row[key]:.2f}" for key in figures]
        lines.append(f"| {' | '.join([name, *told, *(f'{row[key]:.0%}' for key in shares)])} |")
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
        ("colour", "colour"),
    ):
        right.plot(scales, [table[f"scale {scale:g}"][key] for scale in scales], "o-", label=label)
    right.set(xlabel="control scale", ylim=(-0.2, 1))
    right.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _sheet(rows: list[tuple[str, list[np.ndarray]]], path: Path) -> None:
    """A row of tiles for each caption, the caption beneath."""
    columns = max(len(tiles) for _, tiles in rows)
    sheet = Image.new("RGB", (columns * TILE, len(rows) * (TILE + 16)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (text, tiles) in enumerate(rows):
        top = row * (TILE + 16)
        for column, tile in enumerate(tiles):
            small = Image.fromarray(tile).resize((TILE, TILE), Image.Resampling.LANCZOS)
            sheet.paste(small, (column * TILE, top))
        draw.text((4, top + TILE + 2), text, fill="black")
    sheet.save(path, quality=86)
