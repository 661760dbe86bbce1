"""Denoising as a generator: it yields after every step, and whoever holds it may stop there."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from depthwright.engine.acceleration.blocks import EAGER
from depthwright.engine.acceleration.forward import Conditions, FastWalk, PlainWalk
from depthwright.engine.acceleration.step_cache import StepCache
from depthwright.engine.components import Components, TextEmbeddings
from depthwright.engine.sampling import clean_estimate, image_ids, initial_noise, pack, schedule
from depthwright.engine.user_lora import Applied
from depthwright.parameters import Level, Size


@dataclass(frozen=True)
class Step:
    """`latents` [1, N, C] after the step, and `estimate`, the finished latents as they look from here.

    `forecast` is how many steps so far were forecast instead of computed.
    """

    index: int
    latents: Tensor
    estimate: Tensor
    forecast: int = 0


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
    acceleration: Level = "none",
    loras: Sequence[Applied] = (),
) -> Generator[Step, None, None]:
    """Walk from the seed's noise to latents, one image, `steps` times.

    `control` [1, N, C] lies beside the latents; at a control scale of 0 it is None, and the model the plain base.
    Scale and LoRAs are set before every step: between two steps the model may have served another request.
    """
    device, dtype = components.device, components.dtype
    # 1. The start, and the way.
    height, width = (side // components.vae_scale for side in (render.height, render.width))
    noise = initial_noise(seed, components.latent_channels, height, width)
    latents = pack(noise.to(device, dtype))
    scheduler = schedule(components.scheduler, steps, latents.shape[1], device)
    sigmas = [float(sigma) for sigma in scheduler.sigmas]
    # 2. What the model is told at every step.
    guidance = None
    if components.transformer.config.guidance_embeds:
        guidance = torch.full((1,), guidance_scale, device=device, dtype=torch.float32)
    conditions = Conditions(
        tokens=text.tokens,
        pooled=text.pooled,
        text_ids=torch.zeros(text.tokens.shape[1], 3, device=device, dtype=dtype),
        image_ids=image_ids(height, width, latents),
        times=scheduler.timesteps.to(dtype) / scheduler.config.num_train_timesteps,
        guidance=guidance,
        control=control,
    )
    components.adapter.set_scale(control_scale, loras)
    walk, cache = _walk(components, conditions, acceleration)
    # 3. Step by step.
    try:
        for index, timestep in enumerate(scheduler.timesteps):
            components.adapter.set_scale(control_scale, loras)
            velocity = walk.velocity(latents, index)
            estimate = clean_estimate(latents, velocity, sigmas[index])
            latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
            yield Step(index, latents, estimate, cache.forecast if cache else 0)
    finally:
        walk.end()


def _walk(
    components: Components, conditions: Conditions, level: Level
) -> tuple[PlainWalk | FastWalk, StepCache | None]:
    """The way that a level takes, under the control scale that is set."""
    if components.together:
        return components.together.walk(conditions), None
    techniques = components.chosen.levels[level]
    if not techniques.fast_walk:
        return PlainWalk(components.transformer, conditions), None
    cache = StepCache(techniques.step_cache, len(conditions.times)) if techniques.step_cache else None
    compiled = components.compiled if techniques.compiled else None
    narrow = components.narrow[techniques.blocks] if techniques.blocks else None
    return FastWalk(components.transformer, conditions, cache, compiled or EAGER, narrow), cache
