"""The blocks compiled: each kind once, for every size, scale and prompt."""

import importlib.util
import shutil

import torch

from depthwright.engine.acceleration.blocks import Blocks, double_block, single_block


def missing_compiler(device: torch.device) -> str | None:
    """Why nothing can be compiled for a device here, in words that follow "no, "; None if it can."""
    if device.type == "cuda":
        found = importlib.util.find_spec("triton") is not None
        return None if found else "as Triton, which compiles for this device, is not installed"
    from torch._inductor.config import cpp  # noqa: PLC0415 - slow to import, and needed by few

    names = [name for name in cpp.cxx if name]
    if any(shutil.which(name) for name in names):
        return None
    return f"as there is no C++ compiler here (it would be {' or '.join(names)})"


def compiled_blocks() -> Blocks:
    """Functions that compile themselves at their first call, or take what torch kept of an earlier process."""
    return Blocks(
        torch.compile(double_block, dynamic=True, fullgraph=True),
        torch.compile(single_block, dynamic=True, fullgraph=True),
    )
