"""Where models live: on the device, on it in eight bits, or in main memory with visits to the device."""

from typing import Any

import torch
from diffusers.hooks import apply_group_offloading, apply_layerwise_casting
from torch import nn

from depthwright.engine.profiles import Memory
from depthwright.engine.quantised import to_int8
from depthwright.errors import InvalidParameter

# What stays in full precision: norms, embeddings and the output are small, and the picture hangs on them.
_NEVER_IN_EIGHT_BITS = ("norm", "embed", "shared", "^proj_out$", "relative_attention_bias")
# T5 casts its activations to the type of `wo`, which therefore cannot be float8.
_NEVER_IN_FLOAT8 = (*_NEVER_IN_EIGHT_BITS, r"\.wo$")


def choose_device(name: str | None) -> torch.device:
    """The device asked for, or the best there is. Raises InvalidParameter for one that is not here."""
    if name is None:
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    try:
        device = torch.device(name)
        torch.empty(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise InvalidParameter(
            "device", name, "a torch device of this machine, such as cpu or cuda:0"
        ) from error
    return device


def place(model: Any, device: torch.device) -> Any:
    """The model on the device, fixed for inference."""
    return _own_memory(_fixed(model).to(device), device)


def place_large(model: Any, memory: Memory, device: torch.device, dtype: torch.dtype) -> Any:
    """The model where its profile wants the large ones, computing in `dtype` on the device; fixed for inference."""
    if memory == "resident":
        return place(model, device)
    _own_memory(_fixed(model), device)
    if memory == "fp8":
        apply_layerwise_casting(
            model,
            storage_dtype=torch.float8_e4m3fn,
            compute_dtype=dtype,
            skip_modules_pattern=_NEVER_IN_FLOAT8,
        )
        return model.to(device)
    if memory == "int8":
        return to_int8(model, device, _NEVER_IN_EIGHT_BITS)
    apply_group_offloading(
        model,
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="leaf_level",
        use_stream=device.type == "cuda",
    )
    return model


def _fixed(model: Any) -> Any:
    return model.requires_grad_(requires_grad=False).eval()


def _own_memory(model: nn.Module, device: torch.device) -> nn.Module:
    """Move weights that stay in main memory to work there out of the mapped file. Where a tensor lies decides its
    alignment, and with it which kernels work on it and the last bit of their sums: the same weights must give the same
    bytes from every format.
    """
    if device.type == "cpu":
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
    return model
