"""The encoder's weights, without training: principal components of pixels, stacked level by level.

Each level folds 2 x 2 neighbours into one position (times four channels) and keeps the strongest components. The same
map is written into a real `AutoencoderKL` encoder: the stride-2 convolutions hold the components, the residual branches
are zero, and the tail is made linear by two facts: silu(x) - silu(-x) = x, and a pair of large opposite constants
holds the last GroupNorm's scale, whatever the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import Tensor

KEPT = (12, 32, 48, 32)
CONSTANT = 60.0


def fold(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, 4C, H/2, W/2]: channel order (row, column, channel)."""
    b, c, h, w = x.shape
    return x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(b, 4 * c, h // 2, w // 2)


def unfold(x: Tensor) -> Tensor:
    """The inverse of `fold`."""
    b, c, h, w = x.shape
    return x.view(b, 2, 2, c // 4, h, w).permute(0, 3, 4, 1, 5, 2).reshape(b, c // 4, 2 * h, 2 * w)


@dataclass(frozen=True)
class LinearCodec:
    """`levels[i]` is [kept, 4 * channels before]; latents are (folded - mean) / spread, all per channel."""

    levels: tuple[Tensor, ...]
    mean: Tensor
    spread: Tensor

    def encode(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] in -1..1 -> latents [B, 32, H/16, W/16], about unit variance."""
        for level in self.levels:
            pixels = torch.einsum("oc,bchw->bohw", level, fold(pixels))
        return (pixels - self.mean[:, None, None]) / self.spread[:, None, None]

    def decode(self, latents: Tensor) -> Tensor:
        """The linear way back, [B, 3, H, W] in about -1..1: what the trained decoder has to beat."""
        x = latents * self.spread[:, None, None] + self.mean[:, None, None]
        for level in reversed(self.levels):
            x = unfold(torch.einsum("oc,bohw->bchw", level, x))
        return x

    def to(self, device: str) -> LinearCodec:
        """The codec on a device."""
        return LinearCodec(
            tuple(x.to(device) for x in self.levels), self.mean.to(device), self.spread.to(device)
        )


def fit(pixels: Tensor, floor: float = 0.25) -> LinearCodec:
    """Fit to pictures [N, 3, H, W] in -1..1. Components weaker than `floor` stay small: they are mostly noise."""
    levels: list[Tensor] = []
    x = pixels
    for kept in KEPT:
        x = fold(x)
        flat = x.permute(1, 0, 2, 3).flatten(1)
        second_moment = (flat @ flat.T / flat.shape[1]).double()
        components = torch.linalg.eigh(second_moment).eigenvectors.flip(1)[:, :kept].T.float()
        signs = torch.where(components.sum(1, keepdim=True) < 0, -1.0, 1.0)
        components = components * signs
        levels.append(components)
        x = torch.einsum("oc,bchw->bohw", components, x)
    flat = x.permute(1, 0, 2, 3).flatten(1)
    return LinearCodec(tuple(levels), flat.mean(1), flat.std(1).clamp_min(floor))


@torch.no_grad()
def install(codec: LinearCodec, vae: AutoencoderKL) -> None:
    """Write the codec into the autoencoder's encoder and freeze it."""
    encoder = vae.encoder
    for parameter in encoder.parameters():
        parameter.zero_()
        parameter.requires_grad_(False)
    _identity(encoder.conv_in.weight, 3)
    last = len(encoder.down_blocks) - 1
    for index, block in enumerate(encoder.down_blocks):
        for resnet in block.resnets:
            if resnet.conv_shortcut is not None:
                _identity(resnet.conv_shortcut.weight, resnet.conv_shortcut.weight.shape[1])
        if index < last:
            # diffusers pads (0, 1, 0, 1) and strides by 2: the kernel's top left 2 x 2 is the folded block.
            level, kernel = codec.levels[index], block.downsamplers[0].conv.weight
            kept, channels = level.shape[0], level.shape[1] // 4
            kernel[:kept, :channels, :2, :2] = level.view(kept, 2, 2, channels).permute(0, 3, 1, 2)
    # The last level's entrance holds +latent, -latent and the constants, in every group of the last norm.
    groups = encoder.conv_norm_out.num_groups
    width = encoder.conv_norm_out.num_channels // groups
    per_group = len(codec.mean) // groups
    entrance = encoder.down_blocks[last].resnets[0].conv_shortcut
    entrance.weight.zero_()
    spread = CONSTANT * (2 / width) ** 0.5
    for latent, row in enumerate(_entrances(encoder.conv_norm_out, len(codec.mean))):
        for sign, channel in ((1.0, row), (-1.0, row + 1)):
            entrance.weight[channel, latent, 0, 0] = sign / codec.spread[latent]
            entrance.bias[channel] = -sign * codec.mean[latent] / codec.spread[latent]
            encoder.conv_out.weight[latent, channel, 1, 1] = sign * spread
    for group in range(groups):
        entrance.bias[group * width + 2 * per_group] = CONSTANT
        entrance.bias[group * width + 2 * per_group + 1] = -CONSTANT
    encoder.conv_norm_out.weight.fill_(1.0)
    # The posterior's log-variance: as good as none.
    encoder.conv_out.bias[len(codec.mean) :] = -30.0


@torch.no_grad()
def read(vae: AutoencoderKL) -> LinearCodec:
    """The codec that `install` wrote into an autoencoder."""
    encoder = vae.encoder
    levels: list[Tensor] = []
    channels = 3
    for kept, block in zip(KEPT, encoder.down_blocks, strict=False):
        kernel = block.downsamplers[0].conv.weight[:kept, :channels, :2, :2]
        levels.append(kernel.permute(0, 2, 3, 1).reshape(kept, 4 * channels).clone())
        channels = kept
    entrance = encoder.down_blocks[-1].resnets[0].conv_shortcut
    rows = _entrances(encoder.conv_norm_out, KEPT[-1])
    spread = torch.stack([1 / entrance.weight[row, latent, 0, 0] for latent, row in enumerate(rows)])
    return LinearCodec(tuple(levels), -entrance.bias[rows] * spread, spread)


def _entrances(norm: torch.nn.GroupNorm, latents: int) -> list[int]:
    """The channel that holds +latent, for each latent; the next one holds -latent."""
    width, per_group = norm.num_channels // norm.num_groups, latents // norm.num_groups
    return [latent // per_group * width + 2 * (latent % per_group) for latent in range(latents)]


def _identity(weight: Tensor, channels: int) -> None:
    centre = weight.shape[-1] // 2
    for channel in range(channels):
        weight[channel, channel, centre, centre] = 1.0
