"""Muon (Keller Jordan, 2024): momentum made orthogonal, for matrices and convolutions; everything else goes to AdamW.

PyTorch's own Muon takes 2-D parameters only; convolution kernels, flattened to matrices, gain most from it here.
Matrices of one shape are made orthogonal together: one batched product instead of dozens of small ones.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from training import parallel


def orthogonal(matrices: Tensor, steps: int = 4) -> Tensor:
    """The nearest semi-orthogonal matrices of a stack [..., M, N], by Newton-Schulz with Jordan's quintic.

    Four steps leave the singular values of a random matrix 0.24 from one (root mean square), five 0.21.
    """
    flip = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if flip else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    result: Tensor = x.mT if flip else x
    return result


class Muon(torch.optim.Optimizer):
    """Nesterov momentum 0.95, orthogonalised; the step's RMS is matched to AdamW's (0.2) as Moonshot's variant does."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002 - the base class's form
        """Take one step."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes.setdefault(parameter.flatten(1).shape, []).append(parameter)
            for shape, parameters in shapes.items():
                self._step(parameters, shape, group["lr"], group["weight_decay"])

    def _step(self, parameters: list[Tensor], shape: torch.Size, lr: float, weight_decay: float) -> None:
        """One step of all parameters that make a matrix of this shape; processes that train together share them out."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        momenta = [
            self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
            for parameter in parameters
        ]
        torch._foreach_lerp_(momenta, gradients, 0.05)
        ahead = torch._foreach_lerp(gradients, momenta, 0.95)  # noqa: SLF001
        own = parallel.share_out(ahead)
        if own:
            updates = orthogonal(torch.stack([one.flatten(1) for one in own]))
            for one, update in zip(own, updates, strict=True):
                one.copy_(update.view_as(one))
        parallel.exchange(ahead)
        torch._foreach_mul_(parameters, 1 - lr * weight_decay)
        torch._foreach_add_(parameters, ahead, alpha=-lr * 0.2 * max(shape) ** 0.5)


def split(module: torch.nn.Module, exclude: tuple[str, ...] = ()) -> tuple[list[Tensor], list[Tensor]]:
    """Parameters for Muon (two or more dimensions, no excluded word in the name) and for AdamW (the rest)."""
    muon: list[Tensor] = []
    adam: list[Tensor] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            matrix = parameter.ndim >= 2 and not any(word in name for word in exclude)
            (muon if matrix else adam).append(parameter)
    return muon, adam
