"""Products in float8, by torchao: weights and what they meet are scaled row by row, the latter as it comes."""

import importlib.util

import torch
from torch import Tensor

# The first GPUs with units for it: Ada's and Hopper's.
_CAPABILITY = (8, 9)


def missing_float8(device: torch.device) -> str | None:
    """Why nothing is multiplied in float8 on a device, in words that follow "as "; None if it can be."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < _CAPABILITY:
        return "this device has no units for float8, which GPUs of compute capability 8.9 and more have"
    if importlib.util.find_spec("torchao") is None:
        return "torchao is not installed: pip install 'depthwright[int8]'"
    return None


def to_float8(weight: Tensor) -> Tensor:
    """A weight [out, in] that multiplies in float8, with a scale for each output and for each row that it meets.

    Made by the tensor itself, as torchao's `quantize_` makes it: that one takes no module whose weight changes again.
    """
    from torchao.quantization import (  # noqa: PLC0415 - an extra
        Float8DynamicActivationFloat8WeightConfig,
        Float8Tensor,
        PerRow,
    )
    from torchao.quantization.quantize_.common import KernelPreference  # noqa: PLC0415
    from torchao.quantization.quantize_.workflows import QuantizeTensorToFloat8Kwargs  # noqa: PLC0415

    config = Float8DynamicActivationFloat8WeightConfig(granularity=PerRow(), set_inductor_config=False)
    # torch's own kernels, whatever else is installed: a level is the same bytes everywhere on one kind of hardware.
    met = QuantizeTensorToFloat8Kwargs(
        config.activation_dtype, PerRow(), kernel_preference=KernelPreference.TORCH
    )
    narrow: Tensor = Float8Tensor.from_hp(
        weight.to(torch.bfloat16),
        float8_dtype=config.weight_dtype,
        granularity=PerRow(),
        mm_config=config.mm_config,
        kernel_preference=KernelPreference.TORCH,
        act_quant_kwargs=met,
    )
    return narrow
