"""A small render becomes a large picture, with the full-size depth map as the guide for its silhouettes.

A render's own edges are soft and mix what lies on both sides. So near the edges of the depth map each pixel takes its
colour from those pixels of the render around it that lie at its own depth and well inside their surface (a joint
bilateral filter that leaves out the edges themselves): silhouettes come out as sharp as the map. Everywhere else the
picture is Lanczos's, since a guide would only wash out textures.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from depthwright.engine.fidelity import DepthMap
from depthwright.parameters import Size

# In pixels of the render: how far an edge softens colours, how far colours are fetched from, and how fast they fade.
SOFT = 1
REACH = 4
SPREAD = 1.5
# In depth, of 0..1: what counts as the same depth, and what spread within a pixel of the render makes it an edge.
SAME_DEPTH = 0.015
EDGE_SPREAD = 0.01
# Depth that the render's grid cannot hold: below the first it is let go (8 bits and noise); from the second on
# the guide rules.
LOST_LEAST, LOST_MOST = 0.01, 0.022
# How many times the render's size the map is looked at to find edges, at most.
LOOKED_AT = 2
# Total weight of fetched colours at which they count for half: a thin thing has no inside, and stays Lanczos's.
FAINT = 0.01

Floats = NDArray[np.float32]
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
    colours, weight = _fetched(picture, small, inside, depth, rows, columns)
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
    lost = np.abs(ndimage.uniform_filter(lost, grain))
    window = max(1, round(seen.width / few_columns * (SOFT + 0.5)))
    around = ndimage.uniform_filter(ndimage.maximum_filter(lost, window), window)
    share = np.clip((around - LOST_LEAST) / (LOST_MOST - LOST_LEAST), 0, 1)
    # Where nothing within reach is inside a surface, as in a map full of texture, there is nothing to fetch.
    useful = ndimage.maximum_filter(inside, 2 * REACH + 1) > FAINT
    rows, columns = np.arange(seen.height)[:, None], np.arange(seen.width)
    share *= useful[rows * few_rows // seen.height, columns * few_columns // seen.width]
    return _resized(share, Size(width, height), Image.Resampling.BILINEAR)


def _inside(depth: DepthMap, small: Floats) -> Floats:
    """How far each pixel of the render shows one surface alone: near 0 on edges and beside them, else near 1."""
    height, width = small.shape
    variance = np.maximum(_resized(depth * depth, Size(width, height), _BOX) - small * small, 0)
    worst = ndimage.maximum_filter(variance, 2 * SOFT + 1)
    inside: Floats = 1 / (1 + worst / np.float32(EDGE_SPREAD**2))
    return inside


def _fetched(
    picture: Image.Image,
    small: Floats,
    inside: Floats,
    depth: DepthMap,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
) -> tuple[Floats, Floats]:
    """Colours [N, 3] for N pixels of the canvas, and how much weight [N] each is made of."""
    (height, width), wanted = small.shape, depth[rows, columns]
    channels = np.asarray(picture, dtype=np.float32).reshape(-1, 3).T.copy()
    depths, insides = small.ravel(), inside.ravel()
    y, x = (
        ((places + 0.5) * (few / many) - 0.5).astype(np.float32)
        for places, few, many in zip((rows, columns), small.shape, depth.shape, strict=True)
    )
    top, left = np.floor(y).astype(np.intp), np.floor(x).astype(np.intp)
    y, x = y - top, x - left
    total = np.zeros(len(rows), dtype=np.float32)
    colours = np.zeros((3, len(rows)), dtype=np.float32)
    for down in range(1 - REACH, REACH + 1):
        line = np.clip(top + down, 0, height - 1) * width
        for across in range(1 - REACH, REACH + 1):
            place = line + np.clip(left + across, 0, width - 1)
            distance = ((down - y) ** 2 + (across - x) ** 2) / np.float32(2 * SPREAD**2)
            differing = (depths[place] - wanted) ** 2 / np.float32(2 * SAME_DEPTH**2)
            weight = np.exp(-distance - differing) * insides[place]
            total += weight
            for index, channel in enumerate(channels):
                colours[index] += weight * channel[place]
    colours /= np.maximum(total, np.float32(1e-12))
    return colours.T, total


def _resized(plane: Floats, size: Size, filter_: Image.Resampling) -> Floats:
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize(size, filter_), dtype=np.float32)
