"""Latents become pixels."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from depthwright.engine.components import Components
from depthwright.engine.sampling import unpack
from depthwright.parameters import Size


@torch.inference_mode()
def decode(components: Components, latents: Tensor, render: Size) -> Image.Image:
    """Packed latents [1, N, C] -> an RGB picture of the render's size."""
    vae = components.vae
    height, width = (side // components.vae_scale for side in (render.height, render.width))
    unpacked = unpack(latents, height, width) / vae.config.scaling_factor + vae.config.shift_factor
    pixels: Tensor = vae.decode(unpacked.to(vae.dtype), return_dict=False)[0][0]
    shown = (pixels.float().clamp(-1, 1) + 1) * 127.5
    return Image.fromarray(shown.round().byte().permute(1, 2, 0).cpu().numpy().astype(np.uint8))
