"""A sheet of samples from a network under training: depth map, true render, then control scales side by side."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from training.autoencoder import load_codec
from training.captions import caption
from training.dataset import Shards

if TYPE_CHECKING:
    from training.model import EmbeddedModel

SCALES = (0.0, 0.5, 1.0, 1.0, 2.0)
SHIFT = 2.0


@torch.no_grad()
def sample(
    model: EmbeddedModel,
    text: list[str],
    control: Tensor,
    grid: tuple[int, int],
    scale: float,
    steps: int,
    seed: int,
) -> Tensor:
    """Euler from noise to latents [B, N, 128]; `control` is packed."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(control.shape, generator=generator).to(control.device)
    sigmas = torch.linspace(1, 1 / steps, steps)
    sigmas = torch.cat((SHIFT * sigmas / (1 + (SHIFT - 1) * sigmas), torch.zeros(1)))
    embedded = model.text(text)
    guidance = torch.full((len(x),), 3.5, device=x.device)
    for now, then in pairwise(sigmas):
        t = torch.full((len(x),), float(now), device=x.device)
        velocity = model(x, control if scale > 0 else None, t, embedded, guidance, grid, scale)
        x = x + (then - now) * velocity
    return x


def unpack(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """[B, N, 4C] -> [B, C, 2 rows, 2 columns]."""
    b, _, width = tokens.shape
    rows, columns = grid
    x = tokens.view(b, rows, columns, width // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return x.reshape(b, width // 4, rows * 2, columns * 2)


def draw_sheet(model: EmbeddedModel, folder: Path, path: Path, count: int = 10, steps: int = 16) -> None:
    """Held-out scenes of one frame size (square if there are any), one row each, captions beneath."""
    from training.flow_loss import pack

    codec = load_codec(folder / "codec.safetensors").to(str(model.text_encoder.device))
    held = Shards(folder / "heldout").held
    arrays, scenes = held[min(held, key=lambda name: (not name.endswith("256x256.npz"), name))]
    height = arrays["rgb"].shape[1]
    grid = (height // 32, arrays["rgb"].shape[2] // 32)
    depth = torch.from_numpy(arrays["depth"][:count]).float() / 127.5 - 1
    control = pack(codec.encode(depth[:, None].expand(-1, 3, -1, -1).to(codec.mean.device)))
    texts = [caption(scene) for scene in scenes[:count]]
    columns = [arrays["depth"][:count, :, :, None].repeat(3, -1), arrays["rgb"][:count]]
    for index, scale in enumerate(SCALES):
        tokens = sample(model, texts, control, grid, scale, steps, seed=index)
        pixels = codec.decode(unpack(tokens, grid)).clamp(-1, 1).permute(0, 2, 3, 1)
        columns.append(((pixels + 1) * 127.5).round().byte().cpu().numpy())
    sheet = Image.fromarray(np.concatenate([np.concatenate(list(column), 0) for column in columns], 1))
    draw = ImageDraw.Draw(sheet)
    for row, text in enumerate(texts):
        draw.text(
            (4, (row + 1) * height - 14),
            f"{text}   | scales {SCALES}",
            fill="white",
            stroke_width=1,
            stroke_fill="black",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
