"""Our pipeline gives what a plain diffusers pipeline gives, on the same weights and noise."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxControlPipeline, FluxPipeline
from PIL import Image
from torch import Tensor

from depthwright.engine.components import Components
from depthwright.engine.control import control_latents
from depthwright.engine.decode import decode
from depthwright.engine.denoise import denoise
from depthwright.engine.loading import load_components
from depthwright.engine.sampling import initial_noise, pack
from depthwright.engine.text import encode_prompt
from depthwright.parameters import Size
from tests.support.tiny import LATENTS, LENGTH, TOKEN, Tiny

RENDER = Size(96, 64)
PROMPT, SEED, STEPS, GUIDANCE = "a red cube on sand", 5, 4, 4.5


@pytest.fixture(scope="module")
def ours(tiny: Tiny) -> Components:
    return load_components(tiny.profile())


@pytest.fixture(scope="module")
def control() -> Tensor:
    return torch.randn(1, 24, TOKEN, generator=torch.Generator().manual_seed(9))


def our_latents(ours: Components, scale: float, control: Tensor | None) -> Tensor:
    steps = denoise(
        ours, encode_prompt(ours, PROMPT), control, RENDER,
        control_scale=scale, seed=SEED, steps=STEPS, guidance_scale=GUIDANCE,
    )  # fmt: skip
    return list(steps)[-1].latents


def their_pipeline(kind: Callable[..., Any], tiny: Tiny) -> Any:
    fresh = load_components(tiny.profile())
    pipeline = kind(
        **{
            part: getattr(fresh, part)
            for part in (
                "scheduler", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "transformer",
            )
        }
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def their_latents(
    kind: Callable[..., Any], tiny: Tiny, scale: float, output: str = "latent", **extra: Tensor
) -> Any:
    pipeline = their_pipeline(kind, tiny)
    if scale > 0:
        pipeline.load_lora_weights(tiny.folder, weight_name=tiny.lora.name, adapter_name="depth")
        pipeline.set_adapters("depth", scale)
    return pipeline(
        prompt=PROMPT,
        latents=pack(initial_noise(SEED, LATENTS, RENDER.height // 8, RENDER.width // 8)),
        height=RENDER.height,
        width=RENDER.width,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        max_sequence_length=LENGTH,
        output_type=output,
        **extra,
    ).images


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_under_control_we_match_flux_control_pipeline(
    scale: float, ours: Components, tiny: Tiny, control: Tensor
) -> None:
    """The control picture is given as packed latents: diffusers would sample them, we take the mean."""
    theirs = their_latents(FluxControlPipeline, tiny, scale, control_image=control)
    assert (our_latents(ours, scale, control) - theirs).abs().max() < 1e-5 * theirs.abs().max()


def test_at_scale_zero_we_are_the_base_pipeline_to_the_bit(
    ours: Components, tiny: Tiny, control: Tensor
) -> None:
    our_latents(ours, 1.0, control)
    assert torch.equal(our_latents(ours, 0.0, None), their_latents(FluxPipeline, tiny, 0.0))


def test_without_the_lora_control_would_not_match(ours: Components, tiny: Tiny, control: Tensor) -> None:
    """The parity above is no accident of a dead LoRA."""
    theirs = their_latents(FluxControlPipeline, tiny, 1.0, control_image=control)
    assert (our_latents(ours, 0.0, None) - theirs).abs().max() > 0.05 * theirs.abs().max()


def test_our_picture_is_theirs_to_a_level_of_grey(ours: Components, tiny: Tiny, control: Tensor) -> None:
    theirs = their_latents(FluxControlPipeline, tiny, 1.0, output="pil", control_image=control)[0]
    picture = decode(ours, our_latents(ours, 1.0, control), RENDER)
    assert picture.size == theirs.size
    assert np.abs(np.asarray(picture, dtype=int) - np.asarray(theirs, dtype=int)).max() <= 1


def test_our_control_latents_are_the_mean_of_what_theirs_are_drawn_from(ours: Components, tiny: Tiny) -> None:
    levels = np.random.default_rng(4).integers(0, 256, (RENDER.height, RENDER.width))
    depth = (levels / 255).astype(np.float32)
    pipeline = their_pipeline(FluxControlPipeline, tiny)
    grey = Image.fromarray(levels.astype(np.uint8)).convert("RGB")
    pixels = pipeline.prepare_image(grey, RENDER.width, RENDER.height, 1, 1, ours.device, ours.dtype)
    with torch.inference_mode():
        mean = ours.vae.encode(pixels).latent_dist.mode()
    shifted = (mean - ours.vae.config.shift_factor) * ours.vae.config.scaling_factor
    theirs = pipeline._pack_latents(shifted, *shifted.shape)
    assert torch.allclose(control_latents(ours, depth, RENDER), theirs, atol=1e-5, rtol=1e-5)


def test_our_words_are_theirs_to_the_bit(ours: Components, tiny: Tiny) -> None:
    with torch.inference_mode():
        tokens, pooled, _ = their_pipeline(FluxPipeline, tiny).encode_prompt(
            PROMPT, max_sequence_length=LENGTH
        )
    text = encode_prompt(ours, PROMPT)
    assert torch.equal(text.tokens, tokens)
    assert torch.equal(text.pooled, pooled)
