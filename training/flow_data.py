"""Rendered scenes as `flow` reads them: on the device that trains, with their captions as tokens already.

Captions are worded and tokenised once for every scene and its mirror image, several wordings each: drawing a batch is
then indexing alone, and a GPU does not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.captions import caption
from training.dataset import scenes_of
from training.scenes import COLOURS, MOST_THINGS, SHAPES, Scene
from training.words import OTHER_WORDS

WORDINGS = 4
EMPTY_SHARE = 0.08

Tokenise = Callable[[Sequence[str]], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Examples:
    """One batch: rgb [B, 3, H, W] in -1..1, depth [B, H, W] in 0..1, ids int8 [B, H, W], token ids of T5 and CLIP
    [B, L], and the colour and the shape of each thing [B, MOST_THINGS], -1 where there is none.
    """

    rgb: Tensor
    depth: Tensor
    ids: Tensor
    t5: Tensor
    clip: Tensor
    colours: Tensor
    shapes: Tensor


class FlowData:
    """All shards of a folder, frame size by frame size; new ones are picked up by `refresh`."""

    def __init__(self, folder: Path, tokenise: Tokenise, device: str) -> None:
        self.folder, self.tokenise, self.device = folder, tokenise, device
        self.empty = [ids.to(device) for ids in tokenise([""])]
        self.seen: set[str] = set()
        self.frames: dict[str, dict[str, Tensor]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Load shards that were written since the last look."""
        loaded: dict[str, list[dict[str, Tensor]]] = {}
        for path in sorted(self.folder.glob("*.npz")):
            if path.name not in self.seen:
                self.seen.add(path.name)
                loaded.setdefault(path.stem.split("-")[1], []).append(self._load(path))
        while loaded:
            frame, shards = loaded.popitem()
            if frame in self.frames:
                shards.insert(0, self.frames.pop(frame))
            # Joined name by name, the parts let go of at once: scenes never take twice their memory.
            self.frames[frame] = {
                name: torch.cat([shard.pop(name) for shard in shards]) for name in list(shards[0])
            }

    def __len__(self) -> int:
        return sum(len(held["rgb"]) for held in self.frames.values())

    def draw(self, size: int, rng: np.random.Generator) -> Examples:
        """A batch of one frame size, half of it mirrored, a few captions empty."""
        # 1. A frame size, as often as there are scenes of it; scenes of it, and which of them are mirrored.
        counts = np.array([len(held["rgb"]) for held in self.frames.values()], dtype=float)
        held = list(self.frames.values())[rng.choice(len(counts), p=counts / counts.sum())]
        rows = torch.from_numpy(rng.integers(len(held["rgb"]), size=size)).to(self.device)
        mirrored = torch.from_numpy(rng.random(size) < 0.5).to(self.device)
        wording = torch.from_numpy(rng.integers(WORDINGS, size=size)).to(self.device)
        silent = torch.from_numpy(rng.random(size) < EMPTY_SHARE).to(self.device)[:, None]
        # 2. Pixels.
        pixels = {}
        for name in ("rgb", "depth", "ids"):
            chosen = held[name][rows]
            flag = mirrored.view(-1, *[1] * (chosen.ndim - 1))
            pixels[name] = torch.where(flag, chosen.flip(2), chosen)
        # 3. Words.
        t5, clip = (held[name][rows, mirrored.long(), wording].long() for name in ("t5", "clip"))
        return Examples(
            rgb=pixels["rgb"].permute(0, 3, 1, 2).float() / 127.5 - 1,
            depth=pixels["depth"].float() / 255,
            ids=pixels["ids"],
            t5=torch.where(silent, self.empty[0], t5),
            clip=torch.where(silent, self.empty[1], clip),
            colours=held["colours"][rows],
            shapes=held["shapes"][rows],
        )

    def _load(self, path: Path) -> dict[str, Tensor]:
        seed, frame = path.stem.split("-")
        width, height = (int(side) for side in frame.split("x"))
        with np.load(path) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in ("rgb", "depth", "ids")}
        scenes = scenes_of(int(seed), (width, height), len(arrays["rgb"]))
        rng = np.random.default_rng((int(seed), 13))
        texts = [
            reword(caption(one, rng), rng)
            for scene in scenes
            for one in (scene, scene.mirrored())
            for _ in range(WORDINGS)
        ]
        t5, clip = self.tokenise(texts)
        arrays["t5"], arrays["clip"] = (ids.view(len(scenes), 2, WORDINGS, -1).short() for ids in (t5, clip))
        arrays["colours"], arrays["shapes"] = _names(scenes)
        return {name: value.to(self.device) for name, value in arrays.items()}


def _names(scenes: list[Scene]) -> tuple[Tensor, Tensor]:
    tables = torch.full((2, len(scenes), MOST_THINGS), -1, dtype=torch.long)
    for row, scene in enumerate(scenes):
        for column, thing in enumerate(scene.things):
            tables[0, row, column] = list(COLOURS).index(thing.colour)
            tables[1, row, column] = SHAPES.index(thing.shape)
    return tables[0], tables[1]


def reword(text: str, rng: np.random.Generator) -> str:
    """Sometimes words around the caption that no scene obeys."""
    if rng.random() > 0.13:
        return text
    extra = " ".join(rng.choice(OTHER_WORDS, size=int(rng.integers(1, 5))))
    return f"{extra} {text}" if rng.random() < 0.5 else f"{text}, {extra}"
