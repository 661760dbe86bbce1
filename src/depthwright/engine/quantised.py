"""Large weights in eight bits by torchao, widened as they are used."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from depthwright.errors import EngineNotInstalled
from depthwright.quietly import quietly


def to_int8(model: Any, device: torch.device, spared: Sequence[str]) -> Any:
    """Store linears as int8 with a scale for each output, on the device, but those of which a pattern is found in the
    name. Raises EngineNotInstalled.

    Layer by layer: the device never holds all the wide weights beside the narrow ones.
    """
    with quietly():
        try:
            from torchao.quantization import Int8WeightOnlyConfig, quantize_  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise EngineNotInstalled(
                "This profile stores weights in int8, which takes torchao: pip install 'depthwright[int8]'."
            ) from error

        def is_large(module: nn.Module, name: str) -> bool:
            return isinstance(module, nn.Linear) and not any(re.search(pattern, name) for pattern in spared)

        quantize_(model, Int8WeightOnlyConfig(), filter_fn=is_large, device=device)
    return model.to(device)
