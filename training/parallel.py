"""Several processes train as one: each draws batches of its own, and their gradients are averaged.

On a busy CPU two processes of one thread wait for each other once a step, two threads of one process in every layer.
Without a process group everything here does nothing, so a phase reads the same for one process.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, distributed
from torch.multiprocessing.spawn import spawn


def launch(function: Callable[..., None], workers: int, *arguments: object) -> None:
    """Run `function(*arguments)` in so many processes of one thread each, or here if one is asked for."""
    if workers == 1:
        function(*arguments)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(_join, (workers, port, function, arguments), nprocs=workers)


def _join(
    rank: int, workers: int, port: int, function: Callable[..., None], arguments: Sequence[object]
) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=workers)
    function(*arguments)
    distributed.destroy_process_group()


def rank() -> int:
    """This process's number; the first one writes files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def workers() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any process: all of them must leave a loop in the same round."""
    if workers() == 1:
        return flag
    told = torch.tensor(int(flag))
    distributed.all_reduce(told)
    return bool(told)


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Within it SIGTERM and SIGINT end nothing: the function it gives tells, alike in all processes, that they came."""
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: came.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield lambda: any_of(bool(came))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def seeded(phase: int, step: int) -> tuple[np.random.Generator, np.random.Generator]:
    """Chance that all processes share, for what they draw alike, and this one's own, which seeds torch's too."""
    torch.manual_seed(phase + step + 10**6 * rank())
    common, own = (np.random.default_rng((phase, step, number)) for number in (99, rank()))
    return common, own


def average_gradients(parameters: Sequence[Tensor]) -> None:
    """Every process gets the mean of all gradients; where a parameter took no part anywhere, it has none."""
    if workers() == 1:
        return
    # Which parameters have a gradient is the same everywhere: all processes draw the same control scales.
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= workers()
    for gradient, part in zip(gradients, flat.split([one.numel() for one in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def share_out(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """This process's share of a list of equal work."""
    return tensors[rank() :: workers()]


def exchange(tensors: Sequence[Tensor]) -> None:
    """Give the others this process's share of `tensors`, as `share_out` made it, and take theirs."""
    for owner in range(workers() if workers() > 1 else 0):
        owned = tensors[owner :: workers()]
        if owned:
            flat = torch.cat([tensor.flatten() for tensor in owned])
            distributed.broadcast(flat, owner)
            for tensor, part in zip(owned, flat.split([one.numel() for one in owned]), strict=True):
                tensor.copy_(part.view_as(tensor))
