"""Rendered scenes on disk, in shards of one frame size each, and batches drawn from them.

A shard keeps pixels only; its scenes are drawn again from its seed, so captions can be worded anew at every use.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from training.captions import caption
from training.render import render
from training.scenes import Scene, random_scene

SHARD = 128
# Frame sizes in pixels (all near 64 tokens of 32 x 32) and the share of scenes rendered in each.
FRAMES: dict[tuple[int, int], float] = {
    (256, 256): 0.42,
    (192, 352): 0.32,
    (352, 192): 0.10,
    (224, 288): 0.05,
    (288, 224): 0.05,
    (160, 416): 0.03,
    (416, 160): 0.03,
}


def scenes_of(seed: int, frame: tuple[int, int], count: int = SHARD) -> list[Scene]:
    """The scenes of one shard."""
    rng = np.random.default_rng(seed)
    return [random_scene(rng, frame[0] / frame[1], seed=seed * SHARD + index) for index in range(count)]


def render_shards(folder: Path, first: int, count: int, device: str = "cpu", workers: int = 1) -> None:
    """Render shards `first` .. `first + count - 1`; those already there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    seeds = range(first, first + count)
    if workers == 1:
        for seed in tqdm(seeds, desc="scenes", unit="shard"):
            _render_shard(folder, seed, device)
        return
    # Fresh processes: a forked one could not use the GPU.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_alone) as pool:
        done = pool.map(partial(_render_shard, folder, device=device), seeds)
        list(tqdm(done, desc="scenes", unit="shard", total=count))


def _alone() -> None:
    torch.set_num_threads(1)


def _render_shard(folder: Path, seed: int, device: str) -> None:
    frame = _frame_of(seed)
    path = folder / f"{seed:05d}-{frame[0]}x{frame[1]}.npz"
    if path.exists():
        return
    renders = [render(scene, *frame, device=device) for scene in scenes_of(seed, frame)]
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.savez(
            file,
            rgb=np.stack([r.rgb for r in renders]),
            depth=np.stack([(r.depth * 255).round().astype(np.uint8) for r in renders]),
            ids=np.stack([r.ids for r in renders]),
        )
    unfinished.replace(path)


def _frame_of(seed: int) -> tuple[int, int]:
    frames = list(FRAMES)
    return frames[int(np.random.default_rng((seed, 7)).choice(len(frames), p=list(FRAMES.values())))]


@dataclass(frozen=True)
class Batch:
    """rgb uint8 [B, H, W, 3], depth uint8 [B, H, W], ids int8 [B, H, W], the scenes and a caption for each."""

    rgb: np.ndarray
    depth: np.ndarray
    ids: np.ndarray
    scenes: list[Scene]
    captions: list[str]


class Shards:
    """All shards of a folder, held in memory; new ones are picked up by `refresh`."""

    def __init__(self, folder: Path, first: int = 0, last: int = 10**9) -> None:
        self.folder, self.first, self.last = folder, first, last
        self.held: dict[str, tuple[dict[str, np.ndarray], list[Scene]]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Load shards that were written since the last look."""
        for path in sorted(self.folder.glob("*.npz")):
            seed, frame = path.stem.split("-")
            if path.name in self.held or not self.first <= int(seed) <= self.last:
                continue
            width, height = (int(side) for side in frame.split("x"))
            with np.load(path) as file:
                arrays = {name: file[name] for name in ("rgb", "depth", "ids")}
            self.held[path.name] = (arrays, scenes_of(int(seed), (width, height), len(arrays["rgb"])))

    def __len__(self) -> int:
        return sum(len(scenes) for _, scenes in self.held.values())

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[Batch]:
        """Endless batches; each is of one frame size, drawn over all its shards, half of it mirrored."""
        while True:
            frames: dict[str, list[str]] = {}
            for name in self.held:
                frames.setdefault(name.split("-")[1], []).append(name)
            counts = np.array([len(names) for names in frames.values()], dtype=float)
            names = frames[list(frames)[rng.choice(len(counts), p=counts / counts.sum())]]
            yield self._draw(names, size, rng)

    def _draw(self, names: list[str], size: int, rng: np.random.Generator) -> Batch:
        rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        scenes: list[Scene] = []
        for _ in range(size):
            arrays, all_scenes = self.held[names[rng.integers(len(names))]]
            index = int(rng.integers(len(all_scenes)))
            step = -1 if rng.random() < 0.5 else 1
            rows.append(tuple(arrays[key][index][:, ::step] for key in ("rgb", "depth", "ids")))
            scenes.append(all_scenes[index] if step == 1 else all_scenes[index].mirrored())
        rgb, depth, ids = (np.stack(part) for part in zip(*rows, strict=True))
        return Batch(rgb, depth, ids, scenes, [caption(scene, rng) for scene in scenes])
