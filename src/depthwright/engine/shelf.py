"""What denoising can do without goes to main memory when the device has too little, and comes back afterwards."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, TypeVar

import torch

from depthwright.engine.memory import free_memory, is_out_of_memory

_Item = TypeVar("_Item")


class Shelf:
    """The models that no denoising step needs: of FLUX, ten gigabytes of text encoders.

    Requests take turns step by step, so while one denoises with less, another may need them: they work where they lie.
    """

    def __init__(self, models: Sequence[Any], device: torch.device) -> None:
        self._models = models
        self._home = device
        self._borrowers = 0

    @property
    def device(self) -> torch.device:
        """Where the models work now."""
        return torch.device("cpu") if self._borrowers else self._home

    @contextmanager
    def cleared(self) -> Iterator[None]:
        """Have them in main memory for a while."""
        self._borrowers += 1
        try:
            self._move()
            free_memory()
            yield
        finally:
            self._borrowers -= 1
            self._move()

    def _move(self) -> None:
        for model in self._models:
            model.to(self.device)


def in_less_memory(
    shelf: Shelf, forget: Callable[[], None], begin: Callable[[], Generator[_Item, None, None]]
) -> Generator[_Item, None, None]:
    """Work that comes in steps; where memory runs out before the first, once more from the start with less in it."""
    with closing(begin()) as steps:
        try:
            first = next(steps)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            yield first
            yield from steps
            return
    # Out here the failed try's tensors are gone.
    forget()
    with shelf.cleared(), closing(begin()) as steps:
        yield from steps
