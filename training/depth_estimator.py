"""Phase `depth`: a small GLPN that sees depth in renders, drawings and simple photos. Near is large."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm
from transformers import DPTImageProcessorPil, GLPNConfig, GLPNForDepthEstimation

from training.dataset import Batch, Shards
from training.log import Log
from training.muon import Muon, split

SIDE = 128
# Held-out renders are seen best a little larger than trained: RMSE 12.2 at 160, 14.5 at 128, 14.6 at 192.
SEEN_SIDE = 160


def build() -> GLPNForDepthEstimation:
    """The untrained network: 1 M parameters, depth at the input's own resolution, 0..1."""
    return GLPNForDepthEstimation(
        GLPNConfig(
            hidden_sizes=[24, 48, 80, 128],
            depths=[2, 2, 2, 2],
            num_attention_heads=[1, 2, 4, 4],
            sr_ratios=[8, 4, 2, 1],
            mlp_ratios=[3, 3, 3, 3],
            decoder_hidden_size=24,
            drop_path_rate=0.0,
            max_depth=1,
        )
    )


def train(folder: Path, minutes: float, device: str = "cpu", batch_size: int = 8) -> None:
    """Train for the given time, on from the last weights if any."""
    torch.manual_seed(3)
    rng = np.random.default_rng(3)
    batches = Shards(folder / "scenes", last=60).batches(batch_size, rng)
    model = build().to(device).train()
    if (kept := folder / "depth.safetensors").exists():
        model.load_state_dict(load_file(kept))
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    matrices, rest = split(model)
    optimisers = [
        Muon(matrices, lr=1.5e-3, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=1e-3, weight_decay=0.0),
    ]
    log = Log(folder / "depth.csv", ("seconds", "step", "loss", "rmse"))
    start, step = time.monotonic(), 0
    bar = tqdm(total=round(minutes * 60), desc="depth", unit="s")
    while (spent := time.monotonic() - start) < minutes * 60:
        progress = spent / (minutes * 60)
        rate = min(1.0, (step + 1) / 100) * min(1.0, max(0.02, (1 - progress) / 0.6))
        picture, target, weight = _examples(next(batches), rng, device)
        loss, rmse = _loss(model(picture).predicted_depth, target, weight)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        step += 1
        decay = min(0.995, (step + 1) / (step + 20))
        with torch.no_grad():
            for name, value in model.state_dict().items():
                if value.is_floating_point():
                    average[name].lerp_(value, 1 - decay)
                else:
                    average[name].copy_(value)
        if step % 50 == 0:
            log.row(seconds=round(spent), step=step, loss=float(loss.detach()), rmse=rmse)
            bar.set_postfix(step=step, rmse=f"{rmse:.1f}")
        bar.update(round(spent) - bar.n)
    save_file(average, kept)
    model.load_state_dict(average)
    save(model, folder / "embedded" / "depth_estimator")


def save(model: GLPNForDepthEstimation, folder: Path) -> None:
    """Write the model and its image processor: sides multiples of 32."""
    model.to("cpu").eval().save_pretrained(folder)
    DPTImageProcessorPil(
        size={"height": SEEN_SIDE, "width": SEEN_SIDE},
        keep_aspect_ratio=True,
        ensure_multiple_of=32,
        resample=2,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    ).save_pretrained(folder)


def _loss(predicted: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, float]:
    error = predicted - target
    edges = (predicted.diff(dim=1) - target.diff(dim=1)).abs().mean()
    edges = edges + (predicted.diff(dim=2) - target.diff(dim=2)).abs().mean()
    rmse = float(error.detach().square().mean((1, 2)).sqrt().mean() * 255)
    return (weight * error.abs()).mean() + 2 * (weight * error.square()).mean() + 2 * edges, rmse


def _examples(batch: Batch, rng: np.random.Generator, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Augmented pictures [B, 3, h, w] in -1..1, depth [B, h, w] in 0..1, and weights: objects count threefold."""
    picture = torch.from_numpy(batch.rgb).to(device).permute(0, 3, 1, 2).float() / 255
    depth = torch.from_numpy(batch.depth).to(device).float()[:, None] / 255
    things = torch.from_numpy(batch.ids >= 0).to(device).float()[:, None]
    scale = SIDE / min(depth.shape[2:])
    size = [max(32, round(side * scale / 32) * 32) for side in depth.shape[2:]]
    picture = functional.interpolate(picture, size, mode="bilinear", antialias=True)
    depth = functional.interpolate(depth, size, mode="bilinear", antialias=True)
    things = functional.interpolate(things, size, mode="area")
    return _photometric(picture, rng) * 2 - 1, depth[:, 0], 1 + 2 * things[:, 0]


def _photometric(picture: Tensor, rng: np.random.Generator) -> Tensor:
    """Other cameras and lights: gain, gamma, tint, grey, blur, noise."""

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        values = rng.uniform(low, high, (len(picture), channels, 1, 1)).astype(np.float32)
        return torch.from_numpy(values).to(picture.device)

    def chosen(share: float) -> Tensor:
        return draw(0, 1) < share

    x = picture * draw(0.7, 1.25) * draw(0.85, 1.15, 3) + draw(-0.1, 0.1)
    x = x.clamp(1e-3, 1) ** draw(0.7, 1.5)
    grey = x.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    x = torch.where(chosen(0.08), grey, x)
    soft = functional.avg_pool2d(functional.pad(x, (2, 2, 2, 2), mode="reflect"), 5, stride=1)
    x = torch.where(chosen(0.3), torch.lerp(x, soft, draw(0.3, 1.0)), x)
    return (x + draw(0, 0.06) * torch.randn_like(x)).clamp(0, 1)
