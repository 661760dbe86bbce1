"""Held-out scenes for benchmarks of speed: their depth maps and captions, and how far two pictures are apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from depthwright.parameters import Size
from training.captions import caption
from training.render import render
from training.scenes import Scene, random_scene

FIRST_SEED = 8_000_000
IDENTICAL = 99.0


@dataclass(frozen=True)
class Asked:
    """A prompt, its control image and a seed."""

    prompt: str
    depth: Image.Image
    seed: int


def held_out(first: int, count: int, aspect: float = 1.0) -> list[Scene]:
    """So many scenes from seeds beyond those of any phase of training, for frames of this width over height."""
    rng = np.random.default_rng(first)
    return [random_scene(rng, aspect, seed=first + index) for index in range(count)]


def asked(count: int, size: Size) -> list[Asked]:
    """So many scenes that no phase of training has seen, rendered in the size's aspect."""
    scenes = held_out(FIRST_SEED, count, size.width / size.height)
    depths = [render(scene, size.width // 2, size.height // 2).depth for scene in scenes]
    return [
        Asked(caption(scene), Image.fromarray((depth * 255).round().astype(np.uint8)), scene.seed)
        for scene, depth in zip(scenes, depths, strict=True)
    ]


def psnr(one: Image.Image, other: Image.Image) -> float:
    """Peak signal-to-noise ratio in dB; 99 for identical pictures."""
    error = float(np.mean((np.asarray(one, np.float64) - np.asarray(other, np.float64)) ** 2))
    return min(IDENTICAL, float(10 * np.log10(255**2 / error))) if error else IDENTICAL
