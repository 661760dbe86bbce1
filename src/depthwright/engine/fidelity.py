"""How closely a picture keeps to its control image: depth estimated on the picture, against the depth given."""

import numpy as np
from numpy.typing import NDArray

from depthwright.result import Fidelity

DepthMap = NDArray[np.float32]

# Below this spread (of 0..1) within rows a control image has no structure to follow.
_FLAT = 0.005
_ROUNDING = 1e-6


def measure(control: DepthMap, seen: DepthMap) -> Fidelity:
    """Compare two depth maps [H, W] in 0..1 (near is 1) of one size."""
    rmse = float(np.sqrt(np.square(control - seen).mean()) * 255)
    return Fidelity(rmse, _residual_correlation(control, seen))


def _residual_correlation(control: DepthMap, seen: DepthMap) -> float | None:
    ours = _without_row_means(control)
    theirs = _without_row_means(seen)
    if _spread(ours) < _FLAT:
        return None
    # A picture whose rows are flat but for rounding follows nothing.
    if _spread(theirs) < _ROUNDING:
        return 0.0
    return float((ours * theirs).mean()) / (_spread(ours) * _spread(theirs))


def _spread(rest: DepthMap) -> float:
    return float(np.sqrt(np.square(rest).mean()))


def _without_row_means(depth: DepthMap) -> DepthMap:
    # Numpy sums in pairs: single precision loses nothing here that eight bits of depth would show.
    rest: DepthMap = depth - depth.mean(axis=1, keepdims=True)
    return rest
