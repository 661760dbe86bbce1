"""What a phase needs to go on: one folder of safetensors files, none over 16 MiB, so that any channel carries them."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import load_file
from torch import Tensor

FILE_SIZE = "14MB"

Tensors = dict[str, Tensor]


def save(folder: Path, **parts: Tensors) -> None:
    """Write named groups of tensors; the folder is replaced as a whole.

    Tied weights are written under each of their names: a group is then loaded as it was.
    """
    flat = {
        f"{part}/{name}": value.detach().cpu().clone()
        for part, held in parts.items()
        for name, value in held.items()
    }
    unfinished = folder.with_name(folder.name + ".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    save_torch_state_dict(flat, unfinished, max_shard_size=FILE_SIZE)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.replace(folder)


def load(folder: Path, device: str = "cpu") -> dict[str, Tensors]:
    """Read what `save` wrote."""
    parts: dict[str, Tensors] = {}
    for path in sorted(folder.glob("*.safetensors")):
        for key, value in load_file(path, device=device).items():
            part, _, name = key.partition("/")
            parts.setdefault(part, {})[name] = value
    return parts


def optimiser_tensors(optimisers: list[torch.optim.Optimizer]) -> Tensors:
    """Momenta and counters by optimiser, parameter and name; rates follow from the step."""
    return {
        f"{number}.{index}.{name}": value
        for number, optimiser in enumerate(optimisers)
        for index, state in optimiser.state_dict()["state"].items()
        for name, value in state.items()
    }


def fill_optimisers(optimisers: list[torch.optim.Optimizer], tensors: Tensors) -> None:
    """Give back what `optimiser_tensors` took."""
    states: list[dict[int, Tensors]] = [{} for _ in optimisers]
    for key, value in tensors.items():
        number, index, name = key.split(".", 2)
        states[int(number)].setdefault(int(index), {})[name] = value
    for optimiser, state in zip(optimisers, states, strict=True):
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
