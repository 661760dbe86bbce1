"""Writes docs/latency.md from a run of the latency benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "latency.md"
_PAGE = """# How long a picture takes

Measured by `python -m benchmarks.latency --docs` on {hardware}; {steps} steps, {rounds} held-out scenes of each
size after one that does not count, all ways in turn; model `{model_version}`. Medians.

*Plain* is diffusers' `FluxControlPipeline` with the control LoRA loaded by PEFT, on the same weights, with torch's own
number of threads; ours works on one thread ([why](decisions/009-same-bytes.md)). It draws at the size asked for, which
the embedded model was not trained for, while ours draws at its native size and enlarges along the depth map. The second
row takes that difference away: the plain pipeline at the native size, enlarged by Lanczos, and nothing measured on its
pictures. Against the first, `regular` is {speedup[regular]} times as fast and `high` {speedup[high]} times, the least
over both sizes; against the second {native[regular]} and {native[high]} times.

{tables}
*Worst PSNR* is that of the picture farthest from its own at `none`; the bounds are 40 dB for `regular` and 31 for
`high`. *Decode* is the autoencoder's decoder and, where a picture is larger than it was drawn, enlarging. *Depth RMSE*
is the fidelity of the answers, 0-255, mean; `high` has to stay within 1.0 of `none`. Prompts, depth maps and control
latents are forgotten before every picture here; a server finds them again.
"""


def write_docs(table: dict[str, dict[str, dict[str, Any]]], facts: dict[str, Any]) -> None:
    """Write the page."""
    tables = "\n".join(_table(size, rows) for size, rows in table.items())
    native = facts["speedup_at_native_size"]
    PAGE.write_text(_PAGE.format(tables=tables, native=native, **facts), encoding="utf-8")


def _table(size: str, rows: dict[str, dict[str, Any]]) -> str:
    plain = rows["plain"]["seconds"]
    lines = [
        f"## {size}\n",
        "| way | seconds | times plain | steps forecast | worst PSNR to `none` | depth RMSE | seconds by stage |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        stages = ", ".join(
            f"{stage} {seconds:.2f} ({seconds / row['seconds']:.0%})"
            for stage, seconds in row["stages"].items()
        )
        measured = [row.get(key, "") for key in ("steps_forecast", "psnr_min", "depth_rmse")]
        cells = [name, f"{row['seconds']:.2f}", f"{plain / row['seconds']:.2f}", *map(str, measured), stages]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
