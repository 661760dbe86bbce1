"""Muon (Keller Jordan, 2024): momentum made orthogonal, for matrices and convolutions; everything else goes to AdamW.

PyTorch's own Muon takes 2-D parameters only; convolution kernels, flattened to matrices, gain most from it here.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix, by Newton-Schulz with Jordan's quintic coefficients."""
    x = matrix / (matrix.norm() + 1e-7)
    flip = x.shape[0] > x.shape[1]
    x = x.T if flip else x
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    result: Tensor = x.T if flip else x
    return result


class Muon(torch.optim.Optimizer):
    """Nesterov momentum 0.95, orthogonalised; the step's RMS is matched to AdamW's (0.2) as Moonshot's variant does."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002 - the base class's form
        """Take one step."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                momentum = state.setdefault("momentum", torch.zeros_like(parameter))
                momentum.lerp_(parameter.grad, 0.05)
                update = orthogonal(parameter.grad.lerp(momentum, 0.95).flatten(1))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                size = 0.2 * max(update.shape) ** 0.5
                parameter.add_(update.view_as(parameter), alpha=-group["lr"] * size)


def split(module: torch.nn.Module, exclude: tuple[str, ...] = ()) -> tuple[list[Tensor], list[Tensor]]:
    """Parameters for Muon (two or more dimensions, no excluded word in the name) and for AdamW (the rest)."""
    muon: list[Tensor] = []
    adam: list[Tensor] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            matrix = parameter.ndim >= 2 and not any(word in name for word in exclude)
            (muon if matrix else adam).append(parameter)
    return muon, adam
