"""Styles that a caption can name: filters of the finished render, with its depth for the outlines."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.surfaces import noise

PAPER = (0.97, 0.95, 0.90)


def draw(style: str, colour: Tensor, disparity: Tensor, ids: Tensor, seed: int) -> Tensor:
    """Display colour [H, W, 3] in 0..1 as the style shows it; `disparity` and `ids` are [H, W]."""
    if style == "plain":
        return colour
    # Line widths follow the frame, so that a scene looks alike in every size.
    unit = min(colour.shape[:2]) / 256
    lines = _outlines(colour, disparity, ids, unit)[..., None]
    return _STYLES[style](colour, lines, unit, seed).clamp(0, 1)


def _sketch(colour: Tensor, lines: Tensor, unit: float, seed: int) -> Tensor:
    """Pencil on paper: pale tints, hatched shade, dark outlines."""
    rows, columns = _grid(colour, unit)
    shade = 1 - colour.mean(2, keepdim=True)
    hatching = (0.5 + 0.5 * torch.sin((rows + columns + 4 * noise(columns / 40, rows / 40, seed)) * 0.9))[
        ..., None
    ]
    tint = torch.lerp(colour.new_tensor(PAPER).expand_as(colour), colour, 0.42)
    return tint * (1 - 0.16 * shade * hatching) * (1 - 0.75 * lines)


def _neon(colour: Tensor, lines: Tensor, unit: float, _seed: int) -> Tensor:
    """Glowing outlines in each thing's own colour over a dim picture."""
    peak = colour.amax(2, keepdim=True).clamp_min(0.35)
    vivid = (colour / peak) ** 2.2
    glow = _blur(lines * vivid, 5 * unit)
    return 0.5 * colour**1.2 * colour.new_tensor([0.9, 0.8, 1.2]) + 0.7 * lines * vivid + glow


def _watercolour(colour: Tensor, lines: Tensor, unit: float, seed: int) -> Tensor:
    """Soft washes with darker rims and uneven pigment, fading to bare paper at the margin."""
    rows, columns = _grid(colour, unit)
    wash = _blur(colour, 3 * unit)
    pigment = (
        0.85 + 0.16 * noise(columns / 22, rows / 22, seed) + 0.07 * noise(columns / 5, rows / 5, seed + 1)
    )
    rims = 0.22 * _blur(lines, unit)
    height, width = colour.shape[0] / unit, colour.shape[1] / unit
    margin = torch.minimum(torch.minimum(rows, height - rows), torch.minimum(columns, width - columns))
    cover = ((margin - 9 - 8 * noise(columns / 18, rows / 18, seed + 2)) / 6).clamp(0, 1) * pigment.clamp(
        0, 1
    )
    return torch.lerp(colour.new_tensor(PAPER).expand_as(colour), wash * (1 - rims), 0.92 * cover[..., None])


_STYLES = {"sketch": _sketch, "neon": _neon, "watercolour": _watercolour}


def _outlines(colour: Tensor, disparity: Tensor, ids: Tensor, unit: float) -> Tensor:
    """Where things end or faces meet, [H, W] in 0..1, about three pixels wide at 256."""
    luminance = _blur(colour.mean(2, keepdim=True), unit)[..., 0]
    edges = torch.zeros_like(disparity)
    for field, gain in ((luminance, 6.0), (ids.float(), 1.0), (disparity, 6.0)):
        for axis in (0, 1):
            step = (field.diff(dim=axis).abs() * gain).clamp(0, 1)
            edges.narrow(axis, 0, step.shape[axis]).copy_(
                torch.maximum(edges.narrow(axis, 0, step.shape[axis]), (step - 0.25).clamp_min(0) / 0.75)
            )
    reach = max(1, round(unit))
    wide = functional.max_pool2d(edges[None, None], 2 * reach + 1, 1, reach)[0, 0]
    return _blur(wide[..., None], 0.7 * unit)[..., 0]


def _blur(picture: Tensor, radius: float) -> Tensor:
    """Two box filters, [H, W, C]."""
    reach = max(1, round(radius))
    x = picture.permute(2, 0, 1)[None]
    for _ in range(2):
        x = functional.avg_pool2d(functional.pad(x, (reach,) * 4, mode="replicate"), 2 * reach + 1, 1)
    return x[0].permute(1, 2, 0)


def _grid(colour: Tensor, unit: float) -> tuple[Tensor, Tensor]:
    """Row and column of every pixel, in pixels of a 256 frame."""
    rows, columns = (torch.arange(side, device=colour.device) / unit for side in colour.shape[:2])
    grids: tuple[Tensor, Tensor] = tuple(torch.meshgrid(rows, columns, indexing="ij"))  # type: ignore[assignment]
    return grids
