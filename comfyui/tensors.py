"""Between ComfyUI's IMAGE, a float tensor [B, H, W, C] of 0..1, and pictures. torch is ComfyUI's own."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import cast

import numpy as np
import torch
from PIL import Image

from depthwright.errors import InvalidImage


def to_pictures(batch: torch.Tensor) -> list[Image.Image]:
    """Each picture of a batch, RGB; grey where all its channels agree, as a depth map's do. Alpha is left out."""
    if batch.ndim != 4 or batch.shape[3] not in (1, 3, 4) or not batch.numel():
        raise InvalidImage(f"The picture is a tensor of {tuple(batch.shape)}: it must be [B, H, W, 3].")
    bytes_ = (batch[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return [_picture(each) for each in bytes_]


def only_picture(batch: torch.Tensor, name: str) -> Image.Image:
    """The picture of a batch of one. Raises InvalidImage: nobody could tell which of several is meant."""
    pictures = to_pictures(batch)
    if len(pictures) > 1:
        raise InvalidImage(
            f"{name} is a batch of {len(pictures)} pictures, but one request follows one: pick one with ComfyUI's "
            "node Image From Batch."
        )
    return pictures[0]


def to_batch(pictures: Sequence[Image.Image]) -> torch.Tensor:
    """Pictures of one size as a batch. A byte k is k / 255, which ComfyUI saves as k again."""
    if len({picture.size for picture in pictures}) != 1:
        sizes = ", ".join(f"{picture.width}*{picture.height}" for picture in pictures)
        raise InvalidImage(f"Pictures of different sizes make no batch: {sizes or 'there is none'}.")
    arrays = [np.asarray(picture.convert("RGB"), dtype=np.float32) / 255 for picture in pictures]
    return torch.from_numpy(np.stack(arrays))


def as_outside() -> AbstractContextManager[None]:
    """Work as torch does outside of ComfyUI, which runs nodes in inference mode.

    Weights read in that mode could not be changed outside of it, and the engine sets its LoRAs anew for each request.
    """
    return cast(AbstractContextManager[None], torch.inference_mode(mode=False))


def _picture(array: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> Image.Image:
    if (array == array[..., :1]).all():
        return Image.fromarray(array[..., 0])
    return Image.fromarray(array)
