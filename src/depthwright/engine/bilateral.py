"""A joint bilateral filter from a small picture to chosen pixels of a large one, along depth.

Each weight is exp(-distance - difference in depth) times how far the fetched pixel lies inside its surface. Pixels
of the canvas that lie between the same four pixels of the render fetch from the same 64 places: together they are a
*cell*. Within one, exponents are quadratic in place and depth, so they are a product of two small matrices, and the
colours a product with a third.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# In pixels of the render: how far colours are fetched from, and how fast they fade.
REACH = 4
SPREAD = 1.5
# In depth, of 0..1: what counts as the same.
SAME_DEPTH = 0.015

Floats = NDArray[np.float32]
Places = NDArray[np.intp]

_FADE = np.float32(1 / (2 * SPREAD**2))
_PART = np.float32(1 / (2 * SAME_DEPTH**2))
# So many weights are worked on at a time: they stay in a core's cache.
_AT_ONCE = 200_000


def fetched(
    picture: Image.Image, small: Floats, inside: Floats, depth: Floats, rows: Places, columns: Places
) -> tuple[Floats, Floats]:
    """Colours [N, 3] for N pixels of the canvas, and how much weight [N] each is made of.

    `picture` (RGB), its depth `small` and `inside` (how far a pixel shows one surface alone) are of the render's size;
    `depth`, of the canvas's, is what the pixels at `rows` and `columns` ask for.
    """
    # 1. Where the pixels lie on the render, cell by cell.
    (height, width), wanted = small.shape, depth[rows, columns]
    y, x = _on_render(rows, height / depth.shape[0]), _on_render(columns, width / depth.shape[1])
    top, left = np.floor(y).astype(np.intp), np.floor(x).astype(np.intp)
    order = np.argsort(top * (width + 1) + left, kind="stable")
    y, x, top, left, wanted = (y - top)[order], (x - left)[order], top[order], left[order], wanted[order]
    first = np.flatnonzero(np.diff(top * (width + 1) + left, prepend=-width - 3))
    cell, slot = _numbered(first, len(order))
    # 2. What each cell fetches from: depths, and colours with their weight.
    reach = np.arange(1 - REACH, REACH + 1)
    down, across = (part.ravel() for part in np.meshgrid(reach, reach, indexing="ij"))
    lines = np.clip(top[first, None] + down, 0, height - 1)
    places = lines * width + np.clip(left[first, None] + across, 0, width - 1)
    insides = inside.reshape(-1, 1)
    colours = np.asarray(picture, dtype=np.float32).reshape(-1, 3)
    carried = np.concatenate((colours * insides, insides), axis=1)[places]
    # 3. The exponents' two sides. Depths are told from the cell's mean, lest their squares swallow differences.
    depths = small.ravel()[places]
    mean = depths.mean(axis=1, keepdims=True)
    depths, wanted = depths - mean, wanted - mean[cell, 0]
    lines_off, columns_off = (
        np.broadcast_to(part.astype(np.float32), depths.shape) for part in (down, across)
    )
    square = _PART * wanted**2 + _FADE * (y**2 + x**2)
    asking = (2 * _PART * wanted, 2 * _FADE * y, 2 * _FADE * x, -square, np.ones_like(y))
    asked = np.zeros((len(first), int(slot.max(initial=0)) + 1, len(asking)), dtype=np.float32)
    asked[cell, slot] = np.stack(asking, axis=1)
    square = _PART * depths**2 + _FADE * (lines_off**2 + columns_off**2)
    offered = np.stack((depths, lines_off, columns_off, np.ones_like(depths), -square), axis=1)
    # 4. Weights, and what they sum to.
    sums = np.empty((*asked.shape[:2], 4), dtype=np.float32)
    step = max(1, _AT_ONCE // (asked.shape[1] * len(down)))
    for start in range(0, len(first), step):
        some = slice(start, start + step)
        sums[some] = np.exp(asked[some] @ offered[some]) @ carried[some]
    total = np.empty((len(order), 4), dtype=np.float32)
    total[order] = sums[cell, slot]
    weight = total[:, 3].copy()
    total /= np.maximum(weight, np.float32(1e-12))[:, None]
    return total[:, :3], weight


def _on_render(places: Places, scale: float) -> Floats:
    return ((places + 0.5) * scale - 0.5).astype(np.float32)


def _numbered(first: Places, count: int) -> tuple[Places, Places]:
    """For sorted pixels: the number of each one's cell, and its own within the cell."""
    cell = np.repeat(np.arange(len(first)), np.diff(first, append=count))
    return cell, np.arange(count) - first[cell]
