"""The control image becomes a depth map: float32 [H, W] in 0..1, near is 1."""

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from depthwright.engine.fidelity import DepthMap
from depthwright.engine.framing import Frame
from depthwright.parameters import Size

# 16-bit and float modes hold one channel: nobody photographs in them.
_SINGLE_CHANNEL = ("1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
# JPEG leaves faint colour on grey pictures. Photographs have larger differences of channels (of 255): pale ones on the
# whole, grey ones with a coloured thing in them at the one pixel in a hundred that is most coloured.
_FAINT, _FAINTEST_THING = 3.0, 24.0
# Processors that keep a picture's aspect leave nothing of the short side of a longer strip.
_LONGEST_ASPECT = 4
_LONGEST_STRIP = 2048


def is_depth_map(image: Image.Image) -> bool:
    """Whether a picture is grey, and so taken for a ready depth map."""
    if image.mode in _SINGLE_CHANNEL:
        return True
    small = np.asarray(_rgb(image).resize((128, 128), Image.Resampling.BILINEAR), dtype=np.float32)
    colour = small.max(axis=2) - small.min(axis=2)
    return bool(colour.mean() < _FAINT and np.percentile(colour, 99) < _FAINTEST_THING)


def to_array(image: Image.Image) -> DepthMap:
    """A ready depth map's values in 0..1 at its own size; 16-bit pictures keep their precision."""
    if image.mode.startswith("I;16"):
        return _bounded(np.asarray(image, dtype=np.float32) / 65535)
    if image.mode in ("I", "F"):
        values = np.asarray(image, dtype=np.float32)
        top = float(np.nanmax(values, initial=0))
        # 32-bit modes say nothing of their range: 16-bit PNGs are opened as "I", and floats may be metres.
        whole = 1.0 if top <= 1 else 255.0 if top <= 255 else 65535.0 if top <= 65535 else top
        return _bounded(np.nan_to_num(values / whole))
    return _bounded(np.asarray(_rgb(image).convert("L"), dtype=np.float32) / 255)


def to_picture(depth: DepthMap) -> Image.Image:
    """A depth map as a picture of mode "L"."""
    return Image.fromarray((depth.clip(0, 1) * 255).round().astype(np.uint8))


def fit(depth: DepthMap, size: Size) -> DepthMap:
    """Cut out the centre in the size's aspect and resize it: nothing is stretched."""
    height, width = depth.shape
    scale = max(size.width / width, size.height / height)
    # Cut and resize in one: a map of two rows, resized as a whole, would need gigabytes.
    across, down = min(width, size.width / scale), min(height, size.height / scale)
    left, upper = (width - across) / 2, (height - down) / 2
    if scale == 1:
        left, upper = left // 1, upper // 1
    fitted = Image.fromarray(depth).resize(
        size,
        # Shrinking by this one casts no halos beside silhouettes.
        Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.HAMMING,
        box=(left, upper, left + across, upper + down),
    )
    return np.asarray(fitted, dtype=np.float32).clip(0, 1)


def extend(depth: DepthMap, frame: Frame) -> DepthMap:
    """Grow a depth map of the wanted size to the canvas, repeating its edges."""
    left, upper, right, lower = frame.box
    margins = ((upper, frame.canvas.height - lower), (left, frame.canvas.width - right))
    return np.pad(depth, margins, mode="edge")


class DepthEstimator:
    """A transformers depth estimation model, whichever way round its output runs."""

    def __init__(self, model: Any, processor: Any, near: Literal["large", "small"]) -> None:
        self.model, self.processor, self.near = model, processor, near

    @torch.inference_mode()
    def estimate(self, image: Image.Image) -> DepthMap:
        """Depth of a picture at its own size, spread over the whole of 0..1 (a flat scene gives 0.5)."""
        inputs = self.processor(images=_no_strip(_rgb(image)), return_tensors="pt").to(
            self.model.device, self.model.dtype
        )
        predicted: NDArray[np.float32] = self.model(**inputs).predicted_depth[0].float().cpu().numpy()
        if self.near == "small":
            # Metric depth: the contract's maps are linear in nearness, that is, in disparity.
            predicted = _bounded(1 / np.maximum(predicted, 1e-3), top=1e3)
        low, high = float(predicted.min()), float(predicted.max())
        if not high - low > 1e-6 * max(1.0, abs(high)):
            return np.full((image.height, image.width), 0.5, dtype=np.float32)
        scaled = Image.fromarray((predicted - low) / (high - low))
        full = scaled.resize(image.size, Image.Resampling.BICUBIC)
        return np.asarray(full, dtype=np.float32).clip(0, 1)


def prepare_depth(
    image: Image.Image, preprocess: Literal["auto", "true", "false"], size: Size, estimator: DepthEstimator
) -> DepthMap:
    """The depth map at `size` that a control image gives: read off a ready map, estimated on a photo."""
    upright = ImageOps.exif_transpose(image)
    ready = is_depth_map(upright) if preprocess == "auto" else preprocess == "false"
    return fit(to_array(upright) if ready else estimator.estimate(upright), size)


def _no_strip(image: Image.Image) -> Image.Image:
    """A very long picture squeezed to an aspect that models take; others as they are."""
    if max(image.size) <= _LONGEST_ASPECT * min(image.size):
        return image
    longest = min(max(image.size), _LONGEST_STRIP)
    width, height = (max(min(side, longest), longest // _LONGEST_ASPECT) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _bounded(values: NDArray[np.floating], top: float = 1.0) -> DepthMap:
    return values.clip(0, top).astype(np.float32)


def _rgb(image: Image.Image) -> Image.Image:
    """Three channels; what is transparent shows black, which is far."""
    if image.mode.startswith("I") or image.mode == "F":
        return to_picture(to_array(image)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        return Image.alpha_composite(ground, rgba).convert("RGB")
    return image.convert("RGB")
