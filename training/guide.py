"""Phase `guide`: `guidance_scale` gets a meaning, as FLUX-dev got its own: by distilling classifier-free guidance.

The teacher is what `flow` left, asked with the caption and with none; the student, the same network going on, learns
to give the guided velocity in one pass, for the guidance that it is told. Last of the phases that touch the network.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from training import checkpoint
from training.autoencoder import load_codec
from training.flow import CONTROL_SHARE, Plan, begin, descend, draw_scale, save
from training.flow_data import Examples, FlowData
from training.flow_loss import TOKEN_SIDE, channel_weights, pack, times, user_depth
from training.linear_codec import LinearCodec
from training.log import Log
from training.model import EmbeddedModel

# The range told to the model, and what a step of it weighs: 1 is the caption alone, 6 a weight of 1.75.
GUIDANCE = (1.0, 8.0)
STRENGTH = 0.15
# How far a guided estimate is brought back to the spread of the unguided one (Lin and others, 2023): no burn-out.
RESCALED = 0.6


def train(folder: Path, plan: Plan) -> None:
    """Distil for `plan.steps`, on from the last checkpoint of this phase if there is one."""
    # 1. Teacher and student begin as flow's running average.
    state = begin(folder, plan, "guide", average_of="flow")
    teacher = EmbeddedModel(folder / "embedded").to(plan.device).requires_grad_(False)
    teacher.load_state_dict(checkpoint.load(folder / "flow", plan.device)["average"])
    codec = load_codec(folder / "codec.safetensors").to(plan.device)
    data = FlowData(folder / "scenes", state.model.tokenise, plan.device)
    weights = channel_weights(codec)
    rng = np.random.default_rng((6, state.step))
    torch.manual_seed(6 + state.step)
    log = Log(folder / "guide.csv", ("step", "loss_control", "loss_base"))
    told: list[tuple[Tensor, Tensor]] = []
    saved = time.monotonic()
    for _ in tqdm(range(state.step, plan.steps), desc="guide", unit="step"):
        # 2. One batch under control, one of the base alone, as in `flow`.
        losses = []
        for share, scale in ((CONTROL_SHARE, draw_scale(rng)), (1 - CONTROL_SHARE, 0.0)):
            batch = data.draw(max(1, round(plan.batch * share)), rng)
            loss = _loss(state.model, teacher, data.empty, codec, batch, weights, scale, rng)
            (loss * share).backward()
            losses.append(loss.detach())
        told.append((losses[0], losses[1]))
        # 3. A step; tell, keep.
        descend(state, plan)
        if state.step % 50 == 0:
            control, base = np.mean([[float(one) for one in pair] for pair in told], axis=0)
            told.clear()
            log.row(step=state.step, loss_control=control, loss_base=base)
        if time.monotonic() - saved > plan.save_every:
            save(folder, state, "guide")
            saved = time.monotonic()
    save(folder, state, "guide")


def _loss(
    student: EmbeddedModel,
    teacher: EmbeddedModel,
    empty: list[Tensor],
    codec: LinearCodec,
    batch: Examples,
    weights: Tensor,
    scale: float,
    rng: np.random.Generator,
) -> Tensor:
    """Error of the student's one pass against the teacher's two."""
    count, device = len(batch.rgb), str(batch.rgb.device)
    low, high = GUIDANCE
    guidance = torch.empty(count, device=device).uniform_(low, high)
    t = times(count, device)
    grid = (batch.rgb.shape[2] // TOKEN_SIDE, batch.rgb.shape[3] // TOKEN_SIDE)
    with torch.no_grad():
        clean = pack(codec.encode(batch.rgb))
        control = pack(codec.encode(user_depth(batch.depth, rng))) if scale > 0 else None
        noisy = torch.lerp(clean, torch.randn_like(clean), t[:, None, None])
        silent = [ids.expand(count, -1) for ids in empty]
        plain = torch.full_like(guidance, low)
        with_words = teacher.velocity(noisy, control, t, (batch.t5, batch.clip), plain, grid, scale)
        without = teacher.velocity(noisy, control, t, (silent[0], silent[1]), plain, grid, scale)
        target = guided(noisy, with_words, without, t, guidance)
    velocity = student.velocity(noisy, control, t, (batch.t5, batch.clip), guidance, grid, scale)
    error: Tensor = (velocity - target).square() * weights
    return error.mean()


def guided(noisy: Tensor, with_words: Tensor, without: Tensor, t: Tensor, guidance: Tensor) -> Tensor:
    """The velocity of classifier-free guidance at these scales, its picture's spread held near the plain one's."""
    t = t[:, None, None].clamp_min(1e-3)
    weight = 1 + STRENGTH * (guidance[:, None, None] - 1)
    estimate = noisy - t * with_words
    pushed = noisy - t * torch.lerp(without, with_words, weight)
    spread = estimate.std((1, 2), keepdim=True) / pushed.std((1, 2), keepdim=True).clamp_min(1e-6)
    pushed = torch.lerp(pushed, pushed * spread, RESCALED)
    return (noisy - pushed) / t
