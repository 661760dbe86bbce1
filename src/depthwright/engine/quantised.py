"""Large weights in eight bits by torchao, widened as they are used."""

import re
from typing import Any

import torch
from torch import nn

from depthwright.errors import EngineNotInstalled
from depthwright.quietly import quietly

# Norms, embeddings and the output are small, and the picture hangs on them.
_SPARED = re.compile(r"(^|\.)[^.]*(norm|embed|shared|relative_attention_bias)|^proj_out$")


def to_int8(model: Any, device: torch.device) -> Any:
    """Store each large linear as int8 with a scale for each output, on the device. Raises EngineNotInstalled.

    Layer by layer: the device never holds all the wide weights beside the narrow ones.
    """
    with quietly():
        try:
            from torchao.quantization import Int8WeightOnlyConfig, quantize_  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise EngineNotInstalled(
                "This profile stores weights in int8, which takes torchao: pip install 'depthwright[int8]'."
            ) from error
        quantize_(model, Int8WeightOnlyConfig(), filter_fn=_is_large, device=device)
    return model.to(device)


def _is_large(module: nn.Module, name: str) -> bool:
    return isinstance(module, nn.Linear) and not _SPARED.search(name)
