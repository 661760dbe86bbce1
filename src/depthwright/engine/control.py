"""The depth map becomes control latents, which lie beside the noise at every step."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from depthwright.engine.components import Components
from depthwright.engine.fidelity import DepthMap
from depthwright.engine.sampling import pack
from depthwright.parameters import Size


@torch.inference_mode()
def control_latents(components: Components, depth: DepthMap, render: Size) -> Tensor:
    """A depth map of the canvas, drawn at the render's size, as packed latents [1, N, C].

    The autoencoder's mean is taken, as Black Forest Labs do; a sample, as diffusers draws it, would tie the
    control latents to the seed and spend the request's generator on them.
    """
    image = Image.fromarray(depth).resize(render, Image.Resampling.BOX)
    grey = torch.from_numpy(np.asarray(image, dtype=np.float32).copy()).clamp(0, 1) * 2 - 1
    pixels = grey.expand(1, 3, -1, -1).to(components.device, components.dtype)
    vae = components.vae
    mean: Tensor = vae.encode(pixels).latent_dist.mode()
    return pack((mean - vae.config.shift_factor) * vae.config.scaling_factor)
