"""What a stage's work runs under: true timing, and arithmetic that comes out the same on any number of threads."""

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from depthwright.engine.determinism import same_bytes
from depthwright.events import Stage, StageFinished

_Item = TypeVar("_Item")


class Work:
    """Counts the seconds of each stage; time that the caller spends between events is not counted."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._last = 0.0
        self.seconds: dict[str, float] = {}

    @contextmanager
    def on(self, stage: Stage) -> Iterator[None]:
        """Work on a stage."""
        started = time.perf_counter()
        with same_bytes(self._device):
            yield
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
        self._last = time.perf_counter() - started
        self.seconds[stage] = self.seconds.get(stage, 0.0) + self._last

    def each(self, stage: Stage, items: Generator[_Item, None, None]) -> Iterator[_Item]:
        """Work that comes in steps; the generator is closed when the caller stops."""
        spent = 0.0
        try:
            while True:
                with self.on(stage):
                    item = next(items, None)
                spent += self._last
                if item is None:
                    break
                yield item
        finally:
            items.close()
        self._last = spent

    def finished(self, stage: Stage) -> StageFinished:
        """The event that ends a stage's latest round of work."""
        return StageFinished(stage, self._last)
