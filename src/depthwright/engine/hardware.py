"""The kind of hardware that works: pictures are the same to the byte on one kind, and nearly the same on others."""

import platform

import torch

# What processors that multiply bfloat16 numbers themselves call it: Intel's and AMD's, Intel's tiles, Arm's.
_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")


def hardware(device: torch.device) -> str:
    """Such as `cpu x86_64 AVX512 bfloat16` or `cuda NVIDIA H100 80GB HBM3`."""
    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    told = [device.type, platform.machine()]
    if device.type == "cpu":
        told.append(torch.backends.cpu.get_cpu_capability())
        told += ["bfloat16"] * multiplies_bfloat16(device)
    return " ".join(told)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has units for bfloat16, which then is faster than float32, not only smaller."""
    if device.type != "cpu":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    can = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(can.get(name) for name in _BFLOAT16)
