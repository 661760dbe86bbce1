"""Depth maps that no renderer of ours drew, and prompts from outside its world: what users bring."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Array = np.ndarray

PROMPTS = (
    "dreamy anime girl in a glowing room, pastel colors, cinematic composition",
    "a photo of a cat on a table",
    "an old stone castle by a lake",
)
PLAIN = "a red sphere on a wooden floor with a white wall, in soft studio light"


def _ramp(side: int) -> Array:
    return np.tile(np.linspace(0, 1, side, dtype=np.float32)[:, None], (1, side))


def _steps(side: int) -> Array:
    """A staircase that comes nearer downwards."""
    stairs: Array = np.floor(_ramp(side) * 5) / 4.001
    return stairs


def _relief(side: int) -> Array:
    """A face-like relief: an oval with a nose, sockets and a mouth, over a flat ground."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
    face = np.sqrt(np.clip(1 - (x / 0.55) ** 2 - (y / 0.75) ** 2, 0, 1)) * 0.75

    def bump(cx: float, cy: float, wide: float, high: float) -> Array:
        height: Array = np.exp(-(((x - cx) / wide) ** 2) - ((y - cy) / high) ** 2)
        return height

    features = 0.22 * bump(0, 0.02, 0.09, 0.2) - 0.12 * (
        bump(-0.22, -0.15, 0.1, 0.06) + bump(0.22, -0.15, 0.1, 0.06)
    )
    features = features - 0.08 * bump(0, 0.38, 0.18, 0.04)
    relief: Array = np.clip(0.08 + face + features * (face > 0), 0, 1).astype(np.float32)
    return relief


def _drawn(side: int) -> Array:
    """Flat grey shapes as a hand draws them: wobbling outlines, a few shades, soft edges."""
    picture = Image.new("L", (side, side), 30)
    draw = ImageDraw.Draw(picture)
    draw.polygon([(0, side * 0.7), (side, side * 0.62), (side, side), (0, side)], fill=110)
    rng = np.random.default_rng(3)
    for grey, cx, cy, size in ((150, 0.28, 0.55, 0.17), (205, 0.66, 0.66, 0.2), (90, 0.52, 0.42, 0.12)):
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        radii = size * (1 + 0.12 * rng.standard_normal(24))
        outline = [
            (side * (cx + r * np.cos(a)), side * (cy + r * np.sin(a)))
            for a, r in zip(angles, radii, strict=True)
        ]
        draw.polygon(outline, fill=grey)
    soft = picture.filter(ImageFilter.GaussianBlur(side / 200))
    return np.asarray(soft, np.float32) / 255


def _figure(side: int) -> Array:
    """A standing person's silhouette before a wall, as a photo's depth map shows it."""
    picture = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(picture)
    for row in range(int(side * 0.62), side):
        draw.line([(0, row), (side, row)], fill=int(40 + 215 * (row / side - 0.62) / 0.38))
    draw.ellipse([side * 0.42, side * 0.12, side * 0.58, side * 0.3], fill=165)
    draw.rounded_rectangle([side * 0.36, side * 0.3, side * 0.64, side * 0.66], side * 0.08, fill=170)
    draw.rectangle([side * 0.4, side * 0.6, side * 0.6, side * 0.92], fill=175)
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(side / 150)), np.float32) / 255


MAPS: dict[str, Callable[[int], Array]] = {
    "ramp": _ramp,
    "steps": _steps,
    "face-like relief": _relief,
    "hand-drawn": _drawn,
    "standing figure": _figure,
}
