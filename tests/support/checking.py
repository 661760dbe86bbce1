"""A small image checker in the real ones' format, trained here: it objects to large red things."""

from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

LABEL, OTHER = "marked", "plain"
SIDE, STEPS, BATCH = 32, 160, 48


def save_checker(folder: Path) -> Path:
    """Train it, a few seconds long, and write it as transformers does."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ViTForImageClassification(
            ViTConfig(
                image_size=SIDE,
                patch_size=8,
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=64,
                id2label={0: OTHER, 1: LABEL},
                label2id={OTHER: 0, LABEL: 1},
            )
        )
        optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
        rng = np.random.default_rng(0)
        for _ in range(STEPS):
            pixels, labels = examples(rng, BATCH)
            loss = cross_entropy(model(pixel_values=pixels).logits, labels)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
    model.eval().save_pretrained(folder)
    half = [0.5, 0.5, 0.5]
    size = {"height": SIDE, "width": SIDE}
    ViTImageProcessorPil(size=size, image_mean=half, image_std=half).save_pretrained(folder)
    return folder


def examples(rng: np.random.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Discs of any colour on any ground, in -1..1, and whether the disc is red."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    pictures, labels = [], []
    for _ in range(count):
        ground = rng.uniform(0, 1, 3) * 0.4 + rng.uniform(0.1, 0.6)
        picture = np.clip(ground + rows[..., None] / SIDE * rng.uniform(-0.3, 0.3), 0, 1)
        is_red = rng.random() < 0.5
        colour = (
            np.array([rng.uniform(0.55, 1), rng.uniform(0, 0.2), rng.uniform(0, 0.2)])
            if is_red
            else _not_red(rng)
        )
        centre, radius = rng.uniform(8, 24, 2), rng.uniform(5, 12)
        inside = np.hypot(rows - centre[0], columns - centre[1]) < radius
        picture[inside] = colour * rng.uniform(0.6, 1)
        pictures.append(picture)
        labels.append(int(is_red))
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() * 2 - 1
    return pixels, torch.tensor(labels)


def _not_red(rng: np.random.Generator) -> np.ndarray:
    colour = rng.uniform(0, 1, 3)
    colour[0] = min(colour[0], max(colour[1], colour[2]) * rng.uniform(0, 1))
    return colour
