"""Cells and small matrices say what the plain sum over all neighbours says, at borders and across steps of depth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from depthwright.engine.bilateral import REACH, SAME_DEPTH, SPREAD, Floats, fetched


def plain(
    picture: Image.Image, small: Floats, inside: Floats, depth: Floats, row: int, column: int
) -> tuple[NDArray[np.float64], float]:
    """One pixel's colour and weight, in double precision, place by place."""
    colours, (height, width) = np.asarray(picture, dtype=float), small.shape
    y = (row + 0.5) * height / depth.shape[0] - 0.5
    x = (column + 0.5) * width / depth.shape[1] - 0.5
    total, weight = np.zeros(3), 0.0
    for line in range(int(np.floor(y)) + 1 - REACH, int(np.floor(y)) + REACH + 1):
        for place in range(int(np.floor(x)) + 1 - REACH, int(np.floor(x)) + REACH + 1):
            there = min(max(line, 0), height - 1), min(max(place, 0), width - 1)
            far = ((line - y) ** 2 + (place - x) ** 2) / (2 * SPREAD**2)
            apart = (float(small[there]) - float(depth[row, column])) ** 2 / (2 * SAME_DEPTH**2)
            share = np.exp(-far - apart) * inside[there]
            total, weight = total + share * colours[there], weight + share
    return total / max(weight, 1e-12), weight


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 1000),
    render=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    canvas=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    steepness=st.sampled_from([0.0, 0.02, 1.0]),
)
def test_every_pixel_fetches_the_plain_sum(
    seed: int, render: tuple[int, int], canvas: tuple[int, int], steepness: float
) -> None:
    rng = np.random.default_rng(seed)
    picture = Image.fromarray(rng.integers(0, 256, (*render, 3), dtype=np.uint8))
    inside = rng.random(render, dtype=np.float32)
    small = (0.5 + steepness * (rng.random(render) - 0.5)).astype(np.float32)
    depth = (0.5 + steepness * (rng.random(canvas) - 0.5)).astype(np.float32)
    rows, columns = np.divmod(np.flatnonzero(rng.random(canvas) < 0.1), canvas[1])
    colours, weights = fetched(picture, small, inside, depth, rows, columns)
    assert colours.shape == (len(rows), 3)
    for index, (row, column) in enumerate(zip(rows, columns, strict=True)):
        colour, weight = plain(picture, small, inside, depth, int(row), int(column))
        assert weights[index] == pytest.approx(weight, rel=0.01, abs=1e-4)
        # What has next to no weight is not shown.
        if weight > 1e-3:
            assert colours[index] == pytest.approx(colour, abs=0.5)
