"""What stands at the horizon of an open scene: hills, mountains or trees, as two upright layers with a skyline each."""

from __future__ import annotations

import torch
from torch import Tensor

from training.scenes import Scene
from training.shapes import FAR, Hit
from training.surfaces import noise

# Distances of the layers in metres, and how high their skylines reach.
LAYERS: dict[str, tuple[tuple[float, float], ...]] = {
    "hills": ((11.0, 2.2), (17.0, 4.6)),
    "mountains": ((13.0, 3.6), (19.0, 8.5)),
    "trees": ((9.5, 3.0), (12.0, 4.2)),
}
GROUND = {"grass": (0.10, 0.24, 0.05), "sand": (0.50, 0.36, 0.18), "snow": (0.66, 0.72, 0.80)}
ROCK, SNOW, LEAVES = (0.20, 0.19, 0.20), (0.85, 0.88, 0.92), (0.025, 0.10, 0.03)


def meet(scene: Scene, origin: Tensor, direction: Tensor) -> Hit:
    """The nearest layer that a ray [N, 3] meets below its skyline."""
    best = torch.full_like(direction[:, 0], FAR)
    normal = torch.zeros_like(direction)
    assert scene.relief
    for index, (distance, height) in enumerate(LAYERS[scene.relief]):
        t = (distance - origin[:, 2]) / direction[:, 2].clamp_min(1e-6)
        point = origin + t[:, None] * direction
        line = skyline(scene.relief, point[:, 0], height, scene.seed + index)
        closer = (direction[:, 2] > 1e-6) & (point[:, 1] > 0) & (point[:, 1] < line) & (t < best)
        slope = (skyline(scene.relief, point[:, 0] + 0.3, height, scene.seed + index) - line) / 0.3
        facing = torch.stack((-slope, torch.full_like(slope, 0.9), torch.full_like(slope, -1.0)), 1)
        best = torch.where(closer, t, best)
        normal = torch.where(closer[:, None], torch.nn.functional.normalize(facing, dim=1), normal)
    return best, normal


def skyline(kind: str, x: Tensor, height: float, seed: int) -> Tensor:
    """The layer's height over metres across."""
    zero = torch.zeros_like(x)
    if kind == "hills":
        return height * (0.62 + 0.38 * noise(x / 4.5, zero, seed))
    if kind == "mountains":
        ridge = 1 - noise(x / 5.0, zero, seed).abs() * 1.1
        return height * (0.30 + 0.55 * ridge + 0.15 * noise(x / 1.3, zero, seed + 5))
    # Trees: a row of triangles, each with a height of its own, above a hedge.
    width = height * 0.42
    cell = (x / width).floor()
    own = 0.75 + 0.25 * noise(cell * 3.7 + 0.5, zero + 0.5, seed)
    across = (x / width - cell - 0.5).abs() * 2
    return height * own * (1 - 0.8 * across)


def relief_colour(scene: Scene, point: Tensor) -> Tensor:
    """Albedo [N, 3] at points of the layers."""
    kind = scene.relief
    if kind == "trees":
        tone = 1 + 0.35 * noise(point[:, 0] * 3, point[:, 1] * 3, scene.seed)
        return tone[:, None] * point.new_tensor(LEAVES)
    if kind == "hills":
        tone = 1 + 0.15 * noise(point[:, 0], point[:, 1] * 2, scene.seed)
        return tone[:, None] * point.new_tensor(GROUND.get(scene.floor, GROUND["grass"]))
    rough = noise(point[:, 0] * 1.3, point[:, 1] * 1.3, scene.seed)
    cap = ((point[:, 1] + 0.7 * rough - 3.6) / 0.5).clamp(0, 1)[:, None]
    return torch.lerp(
        (1 + 0.25 * rough)[:, None] * point.new_tensor(ROCK), point.new_tensor(SNOW).expand_as(point), cap
    )
