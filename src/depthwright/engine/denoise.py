"""Denoising as a generator: it yields after every step, and whoever holds it may stop there."""

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from depthwright.engine.components import Components
from depthwright.engine.sampling import clean_estimate, image_ids, initial_noise, pack, schedule
from depthwright.engine.text import TextEmbeddings
from depthwright.parameters import Size


@dataclass(frozen=True)
class Step:
    """`latents` [1, N, C] after the step, and `estimate`, the finished latents as they look from here."""

    index: int
    latents: Tensor
    estimate: Tensor


@torch.inference_mode()
def denoise(
    components: Components,
    text: TextEmbeddings,
    control: Tensor | None,
    render: Size,
    *,
    control_scale: float,
    seed: int,
    steps: int,
    guidance_scale: float,
) -> Generator[Step, None, None]:
    """Walk from the seed's noise to latents, one image, `steps` times.

    `control` [1, N, C] lies beside the latents; at a control scale of 0 it is None, and the model the plain base.
    The scale is set before every step: between two steps the model may have served another request.
    """
    device, dtype = components.device, components.dtype
    transformer = components.transformer
    height, width = (side // components.vae_scale for side in (render.height, render.width))
    noise = initial_noise(seed, components.latent_channels, height, width)
    latents = pack(noise.to(device, dtype))
    positions = image_ids(height, width, latents)
    text_positions = torch.zeros(text.tokens.shape[1], 3, device=device, dtype=dtype)
    guidance = None
    if transformer.config.guidance_embeds:
        guidance = torch.full((1,), guidance_scale, device=device, dtype=torch.float32)
    scheduler = schedule(components.scheduler, steps, latents.shape[1], device)
    for index, timestep in enumerate(scheduler.timesteps):
        sigma = float(scheduler.sigmas[index])
        components.adapter.set_scale(control_scale)
        velocity = transformer(
            hidden_states=latents if control is None else torch.cat((latents, control), dim=2),
            timestep=timestep.expand(1).to(dtype) / scheduler.config.num_train_timesteps,
            guidance=guidance,
            pooled_projections=text.pooled,
            encoder_hidden_states=text.tokens,
            txt_ids=text_positions,
            img_ids=positions,
            return_dict=False,
        )[0]
        estimate = clean_estimate(latents, velocity, sigma)
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
        yield Step(index, latents, estimate)
