"""A transformer's blocks once more, with their large products in fewer bits.

The blocks themselves stay as they are: they are the reference, and what the control scale is merged into. Norms and
whatever else is small are shared with them.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from depthwright.engine.acceleration.blocks import JOINED, product
from depthwright.engine.acceleration.float8 import to_float8
from depthwright.engine.acceleration.levels import Chosen, Precision
from depthwright.engine.adapter import ControlAdapter, MergedAdapter

# Makes a weight [out, in] in fewer bits.
Narrow = Callable[[Tensor], Tensor]
# Weight and bias as they are now in the transformer.
_Source = Callable[[], tuple[Tensor, Tensor]]


class NarrowBlocks:
    """The twins of all blocks, in the transformer's order. They take memory from the first `follow`."""

    def __init__(self, transformer: Any, adapter: MergedAdapter, narrow: Narrow) -> None:
        self._adapter, self._narrow = adapter, narrow
        self._revision: int | None = None
        self._made: list[tuple[nn.Linear, _Source]] = []
        self.double = [self._twin(block) for block in transformer.transformer_blocks]
        self.single = [self._twin(block) for block in transformer.single_transformer_blocks]

    @torch.no_grad()
    def follow(self) -> None:
        """Make every weight again if the transformer's have changed: before each step, between which they may.

        Revisions only grow: one whose weights were made half-way is never taken for done.
        """
        if self._revision == self._adapter.revision:
            return
        for linear, source in self._made:
            weight, bias = source()
            narrow = self._narrow(weight)
            if linear.weight.is_meta:
                linear.weight = nn.Parameter(narrow, requires_grad=False)
                linear.bias = nn.Parameter(bias.to(narrow.dtype), requires_grad=False)
            else:
                # The same memory again: nothing that was compiled for it has to be compiled anew.
                linear.weight.copy_(narrow)
                linear.bias.copy_(bias)
        self._revision = self._adapter.revision

    def _twin(self, block: Any) -> Any:
        joined: dict[tuple[str, ...], tuple[Tensor, Tensor]] = getattr(block.attn, JOINED)
        # 1. A copy that shares every tensor with the block.
        shared = [*block.parameters(), *block.buffers(), *(one for pair in joined.values() for one in pair)]
        twin = copy.deepcopy(block, {id(tensor): tensor for tensor in shared})
        # 2. Its linears are its own, but those that only make modulations, which a walk knows already.
        for name, module in block.named_modules():
            leaf = name.rpartition(".")[2]
            if (
                isinstance(module, nn.Linear)
                and "norm" not in name
                and not any(leaf in names for names in joined)
            ):
                parent = twin.get_submodule(name.rpartition(".")[0])
                setattr(parent, leaf, self._linear(_of(module)))
        # 3. Query, key and value as one.
        setattr(twin.attn, JOINED, {names: self._linear(_of_pair(pair)) for names, pair in joined.items()})
        return twin

    def _linear(self, source: _Source) -> "_NarrowLinear":
        rows, columns = source()[0].shape
        linear = _NarrowLinear(columns, rows, device="meta")
        self._made.append((linear, source))
        return linear


class _NarrowLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return product(x, self.weight, self.bias)


def _of(module: nn.Linear) -> _Source:
    return lambda: (module.weight, module.bias)


def _of_pair(pair: tuple[Tensor, Tensor]) -> _Source:
    return lambda: pair


def narrow_blocks(chosen: Chosen, transformer: Any, adapter: ControlAdapter) -> dict[Precision, NarrowBlocks]:
    """The blocks in each lower precision that a level wants: of a merged adapter, as others leave weights elsewhere."""
    if not isinstance(adapter, MergedAdapter):
        return {}
    return {each: NarrowBlocks(transformer, adapter, _NARROW[each]) for each in chosen.precisions}


def _to_bfloat16(weight: Tensor) -> Tensor:
    return weight.to(torch.bfloat16)


_NARROW: Mapping[Precision, Narrow] = {"bfloat16": _to_bfloat16, "float8": to_float8}
