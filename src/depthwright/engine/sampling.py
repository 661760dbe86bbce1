"""The arithmetic of FLUX sampling: pure functions on tensors, equal to diffusers' to the last bit where it matters."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

PATCH = 2


def initial_noise(seed: int, channels: int, height: int, width: int) -> Tensor:
    """Gaussian noise [1, channels, height, width], float32 on the CPU: the same on every kind of device."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn((1, channels, height, width), generator=generator, dtype=torch.float32)


def pack(latents: Tensor) -> Tensor:
    """[B, C, H, W] -> tokens [B, H/2 * W/2, 4C]: each token is a 2 x 2 patch, ordered channel, row, column."""
    b, c, h, w = latents.shape
    patches = latents.view(b, c, h // PATCH, PATCH, w // PATCH, PATCH).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(b, (h // PATCH) * (w // PATCH), c * PATCH * PATCH)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `pack`, for latents of this height and width."""
    b, _, channels = tokens.shape
    patches = tokens.view(b, height // PATCH, width // PATCH, channels // PATCH**2, PATCH, PATCH)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(b, channels // PATCH**2, height, width)


def image_ids(height: int, width: int, like: Tensor) -> Tensor:
    """Positions [N, 3] of the tokens of latents of this height and width: (0, row, column)."""
    rows, columns = height // PATCH, width // PATCH
    ids = torch.zeros(rows, columns, 3)
    ids[..., 1] += torch.arange(rows)[:, None]
    ids[..., 2] += torch.arange(columns)[None, :]
    return ids.view(rows * columns, 3).to(device=like.device, dtype=like.dtype)


def schedule(template: Any, steps: int, tokens: int, device: torch.device) -> Any:
    """A fresh scheduler of the template's configuration, its sigmas set for this many steps and image tokens.

    FLUX shifts its sigmas towards noise for larger pictures: exp(mu), with mu linear in the number of tokens.
    """
    config = template.config
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
    mu = tokens * slope + config.base_shift - slope * config.base_image_seq_len
    scheduler = type(template).from_config(config)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), device=device, mu=mu)
    return scheduler


def clean_estimate(noisy: Tensor, velocity: Tensor, sigma: float) -> Tensor:
    """Where the straight path from `noisy` (noise share sigma) leads: the model's present guess of the picture."""
    return noisy - sigma * velocity
