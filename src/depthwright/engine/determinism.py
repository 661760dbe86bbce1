"""The same bytes on any number of threads, and one piece of work at a time on a device.

On a CPU the number of threads decides last bits, which denoising then carries into the picture: some float32 products
and 1x1 convolutions get another kernel (a convolution of 96 to 128 channels differs between one thread and two), and
element-wise work is split where vector code gives way to scalar code (GELU, SiLU on three threads or five). So all work
runs on one thread, and the caller's number is put back after it. Two threads would gain an idle machine little at the
embedded model's sizes, and cost a busy one dearly: they wait for each other, spinning.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

THREADS = 1

# Of a device's models the control scale is state, and torch's number of threads is the whole process's.
_turns: dict[str, threading.RLock] = {}


@contextmanager
def same_bytes(device: torch.device) -> Iterator[None]:
    """Work alone on a device, with results that do not depend on the caller's number of threads."""
    with _turns.setdefault(str(device), threading.RLock()):
        given = torch.get_num_threads()
        if device.type != "cpu" or given == THREADS:
            yield
            return
        torch.set_num_threads(THREADS)
        try:
            yield
        finally:
            torch.set_num_threads(given)
