"""How closely a picture keeps to its control image: depth estimated on the picture, against the depth given."""

import numpy as np
from numpy.typing import NDArray

from depthwright.result import Fidelity

DepthMap = NDArray[np.float32]

# Below this spread (of 0..1) within rows a control image has no structure to follow.
_FLAT = 0.005


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
