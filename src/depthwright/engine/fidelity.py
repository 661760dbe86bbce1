"""How closely a picture keeps to its control image: depth estimated on the picture, against the depth given."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DepthMap = NDArray[np.float32]

# Below this spread (of 0..1) within rows a control image has no structure to follow.
_FLAT = 0.005


@dataclass(frozen=True)
class Fidelity:
    """`rmse` is on 0-255, as ControlNet++ (arXiv 2404.07987) reports it; lower is better.

    `residual_correlation` is Pearson's after each row's mean is taken from both maps, so that the ground's own
    gradient, which any picture of a floor shares, scores nothing; None where the control image has no such structure.
    """

    rmse: float
    residual_correlation: float | None


def measure(control: DepthMap, seen: DepthMap) -> Fidelity:
    """Compare two depth maps [H, W] in 0..1 (near is 1) of one size."""
    rmse = float(np.sqrt(np.mean((control.astype(np.float64) - seen) ** 2)) * 255)
    return Fidelity(rmse, _residual_correlation(control, seen))


def _residual_correlation(control: DepthMap, seen: DepthMap) -> float | None:
    ours = _without_row_means(control)
    theirs = _without_row_means(seen)
    if ours.std() < _FLAT:
        return None
    scale = ours.std() * theirs.std()
    return float((ours * theirs).mean() / scale) if scale > 0 else 0.0


def _without_row_means(depth: DepthMap) -> NDArray[np.float64]:
    wide = depth.astype(np.float64)
    rest: NDArray[np.float64] = wide - wide.mean(axis=1, keepdims=True)
    return rest
