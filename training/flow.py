"""Phase `flow`: the rectified-flow transformer, its text encoders and the control LoRA, trained together."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from training.autoencoder import load_codec
from training.dataset import Batch, Shards
from training.log import Log
from training.model import EmbeddedModel
from training.muon import Muon, split
from training.scenes import COLOURS, SHAPES
from training.sheet import draw_sheet
from training.words import OTHER_WORDS

CONTROL_BATCH, BASE_BATCH = 20, 12
WEIGHT_DECAY = 0.01
NAMING_WEIGHT = 0.15


def pack(latents: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, H/2 * W/2, 4C], FLUX's order (channel, row, column)."""
    b, c, h, w = latents.shape
    return (
        latents.view(b, c, h // 2, 2, w // 2, 2)
        .permute(0, 2, 4, 1, 3, 5)
        .reshape(b, h // 2 * (w // 2), 4 * c)
    )


def train(folder: Path, minutes: float, device: str = "cpu") -> None:
    """Train for the given time, or go on from the last checkpoint; a sheet of samples is drawn at each."""
    shards = Shards(folder / "scenes")
    codec = load_codec(folder / "codec.safetensors").to(device)
    model = EmbeddedModel(folder / "embedded").to(device)
    optimisers = _optimisers(model)
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    weights = (codec.spread / codec.spread.mean()).sqrt().clamp(0.6, 4)
    weights = (weights / weights.mean()).repeat_interleave(4)
    step, spent = _resume(folder / "flow.pt", model, average, optimisers)
    torch.manual_seed(2 + step)
    rng = np.random.default_rng((2, step))
    log = Log(
        folder / "flow.csv", ("seconds", "step", "loss_control", "loss_base", "loss_object", "loss_naming")
    )
    total = spent + minutes * 60
    started = last_saved = time.monotonic() - spent
    recent: list[tuple[float, ...]] = []
    streams = [shards.batches(CONTROL_BATCH, rng), shards.batches(BASE_BATCH, rng)]
    bar = tqdm(total=round(total), initial=round(spent), desc="flow", unit="s")
    while (spent := time.monotonic() - started) < total:
        # 1. One batch under control, one of the base alone.
        told: list[float] = []
        for stream, control in zip(streams, (True, False), strict=True):
            scale = _scale(rng) if control else 0.0
            loss, plain = _loss(model, codec, next(stream), weights, scale, rng, device)
            (loss * (0.625 if control else 0.375)).backward()
            told += plain if control else plain[:1]
        recent.append(tuple(told))
        # 2. A step, at a rate that warms up and decays over the second half of the time.
        rate = min(1.0, (step + 1) / 100) * min(1.0, max(0.03, (1 - spent / total) / 0.5))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        step += 1
        # 3. The running average is what ships.
        decay = min(0.997, (step + 1) / (step + 20))
        with torch.no_grad():
            for name, value in model.state_dict().items():
                average[name].lerp_(value, 1 - decay)
        # 4. Tell, keep, show.
        if step % 50 == 0:
            means = np.mean(recent[-50:], axis=0)
            log.row(
                seconds=round(spent),
                step=step,
                loss_control=means[0],
                loss_base=means[3],
                loss_object=means[1],
                loss_naming=means[2],
            )
            bar.set_postfix(step=step, control=f"{means[0]:.3f}", naming=f"{means[2]:.3f}")
            shards.refresh()
        if time.monotonic() - last_saved > 300:
            last_saved = time.monotonic()
            _save(folder, model, average, optimisers, step, spent)
        bar.update(round(spent) - bar.n)
    _save(folder, model, average, optimisers, step, total)


def _optimisers(model: EmbeddedModel) -> list[torch.optim.Optimizer]:
    """Muon for the base's matrices; AdamW for modulations, embeddings, gains, biases and the LoRA."""
    matrices, rest = split(
        model, exclude=("lora_", "norm", "embed", "shared", "relative", "proj_out", "position", "naming")
    )
    return [
        Muon(matrices, lr=2e-3, weight_decay=WEIGHT_DECAY),
        torch.optim.AdamW(rest, lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _scale(rng: np.random.Generator) -> float:
    return 1.0 if rng.random() < 0.6 else float(rng.uniform(0.5, 2.0))


def _loss(
    model: EmbeddedModel,
    codec: object,
    batch: Batch,
    weights: Tensor,
    scale: float,
    rng: np.random.Generator,
    device: str,
) -> tuple[Tensor, list[float]]:
    """Weighted loss to descend; for the log the plain one over all tokens, over tokens with an object, and naming's."""
    captions = [_reword(text, rng) for text in batch.captions]
    with torch.no_grad():
        picture = torch.from_numpy(batch.rgb).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        clean = pack(codec.encode(picture))  # type: ignore[attr-defined]
        control = pack(codec.encode(_depth(batch.depth, rng, device))) if scale > 0 else None  # type: ignore[attr-defined]
        things = torch.from_numpy(batch.ids >= 0).to(device).float()[:, None]
        coverage = torch.nn.functional.avg_pool2d(things, 32).flatten(1)
    noise = torch.randn_like(clean)
    t = torch.sigmoid(torch.randn(len(clean), device=device) * 1.1 + 0.7)
    noisy = torch.lerp(clean, noise, t[:, None, None])
    guidance = torch.empty(len(clean), device=device).uniform_(1, 8)
    grid = (picture.shape[2] // 32, picture.shape[3] // 32)
    velocity = model(noisy, control, t, model.text(captions), guidance, grid, scale)
    error = (velocity - (noise - clean)).square()
    loss = (error * weights).mean(2) * (1 + 3 * coverage)
    on_object = (error.mean(2) * coverage).sum() / coverage.sum().clamp_min(1)
    naming = model.naming.loss(*_names(batch, device))
    told = [float(value.detach()) for value in (error.mean(), on_object, naming)]
    return loss.mean() + NAMING_WEIGHT * naming, told


def _names(batch: Batch, device: str) -> tuple[Tensor, Tensor]:
    """Colour and shape of the thing that fills most of each token, [B, N] each; -1 where none fills half of it."""
    ids = torch.from_numpy(batch.ids.astype(np.int64)).to(device).clamp(min=-1)
    most = max(len(scene.things) for scene in batch.scenes)
    shares = torch.nn.functional.avg_pool2d(
        torch.nn.functional.one_hot(ids + 1, most + 1)[..., 1:].permute(0, 3, 1, 2).float(), 32
    ).flatten(2)
    share, index = shares.max(1)
    tables = torch.full((2, len(batch.scenes), most), -1, dtype=torch.long, device=device)
    for row, scene in enumerate(batch.scenes):
        for column, thing in enumerate(scene.things):
            tables[0, row, column] = list(COLOURS).index(thing.colour)
            tables[1, row, column] = SHAPES.index(thing.shape)
    targets = torch.where(share > 0.5, tables.gather(2, index.expand(2, -1, -1)), -1)
    return targets[0], targets[1]


def _depth(depth: np.ndarray, rng: np.random.Generator, device: str) -> Tensor:
    """Depth maps as users bring them: other gammas and ranges than ours, for half of the pictures."""
    maps = torch.from_numpy(depth).to(device).float() / 255
    odd = torch.from_numpy(rng.random(len(maps)) < 0.5).to(device)
    gamma = torch.from_numpy(rng.uniform(0.6, 1.6, len(maps)).astype(np.float32)).to(device)
    top = torch.from_numpy(rng.uniform(0.75, 1.0, len(maps)).astype(np.float32)).to(device)
    bent = maps ** gamma[:, None, None] * top[:, None, None]
    maps = torch.where(odd[:, None, None], bent, maps)
    return (maps * 2 - 1)[:, None].expand(-1, 3, -1, -1)


def _reword(text: str, rng: np.random.Generator) -> str:
    """Sometimes no words at all, sometimes words around them that no scene obeys."""
    chance = rng.random()
    if chance < 0.08:
        return ""
    if chance < 0.2:
        extra = " ".join(rng.choice(OTHER_WORDS, size=int(rng.integers(1, 5))))
        return f"{extra} {text}" if rng.random() < 0.5 else f"{text}, {extra}"
    return text


def _resume(
    path: Path, model: EmbeddedModel, average: dict[str, Tensor], optimisers: list[torch.optim.Optimizer]
) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True, map_location=model.text_encoder.device)
    model.load_state_dict(state["model"])
    for name, value in state["average"].items():
        average[name].copy_(value)
    for optimiser, kept in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(kept)
    return int(state["step"]), float(state["seconds"])


def _save(
    folder: Path,
    model: EmbeddedModel,
    average: dict[str, Tensor],
    optimisers: list[torch.optim.Optimizer],
    step: int,
    seconds: float,
) -> None:
    state = {
        "model": model.state_dict(),
        "average": average,
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
        "step": step,
        "seconds": seconds,
    }
    partial = folder / "flow.part"
    torch.save(state, partial)
    partial.replace(folder / "flow.pt")
    current = {name: value.detach().clone() for name, value in model.state_dict().items()}
    model.load_state_dict(average)
    model.save(folder / "embedded")
    draw_sheet(model, folder, folder / "sheets" / f"flow-{step:06d}.png")
    model.load_state_dict(current)
