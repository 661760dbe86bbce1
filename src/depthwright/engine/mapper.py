"""Depth maps of photos, with a profile's depth estimator alone: no need to load FLUX for that."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
from PIL import Image, ImageOps

from depthwright.engine.depth import DepthEstimator, to_picture
from depthwright.engine.determinism import same_bytes
from depthwright.engine.loading import load_depth_estimator
from depthwright.engine.memory import memory_guard
from depthwright.engine.placing import choose_device
from depthwright.engine.profiles import load_profile


class DepthMapper:
    """Photo in, depth map out."""

    def __init__(self, estimator: DepthEstimator, device: torch.device) -> None:
        self.estimator, self.device = estimator, device

    @classmethod
    def load(
        cls,
        profile: str | Path = "embedded",
        *,
        device: str | None = None,
        overrides: Mapping[str, Path] | None = None,
    ) -> Self:
        """Load the estimator of a profile. Raises UnknownProfile, WeightsMissing, WeightsInvalid or OutOfMemory."""
        chosen, where = load_profile(profile).with_overrides(overrides or {}), choose_device(device)
        with memory_guard(f"loading the depth estimator of {chosen.name}"):
            return cls(load_depth_estimator(chosen, where), where)

    def depth(self, image: Image.Image) -> Image.Image:
        """The depth map of a photo: mode "L", near bright, of the photo's size. Raises OutOfMemory."""
        upright = ImageOps.exif_transpose(image)
        with memory_guard("a depth map"), same_bytes(self.device):
            return to_picture(self.estimator.estimate(upright))
