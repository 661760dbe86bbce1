"""The kind of hardware that works: pictures are the same to the byte on one kind, and nearly the same on others."""

import platform

import torch


def hardware(device: torch.device) -> str:
    """Such as `cpu x86_64` or `cuda NVIDIA H100 80GB HBM3`."""
    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    return f"{device.type} {platform.machine()}"
