"""What floors, walls and the sky look like: pure functions from points or directions to linear-light colours."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from training.scenes import WALLS, Light


def noise(x: Tensor, y: Tensor, seed: int) -> Tensor:
    """Smooth value noise in -1..1 with features one unit wide."""
    cell_x, cell_y = x.floor(), y.floor()
    fx, fy = x - cell_x, y - cell_y
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    corners = [_hash(cell_x + i, cell_y + j, seed) for j in (0, 1) for i in (0, 1)]
    low = corners[0] + (corners[1] - corners[0]) * fx
    high = corners[2] + (corners[3] - corners[2]) * fx
    return low + (high - low) * fy


def _hash(x: Tensor, y: Tensor, seed: int) -> Tensor:
    mixed = torch.sin(x * 12.9898 + y * 78.233 + (seed % 997) * 0.618) * 437.585
    return (mixed - mixed.floor()) * 2 - 1


def floor_colour(kind: str, x: Tensor, z: Tensor, seed: int) -> Tensor:
    """Albedo [N, 3] of the floor at metres (x, z); patterns fade to their mean before they alias."""
    clear = (5.0 / z.clamp_min(1.0)).clamp(0.0, 1.0) ** 1.5
    if kind == "wood":
        plank = (x / 0.42).floor()
        tone = 0.30 * _hash(plank, plank * 0 + 3, seed) + 0.12 * noise(x * 9, z * 0.7, seed)
        gap = _edge(x / 0.42, 0.05)
        return _tint((0.34, 0.16, 0.055), 1 + tone * clear - 0.6 * gap * clear)
    if kind == "checkered":
        wave = torch.sin(math.pi * x / 0.8) * torch.sin(math.pi * z / 0.8)
        tone = 0.42 + 0.38 * torch.tanh(wave * 14 * clear) * clear
        return tone[:, None] * x.new_tensor([1.0, 1.0, 1.0])
    if kind == "tiles":
        line = torch.maximum(_edge(x / 0.7, 0.06), _edge(z / 0.7, 0.06)) * clear
        tone = 1 + 0.12 * _hash((x / 0.7).floor(), (z / 0.7).floor(), seed) * clear
        return _tint((0.30, 0.44, 0.46), tone) * (1 - 0.55 * line[:, None])
    if kind == "grass":
        tone = 0.22 * noise(x * 2.2, z * 2.2, seed) + 0.30 * noise(x * 9, z * 5, seed + 1) * clear
        return _tint((0.10, 0.27, 0.035), 1 + tone)
    if kind == "sand":
        ripple = torch.sin(z * 7 + 2.2 * noise(x * 0.8, z * 0.8, seed)) * clear
        return _tint((0.62, 0.46, 0.25), 1 + 0.10 * ripple + 0.08 * noise(x * 3, z * 3, seed))
    tone = 0.06 * noise(x * 0.9, z * 0.9, seed) + 0.03 * noise(x * 4, z * 4, seed) * clear
    return _tint((0.82, 0.86, 0.92), 1 + tone)


def wall_colour(kind: str, across: Tensor, y: Tensor, seed: int) -> Tensor:
    """Albedo [N, 3] of a wall at metres (across, y)."""
    if kind != "brick":
        return _tint(WALLS[kind], 1 + 0.03 * noise(across * 2, y * 2, seed))
    row = (y / 0.24).floor()
    shifted = across / 0.62 + 0.5 * (row % 2)
    mortar = torch.maximum(_edge(shifted, 0.05), _edge(y / 0.24, 0.10))
    brick = _tint(WALLS[kind], 1 + 0.22 * _hash(shifted.floor(), row, seed))
    return brick + (brick.new_tensor([0.46, 0.42, 0.38]) - brick) * mortar[:, None]


def sky_colour(light: Light, direction: Tensor, sun: Tensor) -> Tensor:
    """Radiance [N, 3] of the sky along unit directions."""
    up = direction[:, 1].clamp(0, 1) ** 0.55
    top, horizon = direction.new_tensor(light.top), direction.new_tensor(light.horizon)
    glow = ((direction @ sun).clamp_min(0) ** 24)[:, None] * direction.new_tensor(light.sun) * 0.5
    return horizon + (top - horizon) * up[:, None] + glow


def _tint(colour: tuple[float, float, float], tone: Tensor) -> Tensor:
    return tone[:, None] * tone.new_tensor(colour)


def _edge(position: Tensor, width: float) -> Tensor:
    distance = (position - position.round()).abs()
    return (1 - distance / width).clamp(0, 1)
