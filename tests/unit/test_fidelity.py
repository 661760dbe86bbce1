"""The fidelity measure rewards following the depth map, and nothing else."""

import numpy as np
import pytest
from numpy.typing import NDArray

from depthwright.engine.fidelity import measure

Depth = NDArray[np.float32]


def ground() -> Depth:
    return np.tile(np.linspace(0, 1, 60, dtype=np.float32)[:, None], (1, 80))


def with_block(left: int) -> Depth:
    depth = ground()
    depth[20:40, left : left + 15] = 0.8
    return depth


def test_the_same_depth_is_perfect() -> None:
    fidelity = measure(with_block(10), with_block(10))
    assert fidelity.rmse == 0
    assert fidelity.residual_correlation == pytest.approx(1)


def test_rmse_is_on_the_scale_of_pixels() -> None:
    assert measure(np.zeros((4, 4), np.float32), np.full((4, 4), 0.1, np.float32)).rmse == pytest.approx(25.5)


def test_the_grounds_gradient_alone_scores_nothing() -> None:
    """A plain correlation would say 0.9 here."""
    correlation = measure(with_block(10), ground()).residual_correlation
    assert correlation == 0


def test_an_object_in_another_place_scores_no_more_than_none() -> None:
    correlation = measure(with_block(10), with_block(50)).residual_correlation
    assert correlation is not None
    assert correlation <= 0


def test_a_control_image_without_structure_has_no_correlation() -> None:
    assert measure(ground(), with_block(10)).residual_correlation is None
