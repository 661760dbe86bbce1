"""Phase `judge`: a network that only measures: it finds objects, and names floor, wall, relief, light and style.

Trained on renders, never shown a generated picture, never shipped in the package: `benchmarks/fidelity.py` reads it.
"""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from depthwright.engine.hardware import multiplies_bfloat16
from training.dataset import Batch, Shards
from training.log import Log
from training.muon import Muon, split
from training.scenes import FLOORS, LIGHTS, RELIEFS, STYLES, WALLS, Scene

ANSWERS = {
    "floor": tuple(FLOORS),
    "wall": ("none", *WALLS),
    "relief": ("none", *RELIEFS),
    "light": tuple(LIGHTS),
    "style": STYLES,
}
SIDE = 128
FIRST_SHARD = 60  # the depth estimator learns from those before
WIDTHS = (24, 32, 48, 64)


def truth(scene: Scene) -> dict[str, str]:
    """What a scene's picture should be recognised as."""
    return {
        "floor": scene.floor,
        "wall": scene.wall or "none",
        "relief": scene.relief or "none",
        "light": scene.light,
        "style": scene.style,
    }


class _Block(nn.Module):
    """Two 3 x 3 convolutions with a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm = nn.GroupNorm(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.silu(self.norm(self.first(x)))
        return x + functional.silu(self.second(x))


class Judge(nn.Module):
    """A U-Net: pictures [B, 3, h, w] in -1..1 (shorter side about 128) -> object mask and attribute scores."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, WIDTHS[0], 4, stride=2, padding=1)
        self.down = nn.ModuleList(_Block(a, b) for a, b in pairwise((WIDTHS[0], *WIDTHS)))
        self.up = nn.ModuleList(_Block(a + b, a) for a, b in pairwise(WIDTHS))
        self.mask = nn.Conv2d(WIDTHS[0], 1, 1)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(4 * WIDTHS[-1], len(words)) for name, words in ANSWERS.items()}
        )

    def forward(self, pictures: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Mask logits [B, h, w] and logits [B, answers] by attribute."""
        levels = self._levels(pictures)
        x = levels[-1]
        half = x.shape[2] // 2
        # Walls and skies are above, floors below: each half is summed up on its own. How far the light of the sun goes
        # beyond that of the sky is told by how much a half varies.
        halves = (x[:, :, :half], x[:, :, half:])
        pooled = torch.cat([one for each in halves for one in (each.mean((2, 3)), _spread(each))], 1)
        for block, level in zip(reversed(self.up), reversed(levels[:-1]), strict=True):
            x = block(torch.cat((functional.interpolate(x, scale_factor=2), level), 1))
        mask = functional.interpolate(self.mask(x), scale_factor=2, mode="bilinear")[:, 0]
        return mask, {name: head(pooled) for name, head in self.heads.items()}

    def features(self, pictures: Tensor) -> Tensor:
        """What a picture is like as a whole [B, 2 * sum of WIDTHS]: means and spreads of every level."""
        levels = self._levels(pictures)
        return torch.cat([one for level in levels for one in (level.mean((2, 3)), _spread(level))], 1)

    def _levels(self, pictures: Tensor) -> list[Tensor]:
        x, levels = self.enter(pictures.contiguous(memory_format=torch.channels_last)), []
        for index, block in enumerate(self.down):
            x = block(functional.avg_pool2d(x, 2) if index else x)
            levels.append(x)
        return levels


def _spread(x: Tensor) -> Tensor:
    """Standard deviations [B, C]; the small number keeps their gradient finite where nothing varies."""
    return (x.var((2, 3)) + 1e-4).sqrt()


def load(path: Path) -> Judge:
    """Read a judge saved by `train`."""
    judge = Judge()
    judge.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return judge.eval()


def prepare(rgb: np.ndarray) -> Tensor:
    """uint8 [B, H, W, 3] -> the judge's input."""
    pictures = torch.from_numpy(rgb.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
    scale = SIDE / min(pictures.shape[2:])
    size = [max(32, round(side * scale / 32) * 32) for side in pictures.shape[2:]]
    return functional.interpolate(pictures, size, mode="bilinear", antialias=True)


def train(folder: Path, target: Path, minutes: float, device: str = "cpu", batch_size: int = 16) -> None:
    """Train for the given time, on from `target` if it is there, and write the judge to it in half precision."""
    torch.manual_seed(4)
    rng = np.random.default_rng(4)
    batches = Shards(folder / "scenes", first=FIRST_SHARD).batches(batch_size, rng)
    judge = _begin(target).to(device)
    matrices, rest = split(judge)
    optimisers = [Muon(matrices, lr=4e-3), torch.optim.AdamW(rest, lr=2e-3, weight_decay=0.0)]
    log = Log(folder / "judge.csv", ("seconds", "step", "loss", "iou", *ANSWERS))
    start, step = time.monotonic(), 0
    bar = tqdm(total=round(minutes * 60), desc="judge", unit="s")
    while (spent := time.monotonic() - start) < minutes * 60:
        rate = min(1.0, (step + 1) / 100) * min(1.0, max(0.02, (1 - spent / (minutes * 60)) / 0.6))
        loss, figures = _loss(judge, next(batches), rng)
        loss.backward()
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        step += 1
        if step % 50 == 0:
            log.row(seconds=round(spent), step=step, loss=float(loss.detach()), **figures)
            bar.set_postfix(step=step, **{name: f"{value:.2f}" for name, value in figures.items()})
        bar.update(round(spent) - bar.n)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half().cpu().contiguous() for name, value in judge.state_dict().items()}, target)


def _begin(path: Path) -> Judge:
    """The judge that is there, as far as it was asked the questions of today."""
    judge = Judge()
    if path.exists():
        wanted = judge.state_dict()
        held = {name: value.float() for name, value in load_file(path).items() if name in wanted}
        fitting = {name: value for name, value in held.items() if value.shape == wanted[name].shape}
        judge.load_state_dict({**wanted, **fitting})
    return judge


def _loss(judge: Judge, batch: Batch, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
    device = next(judge.parameters()).device
    pictures = prepare(batch.rgb).to(device)
    blurred = functional.avg_pool2d(functional.pad(pictures, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    soft = torch.from_numpy(rng.uniform(0, 1, (len(pictures), 1, 1, 1)).astype(np.float32)).to(device)
    pictures = torch.lerp(pictures, blurred, soft) + 0.03 * torch.randn_like(pictures)
    things = torch.from_numpy(batch.ids >= 0).to(device).float()[:, None]
    things = functional.interpolate(things, pictures.shape[2:], mode="area")[:, 0]
    with torch.autocast(device.type, torch.bfloat16, enabled=multiplies_bfloat16(device)):
        mask, scores = judge(pictures)
    mask, scores = mask.float(), {name: score.float() for name, score in scores.items()}
    loss = functional.binary_cross_entropy_with_logits(mask, things)
    both, either = ((mask > 0) & (things > 0.5)).sum(), ((mask > 0) | (things > 0.5)).sum()
    figures = {"iou": float(both / either.clamp_min(1))}
    for name, words in ANSWERS.items():
        right = torch.tensor([words.index(truth(scene)[name]) for scene in batch.scenes], device=device)
        loss = loss + 0.2 * functional.cross_entropy(scores[name], right)
        figures[name] = float((scores[name].argmax(1) == right).float().mean())
    return loss, figures
