"""A small render becomes a large picture, with the full-size depth map as the guide for its silhouettes.

A render's own edges are soft and mix what lies on both sides. So near the edges of the depth map each pixel takes its
colour from those pixels of the render around it that lie at its own depth and well inside their surface (a joint
bilateral filter that leaves out the edges themselves): silhouettes come out as sharp as the map. Everywhere else the
picture is Lanczos's, since a guide would only wash out textures.
"""

from functools import reduce

import numpy as np
from PIL import Image

from depthwright.engine.bilateral import REACH, Floats, fetched
from depthwright.engine.fidelity import DepthMap
from depthwright.parameters import Size

# In pixels of the render: how far an edge softens colours.
SOFT = 1
# In depth, of 0..1: what spread within a pixel of the render makes it an edge.
EDGE_SPREAD = 0.01
# Depth that the render's grid cannot hold: below the first it is let go (8 bits and noise); from the second on
# the guide rules.
LOST_LEAST, LOST_MOST = 0.01, 0.022
# How many times the render's size the map is looked at to find edges, at most.
LOOKED_AT = 2
# Total weight of fetched colours at which they count for half: a thin thing has no inside, and stays Lanczos's.
FAINT = 0.01

_BOX, _BICUBIC = Image.Resampling.BOX, Image.Resampling.BICUBIC


def enlarge(picture: Image.Image, depth: DepthMap, canvas: Size) -> Image.Image:
    """Draw an RGB picture at the canvas's size; `depth` [canvas.height, canvas.width] in 0..1 shows the same scene."""
    # 1. What plain enlargement gives.
    result = np.array(picture.resize(canvas, Image.Resampling.LANCZOS))
    # 2. Where it falls short: around edges that the render's own grid could not hold.
    small = _resized(depth, Size(*picture.size), _BOX)
    inside = _inside(depth, small)
    share = _share(depth, small, inside)
    rows, columns = np.divmod(np.flatnonzero(share > 0), canvas.width)
    # 3. There, colours from inside the surface that the map shows at that place.
    colours, weight = fetched(picture, small, inside, depth, rows, columns)
    # 4. One picture of both.
    trust = share[rows, columns] * weight / (weight + FAINT)
    plain = result[rows, columns].astype(np.float32)
    result[rows, columns] = (plain + trust[:, None] * (colours - plain)).round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(result)


def _share(depth: DepthMap, small: Floats, inside: Floats) -> Floats:
    """How far the guide rules each pixel of the canvas, 0..1."""
    (height, width), (few_rows, few_columns) = depth.shape, small.shape
    # Edges are looked for at twice the render's size, whatever the canvas: they are as wide as the render made them.
    seen = Size(min(width, LOOKED_AT * few_columns), min(height, LOOKED_AT * few_rows))
    # Averaging over three pixels of the canvas leaves edges, which lose depth side by side, and takes away noise.
    grain = max(1, round(3 * seen.width / width))
    lost = _resized(depth, seen, _BOX) - _resized(small, seen, _BICUBIC)
    lost = np.abs(_mean(lost, grain))
    window = max(1, round(seen.width / few_columns * (SOFT + 0.5)))
    around = _mean(_most(lost, window), window)
    share = np.clip((around - LOST_LEAST) / (LOST_MOST - LOST_LEAST), 0, 1)
    # Where nothing within reach is inside a surface, as in a map full of texture, there is nothing to fetch.
    useful = _most(inside, 2 * REACH + 1) > FAINT
    rows, columns = np.arange(seen.height)[:, None], np.arange(seen.width)
    share *= useful[rows * few_rows // seen.height, columns * few_columns // seen.width]
    return _resized(share, Size(width, height), Image.Resampling.BILINEAR)


def _inside(depth: DepthMap, small: Floats) -> Floats:
    """How far each pixel of the render shows one surface alone: near 0 on edges and beside them, else near 1."""
    height, width = small.shape
    variance = np.maximum(_resized(depth * depth, Size(width, height), _BOX) - small * small, 0)
    worst = _most(variance, 2 * SOFT + 1)
    edge = np.float32(EDGE_SPREAD**2)
    return edge / (edge + worst)


def _most(plane: Floats, window: int) -> Floats:
    return _over(np.maximum, plane, window)


def _mean(plane: Floats, window: int) -> Floats:
    mean: Floats = _over(np.add, plane, window) / np.float32(window**2)
    return mean


def _over(join: np.ufunc, plane: Floats, window: int) -> Floats:
    """Join each pixel with those around it in a square window; beyond the border lies what the border shows."""
    for axis in (0, 1):
        margins = [(0, 0), (0, 0)]
        margins[axis] = (window // 2, window - 1 - window // 2)
        wide = np.moveaxis(np.pad(plane, margins, mode="symmetric"), axis, 0)
        count = len(wide) - window + 1
        plane = np.moveaxis(reduce(join, [wide[start : start + count] for start in range(window)]), 0, axis)
    return plane


def _resized(plane: Floats, size: Size, filter_: Image.Resampling) -> Floats:
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize(size, filter_), dtype=np.float32)
