"""Latents become pixels."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from depthwright.engine.components import Components
from depthwright.engine.memory import free_memory, is_out_of_memory
from depthwright.engine.sampling import unpack
from depthwright.parameters import Level, Size


@torch.inference_mode()
def decode(components: Components, latents: Tensor, render: Size, level: Level = "none") -> Image.Image:
    """Packed latents [1, N, C] -> an RGB picture of the render's size, by the decoder that the level uses.

    Where memory runs out the picture is decoded once more, tile by tile, after everything that can be computed again
    was let go of.
    """
    vae = components.vae_of(level)
    try:
        return _decoded(components, vae, latents, render)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # Out here the failed try's tensors are gone.
    components.forget()
    free_memory()
    with _tiled(vae):
        return _decoded(components, vae, latents, render)


def _decoded(components: Components, vae: Any, latents: Tensor, render: Size) -> Image.Image:
    height, width = (side // components.vae_scale for side in (render.height, render.width))
    unpacked = unpack(latents, height, width) / vae.config.scaling_factor + vae.config.shift_factor
    pixels: Tensor = vae.decode(unpacked.to(vae.dtype), return_dict=False)[0][0]
    shown = (pixels.float().clamp(-1, 1) + 1) * 127.5
    return Image.fromarray(shown.round().byte().permute(1, 2, 0).cpu().numpy().astype(np.uint8))


@contextlib.contextmanager
def _tiled(vae: Any) -> Iterator[None]:
    vae.enable_tiling()
    try:
        yield
    finally:
        vae.disable_tiling()
