"""Phase `plot`: the losses of all phases as one picture, from their CSV logs."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

# Each log's columns that are worth a curve.
SHOWN = {
    "autoencoder": ("psnr",),
    "text": ("loss_shape", "loss_rank"),
    "flow": ("loss_control", "loss_base", "loss_colour", "loss_naming", "loss_pointing"),
    "guide": ("loss_control", "loss_base"),
    "depth": ("rmse",),
    "judge": ("iou", "floor", "light", "style"),
}


def draw(logs: Path, target: Path) -> None:
    """One panel for each phase that has a log in the folder, over its steps."""
    tables = {phase: _read(logs / f"{phase}.csv") for phase in SHOWN if (logs / f"{phase}.csv").exists()}
    figure, axes = plt.subplots(
        1, max(1, len(tables)), figsize=(3.4 * max(1, len(tables)), 3), layout="constrained", squeeze=False
    )
    for axis, (phase, table) in zip(axes[0], tables.items(), strict=False):
        for column in SHOWN[phase]:
            if column in table:
                axis.plot(table["step"], table[column], label=column.removeprefix("loss_"), lw=1.2)
        axis.set(title=phase, xlabel="step", ylim=(0, None))
        if axis.lines:
            axis.legend(fontsize=8)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110)
    plt.close(figure)


def _read(path: Path) -> dict[str, list[float]]:
    """Columns by name; a row from before a column was told has none of it."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {column: [float(row[column] or "nan") for row in rows] for column in (rows[0] if rows else ())}
