"""What `flow` descends: velocities, with the weight where words decide.

A noisy picture still shows the colours of its objects: up to t = 0.9 the shipped network's first version named them
from the noise, whatever the caption said, and never learned which word belongs to which of two objects. Only above
that do words decide, so nearly half of all samples are taken there, and the naming head is asked there alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from depthwright.parameters import GUIDANCE_MAX, GUIDANCE_MIN
from training.flow_data import Examples
from training.linear_codec import LinearCodec
from training.model import EmbeddedModel
from training.pointing import colour_words
from training.scenes import MOST_THINGS

TOKEN_SIDE = 32
NAMING_WEIGHT, POINTING_WEIGHT, COLOUR_WEIGHT = 0.3, 0.3, 1.0
# Above this share of noise the picture no longer tells what colour an object has.
WORDS_DECIDE = 0.93


@dataclass(frozen=True)
class Loss:
    """`total` to descend; for the log the plain error over all tokens, objects' mean error, naming's and pointing's."""

    total: Tensor
    plain: Tensor
    colour: Tensor
    naming: Tensor
    pointing: Tensor


def pack(latents: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, H/2 * W/2, 4C], FLUX's order (channel, row, column)."""
    b, c, h, w = latents.shape
    return (
        latents.view(b, c, h // 2, 2, w // 2, 2)
        .permute(0, 2, 4, 1, 3, 5)
        .reshape(b, h // 2 * (w // 2), 4 * c)
    )


def channel_weights(codec: LinearCodec) -> Tensor:
    """Weights of a token's 128 numbers: strong components of pictures weigh more."""
    weights = (codec.spread / codec.spread.mean()).sqrt().clamp(0.6, 4)
    return (weights / weights.mean()).repeat_interleave(4)


def times(count: int, device: str) -> Tensor:
    """Shares of noise: logit-normal, and 45% close to 1, where the words alone decide."""
    t = torch.sigmoid(torch.randn(count, device=device) * 1.1 + 0.7)
    late = 1 - 0.15 * torch.rand(count, device=device).square()
    return torch.where(torch.rand(count, device=device) < 0.45, late, t)


def velocity_loss(
    model: EmbeddedModel,
    codec: LinearCodec,
    batch: Examples,
    weights: Tensor,
    scale: float,
    rng: np.random.Generator,
) -> Loss:
    """The loss of one batch at one control scale."""
    # 1. Clean and control tokens, and how much of each token each object fills.
    device = str(batch.rgb.device)
    with torch.no_grad():
        clean = pack(codec.encode(batch.rgb))
        control = pack(codec.encode(user_depth(batch.depth, rng))) if scale > 0 else None
        shares = object_shares(batch.ids)
    # 2. Velocity somewhere on the way from noise to picture.
    noise = torch.randn_like(clean)
    t = times(len(clean), device)
    noisy = torch.lerp(clean, noise, t[:, None, None])
    # All that a request may tell: it is ignored so far, but what was never told would make noise of pictures.
    guidance = torch.empty(len(clean), device=device).uniform_(GUIDANCE_MIN, GUIDANCE_MAX)
    grid = (batch.rgb.shape[2] // TOKEN_SIDE, batch.rgb.shape[3] // TOKEN_SIDE)
    model.pointing.listen(scale > 0)
    velocity = model.velocity(noisy, control, t, (batch.t5, batch.clip), guidance, grid, scale)
    # 3. Its error: token by token, and object by object, where texture averages out and colour remains.
    error = velocity - (noise - clean)
    square = error.square()
    tokens = ((square * weights).mean(2) * (1 + 3 * shares.sum(1))).mean()
    colour = _mean_colour(error, shares, weights) if scale > 0 else tokens.new_zeros(())
    # 4. Names of what stands where, asked for where only the words can tell (the base places things as it likes).
    #    And the way to them: which word each object's tokens attend to.
    naming = pointing = tokens.new_zeros(())
    if scale > 0:
        naming, pointing = _words_found(model, batch, shares, t > WORDS_DECIDE)
    return Loss(
        tokens + COLOUR_WEIGHT * colour + NAMING_WEIGHT * naming + POINTING_WEIGHT * pointing,
        *(value.detach() for value in (square.mean(), colour, naming, pointing)),
    )


def binding_loss(model: EmbeddedModel, codec: LinearCodec, batch: Examples, rng: np.random.Generator) -> Loss:
    """Names and the way to them alone, from pure noise under a depth map: what stands where, and which word says so."""
    device = str(batch.rgb.device)
    with torch.no_grad():
        control = pack(codec.encode(user_depth(batch.depth, rng)))
        shares = object_shares(batch.ids)
    ones = torch.ones(len(control), device=device)
    grid = (batch.rgb.shape[2] // TOKEN_SIDE, batch.rgb.shape[3] // TOKEN_SIDE)
    model.pointing.listen(True)
    model.velocity(torch.randn_like(control), control, ones, (batch.t5, batch.clip), 3.5 * ones, grid, 1.0)
    naming, pointing = _words_found(model, batch, shares, ones > 0)
    zero = naming.new_zeros(())
    return Loss(NAMING_WEIGHT * naming + pointing, zero, zero, naming.detach(), pointing.detach())


def _words_found(
    model: EmbeddedModel, batch: Examples, shares: Tensor, asked: Tensor
) -> tuple[Tensor, Tensor]:
    """Losses of naming, in the samples that are asked, and of pointing, in all, after a pass that was listened to."""
    words = colour_words(batch.t5, batch.colours, model.colour_ids)
    pointing = model.pointing.loss(words, shares, batch.t5.shape[1])
    model.pointing.listen(False)
    return model.naming.loss(*names(batch, shares, asked)), pointing


def _mean_colour(error: Tensor, shares: Tensor, weights: Tensor) -> Tensor:
    """Weighted square of each object's mean error, over the objects that fill half a token or more."""
    filled = shares.sum(2)
    means = (shares @ error) / filled.clamp_min(0.5)[..., None]
    counted = (filled > 0.5).float()
    return ((means.square() * weights).mean(2) * counted).sum() / counted.sum().clamp_min(1)


def object_shares(ids: Tensor) -> Tensor:
    """The share of each token that each object fills, [B, MOST_THINGS, N]."""
    things = functional.one_hot(ids.long().clamp(min=-1) + 1, MOST_THINGS + 1)[..., 1:]
    return functional.avg_pool2d(things.permute(0, 3, 1, 2).float(), TOKEN_SIDE).flatten(2)


def names(batch: Examples, shares: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
    """Colour and shape of what fills most of each token, [B, N] each; -1 where none fills half, or not asked."""
    share, index = shares.max(1)
    shown = (share > 0.5) & asked[:, None]
    colours, shapes = (
        torch.where(shown, table.gather(1, index), -1) for table in (batch.colours, batch.shapes)
    )
    return colours, shapes


def user_depth(depth: Tensor, rng: np.random.Generator) -> Tensor:
    """Depth maps as users bring them, [B, 3, H, W]: other gammas and ranges than ours, few shades, soft, grainy."""

    def draw(low: float, high: float) -> Tensor:
        values = rng.uniform(low, high, (len(depth), 1, 1)).astype(np.float32)
        return torch.from_numpy(values).to(depth.device)

    def some(share: float, changed: Tensor) -> Tensor:
        return torch.where(draw(0, 1) < share, changed, maps)

    maps = depth
    maps = some(0.5, maps ** draw(0.6, 1.6) * draw(0.75, 1.0))
    shades = draw(5, 14).round()
    maps = some(0.1, (maps * shades).round() / shades)
    maps = some(0.15, functional.avg_pool2d(functional.pad(maps[:, None], (3,) * 4, "replicate"), 7, 1)[:, 0])
    maps = some(0.15, maps + 0.04 * torch.randn_like(maps)).clamp(0, 1)
    return (maps * 2 - 1)[:, None].expand(-1, 3, -1, -1)
