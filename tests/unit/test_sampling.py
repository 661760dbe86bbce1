"""The arithmetic of sampling, against what it must undo or equal."""

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from hypothesis import given
from hypothesis import strategies as st

from depthwright.engine.sampling import clean_estimate, image_ids, initial_noise, pack, schedule, unpack

EVEN = st.integers(1, 6).map(lambda half: 2 * half)


@given(channels=st.integers(1, 5), height=EVEN, width=EVEN)
def test_packing_loses_nothing_and_is_diffusers_own(channels: int, height: int, width: int) -> None:
    latents = torch.randn(1, channels, height, width)
    packed = pack(latents)
    assert torch.equal(unpack(packed, height, width), latents)
    assert torch.equal(packed, FluxPipeline._pack_latents(latents, 1, channels, height, width))


@given(height=EVEN, width=EVEN)
def test_positions_are_diffusers_own(height: int, width: int) -> None:
    theirs = FluxPipeline._prepare_latent_image_ids(
        1, height // 2, width // 2, torch.device("cpu"), torch.float32
    )
    assert torch.equal(image_ids(height, width, torch.zeros(1)), theirs)


def test_noise_depends_on_the_seed_alone() -> None:
    first = initial_noise(7, 4, 8, 8)
    torch.randn(100)
    assert torch.equal(first, initial_noise(7, 4, 8, 8))
    assert not torch.equal(first, initial_noise(8, 4, 8, 8))
    assert initial_noise(9_999_999_999 + 3, 4, 8, 8).shape == (1, 4, 8, 8)


@given(steps=st.integers(1, 50), tokens=st.integers(16, 8192))
def test_the_schedule_falls_from_one_to_zero_and_leaves_the_template_alone(steps: int, tokens: int) -> None:
    template = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    before = template.timesteps.clone()
    sigmas = schedule(template, steps, tokens, torch.device("cpu")).sigmas
    assert len(sigmas) == steps + 1
    assert sigmas[0] == 1
    assert sigmas[-1] == 0
    assert bool((sigmas.diff() < 0).all())
    assert torch.equal(template.timesteps, before)


def test_the_shift_is_diffusers_own() -> None:
    template = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    theirs = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    import numpy as np

    config = theirs.config
    mu = calculate_shift(
        4608, config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift
    )
    theirs.set_timesteps(sigmas=np.linspace(1.0, 1 / 28, 28), mu=mu)
    assert torch.equal(schedule(template, 28, 4608, torch.device("cpu")).sigmas, theirs.sigmas)


def test_the_estimate_is_exact_on_a_straight_path() -> None:
    clean, noise = torch.randn(2, 3), torch.randn(2, 3)
    noisy = 0.3 * clean + 0.7 * noise
    assert torch.allclose(clean_estimate(noisy, noise - clean, 0.7), clean, atol=1e-6)
