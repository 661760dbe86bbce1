"""Phase `guide`: `guidance_scale` gets a meaning, as FLUX-dev got its own: by distilling classifier-free guidance.

The teacher is what `flow` left, asked with the caption and with none; the student, the same network going on, learns
to give the guided velocity in one pass, for the guidance that it is told. Last of the phases that touch the network.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from depthwright.parameters import GUIDANCE_MAX, GUIDANCE_MIN
from training import checkpoint, parallel
from training.autoencoder import load_codec
from training.flow import Plan, begin, descend, draw_scale, save
from training.flow_data import Examples, FlowData
from training.flow_loss import TOKEN_SIDE, channel_weights, pack, times, user_depth
from training.linear_codec import LinearCodec
from training.log import Log
from training.model import EmbeddedModel

# Up to where more guidance weighs more: beyond, pictures would burn out. One sample in five is told more, so that the
# model knows that too.
STRONGEST, BEYOND = 8.0, 0.2
# What one more of it weighs. At 1 the caption stands alone; at FLUX's 3.5 its weight is 2 under control, where the
# depth map says much already, and 3 in the base, which has nothing but the caption.
STRENGTH_CONTROL, STRENGTH_BASE = 0.4, 0.8
# How far a guided estimate is brought back to the spread of the unguided one (Lin and others, 2023): no burn-out.
RESCALED = 0.7


def train(folder: Path, plan: Plan) -> None:
    """Distil for `plan.steps`, on from the last checkpoint; SIGTERM and SIGINT keep what there is and end it."""
    # 1. Teacher and student begin as flow's running average.
    state = begin(folder, plan, "guide", average_of="flow")
    teacher = EmbeddedModel(folder / "embedded").to(plan.device).requires_grad_(False)
    teacher.load_state_dict(checkpoint.load(folder / "flow", plan.device)["average"])
    make_deaf(teacher)
    if state.step == 0:
        make_deaf(state.model)
        state.average.update({name: value.clone() for name, value in state.model.state_dict().items()})
    codec = load_codec(folder / "codec.safetensors").to(plan.device)
    data = FlowData(folder / "scenes", state.model.tokenise, plan.device)
    weights = channel_weights(codec)
    common, rng = parallel.seeded(6, state.step)
    log = Log(folder / "guide.csv", ("step", "loss_control", "loss_base"))
    told: list[tuple[Tensor, Tensor]] = []
    saved = time.monotonic()
    bar = tqdm(total=plan.steps, initial=state.step, desc="guide", unit="step", disable=parallel.rank() > 0)
    with parallel.stoppable() as stopped:
        while state.step < plan.steps and not stopped():
            # 2. One batch under control, one of the base alone, as in `flow`.
            losses = []
            for share, scale in ((plan.control_share, draw_scale(common)), (1 - plan.control_share, 0.0)):
                batch = data.draw(max(1, round(plan.batch * share)), rng)
                loss = _loss(state.model, teacher, data.empty, codec, batch, weights, scale, rng)
                (loss * share).backward()
                losses.append(loss.detach())
            told.append((losses[0], losses[1]))
            # 3. A step; tell, keep.
            descend(state, plan)
            bar.update()
            if state.step % 50 == 0:
                control, base = np.mean([[float(one) for one in pair] for pair in told], axis=0)
                told.clear()
                if parallel.rank() == 0:
                    log.row(step=state.step, loss_control=control, loss_base=base)
            if parallel.rank() == 0 and time.monotonic() - saved > plan.save_every:
                save(folder, state, "guide")
                saved = time.monotonic()
        if parallel.rank() == 0:
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
    guidance = draw_guidance(count, device)
    t = times(count, device)
    grid = (batch.rgb.shape[2] // TOKEN_SIDE, batch.rgb.shape[3] // TOKEN_SIDE)
    with torch.no_grad():
        clean = pack(codec.encode(batch.rgb))
        control = pack(codec.encode(user_depth(batch.depth, rng))) if scale > 0 else None
        noisy = torch.lerp(clean, torch.randn_like(clean), t[:, None, None])
        silent = [ids.expand(count, -1) for ids in empty]
        plain = torch.full_like(guidance, GUIDANCE_MIN)
        with_words = teacher.velocity(noisy, control, t, (batch.t5, batch.clip), plain, grid, scale)
        without = teacher.velocity(noisy, control, t, (silent[0], silent[1]), plain, grid, scale)
        target = guided(noisy, with_words, without, t, caption_weight(guidance, scale))
    velocity = student.velocity(noisy, control, t, (batch.t5, batch.clip), guidance, grid, scale)
    error: Tensor = (velocity - target).square() * weights
    return error.mean()


@torch.no_grad()
def make_deaf(model: EmbeddedModel) -> None:
    """Have the guidance that is told change nothing, whatever it is.

    A `flow` that was told of guidance up to 8 ignores it there, and makes noise of pictures beyond.
    """
    time_text = model.transformer.time_text_embed
    device = model.text_encoder.device
    told = time_text.time_proj(torch.linspace(1, STRONGEST, 200, device=device) * 1000)
    usual = []
    for scale in (0.0, 1.0):
        model.scale.set(scale, device)
        usual.append(time_text.guidance_embedder(told).mean(0))
    # What `flow` made of the first layer hardly tells one guidance from another: a new one does, the same everywhere.
    first, last = time_text.guidance_embedder.linear_1, time_text.guidance_embedder.linear_2
    drawn = torch.empty(first.base.weight.shape)
    nn.init.xavier_uniform_(drawn, generator=torch.Generator().manual_seed(6))
    first.base.weight.copy_(drawn)
    first.base.bias.zero_()
    first.lora_B.zero_()
    last.base.weight.zero_()
    last.base.bias.copy_(usual[0])
    last.lora_B.zero_()
    last.lora_bias.copy_(usual[1] - usual[0])


def draw_guidance(count: int, device: str) -> Tensor:
    """What the student is told, [count]."""
    usual, more = torch.empty(2, count, device=device)
    beyond = torch.rand(count, device=device) < BEYOND
    return torch.where(
        beyond, more.uniform_(STRONGEST, GUIDANCE_MAX), usual.uniform_(GUIDANCE_MIN, STRONGEST)
    )


def caption_weight(guidance: Tensor, scale: float) -> Tensor:
    """What the caption's velocity weighs in the teacher, [B], for the guidance that the student is told."""
    strength = STRENGTH_CONTROL if scale > 0 else STRENGTH_BASE
    return 1 + strength * (guidance.clamp_max(STRONGEST) - 1)


def guided(noisy: Tensor, with_words: Tensor, without: Tensor, t: Tensor, weight: Tensor) -> Tensor:
    """The velocity of classifier-free guidance at these weights, its picture's spread held near the plain one's."""
    t = t[:, None, None].clamp_min(1e-3)
    estimate = noisy - t * with_words
    pushed = noisy - t * torch.lerp(without, with_words, weight[:, None, None])
    spread = estimate.std((1, 2), keepdim=True) / pushed.std((1, 2), keepdim=True).clamp_min(1e-6)
    pushed = torch.lerp(pushed, pushed * spread, RESCALED)
    return (noisy - pushed) / t
