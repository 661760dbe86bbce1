"""What the fidelity benchmark asks of a picture whose scene is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from depthwright.engine.fidelity import measure
from training.judge import ANSWERS, load, prepare, truth
from training.render import Render, render
from training.scenes import COLOURS, Scene

Array = np.ndarray
LARGE = 0.01
# A colour is in a picture where this share of its area, within what the judge takes for objects, is nearest to it.
FOUND = 0.005
# Within so many levels of 0 or 255 a value counts as burnt out.
CLIPPED = 3
# Sides of the renders that tell how a colour looks; an outline has its share of an object only in larger ones
# (at 96 pixels 45% of outlined objects were named wrongly on true renders, at 320 none of 23).
PLAIN_RENDER, STYLED_RENDER = 96, 320


@dataclass(frozen=True)
class Figures:
    """One picture measured against its scene; `colours` holds one entry an object over `LARGE` of the area.

    `matches` asks whether the words alone are obeyed, wherever things stand: floor, light and style are named right
    and every object's colour is found among the objects. `clipped` is the share of burnt-out values.
    """

    rmse: float
    correlation: float
    shuffled: float
    iou: float
    colours: tuple[bool, ...]
    attributes: dict[str, bool]
    matches: bool
    clipped: float


class Examiner:
    """Measures pictures with the judge network, the depth estimator and the renderer itself."""

    def __init__(self, judge: Path, estimate_depth: Callable[[Array], Array]) -> None:
        self.judge = load(judge)
        self.estimate_depth = estimate_depth

    def examine(self, scene: Scene, truth_render: Render, picture: Array, other: Array) -> Figures:
        """`picture` is uint8 [H, W, 3]; `other` is another scene's control depth, for the shuffled figure."""
        seen = self.estimate_depth(picture)
        fidelity = measure(truth_render.depth, seen)
        shuffled = measure(other, seen).residual_correlation
        mask, scores = self._judge(picture)
        answers = {name: ANSWERS[name][int(scores[name].argmax())] for name in ANSWERS}
        attributes = {name: answers[name] == word for name, word in truth(scene).items()}
        return Figures(
            rmse=fidelity.rmse,
            correlation=fidelity.residual_correlation or 0.0,
            shuffled=shuffled or 0.0,
            iou=_iou(mask, truth_render.ids >= 0),
            colours=tuple(
                named_colour(scene, index, truth_render, picture) == thing.colour
                for index, thing in enumerate(scene.things)
                if (truth_render.ids == index).mean() > LARGE
            ),
            attributes=attributes,
            matches=all(attributes[name] for name in ("floor", "light", "style"))
            and _all_colours_found(scene, truth_render, picture, mask),
            clipped=float(((picture < CLIPPED) | (picture > 255 - CLIPPED)).mean()),
        )

    @torch.inference_mode()
    def features(self, picture: Array) -> Array:
        """What the judge makes of a picture as a whole, [F]."""
        return np.asarray(self.judge.features(prepare(picture[None]))[0].numpy(), dtype=np.float64)

    @torch.inference_mode()
    def _judge(self, picture: Array) -> tuple[Array, dict[str, Array]]:
        mask, scores = self.judge(prepare(picture[None]))
        full = torch.nn.functional.interpolate(mask[None], picture.shape[:2], mode="bilinear")[0, 0]
        return full.numpy() > 0, {name: value[0].numpy() for name, value in scores.items()}


def kernel_distance(real: Array, drawn: Array) -> float:
    """How far two sets of features [N, F] and [M, F] are from one distribution, 0 if they are of one.

    The kernel inception distance (Binkowski and others, 2018: unbiased squared maximum mean discrepancy, cubic kernel),
    with the judge's features, each over its own spread among the real ones, in place of Inception's.
    """
    centre, spread = real.mean(0), real.std(0) + 1e-6
    one, other = ((features - centre) / spread for features in (real, drawn))

    def kernel(a: Array, b: Array) -> Array:
        return np.asarray((a @ b.T / a.shape[1] + 1) ** 3)

    def within(a: Array) -> float:
        among = kernel(a, a)
        return float((among.sum() - np.trace(among)) / (len(a) * (len(a) - 1)))

    return within(one) + within(other) - 2 * float(kernel(one, other).mean())


def _iou(found: Array, real: Array) -> float:
    return float((found & real).sum() / max(1, (found | real).sum()))


def _all_colours_found(scene: Scene, truth_render: Render, picture: Array, mask: Array) -> bool:
    """Whether each object's colour, as its own render shows it, is what some of the objects' pixels are nearest to."""
    if not mask.any():
        return False
    small = picture[::4, ::4][mask[::4, ::4]].astype(np.float64)
    seen = _lab(small.T).T
    for index, thing in enumerate(scene.things):
        if (truth_render.ids == index).mean() <= LARGE:
            continue
        options = _rendered_colours(scene, index, picture.shape[1] / picture.shape[0])
        distances = [np.linalg.norm(seen - np.array(options[colour]), axis=1) for colour in COLOURS]
        nearest = np.argmin(distances, axis=0) == list(COLOURS).index(thing.colour)
        if nearest.mean() * mask.mean() < FOUND:
            return False
    return True


def named_colour(scene: Scene, index: int, truth_render: Render, picture: Array) -> str:
    """The colour word whose own render, in this light and pose, comes nearest to the object's mean colour."""
    inside = ndimage.binary_erosion(truth_render.ids == index, iterations=max(1, picture.shape[0] // 128))
    if not inside.any():
        inside = truth_render.ids == index
    seen = _lab(picture[inside].astype(np.float64).mean(0))
    options = _rendered_colours(scene, index, picture.shape[1] / picture.shape[0])
    return min(options, key=lambda colour: float(np.linalg.norm(np.subtract(options[colour], seen))))


@cache
def _rendered_colours(scene: Scene, index: int, aspect: float) -> dict[str, tuple[float, ...]]:
    """The object's mean L*a*b* in each colour, from small renders of this very scene."""
    side = PLAIN_RENDER if scene.style == "plain" else STYLED_RENDER
    width, height = round(side * max(1, aspect)), round(side / min(1, aspect))
    colours = {}
    for colour in COLOURS:
        option = render(scene.recoloured(index, colour), width, height)
        pixels = option.rgb[option.ids == index].astype(np.float64)
        colours[colour] = tuple(_lab(pixels.mean(0)))
    return colours


def _lab(rgb: Array) -> Array:
    """Display colour 0-255, [3] or [3, N] -> CIE L*a*b* (D65)."""
    linear = np.where(rgb > 10.31475, ((rgb / 255 + 0.055) / 1.055) ** 2.4, rgb / 255 / 12.92)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    scaled = (xyz.T / np.array([0.9505, 1.0, 1.089])).T
    f = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
