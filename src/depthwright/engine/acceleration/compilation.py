"""The blocks compiled: each kind once, for every size, scale and prompt."""

import importlib.util
import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._dynamo import mark_dynamic

from depthwright.engine.acceleration.blocks import Blocks, Rotary, double_block, single_block


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
    double: Callable[..., tuple[Tensor, Tensor]] = torch.compile(double_block, dynamic=False, fullgraph=True)
    single: Callable[..., Tensor] = torch.compile(single_block, dynamic=False, fullgraph=True)

    def any_double(block: Any, image: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        _vary(image, rest[-1])
        return double(block, image, *rest)

    def any_single(block: Any, both: Tensor, *rest: Any) -> Tensor:
        _vary(both, rest[-1])
        return single(block, both, *rest)

    return Blocks(any_double, any_single)


def _vary(tokens: Tensor, rotary: Rotary) -> None:
    """Only the number of tokens differs from request to request: with every side left open, tracing takes twice as long
    at each start, as it reasons about widths that never change.
    """
    mark_dynamic(tokens, 1)
    for each in rotary:
        mark_dynamic(each, 0)
