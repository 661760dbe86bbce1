"""The blocks compiled: each kind once, for every size, scale and prompt."""

import importlib.util
import os
import shutil
from pathlib import Path

import torch

from depthwright.engine.acceleration.blocks import Blocks, double_block, single_block

_FOLDER = "TORCHINDUCTOR_CACHE_DIR"


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


def compiled_blocks(cache_dir: Path | None) -> Blocks:
    """Functions that compile themselves at their first call, or take what `cache_dir` holds of an earlier process."""
    if cache_dir is not None:
        # Torch keeps what it compiled under a digest of code, shapes and versions, where this says; by default in a
        # folder for temporary files, which does not outlive a restart of the machine.
        os.environ.setdefault(_FOLDER, str(cache_dir / "compiled"))
    return Blocks(
        torch.compile(double_block, dynamic=True, fullgraph=True),
        torch.compile(single_block, dynamic=True, fullgraph=True),
    )
