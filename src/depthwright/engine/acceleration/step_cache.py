"""Step cache: a step that would add nearly what the last ones added takes a forecast of it instead of computing it.

The first block is always computed, and tells how good a forecast would be. What the other blocks add is carried on
along a straight line through the last two steps that computed it; what the first block adds is compared with the line
through the same two steps, and where it strays from that by less than the threshold, the forecast is taken. The first
steps are never forecast. Asking the first block is ParaAttention's idea (First Block Cache, which compares it with the
last computed step), forecasting TaylorSeer's, and cache-dit joins the two.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from depthwright.engine.profiles import StepCacheSettings

_LINE = 2  # computed steps through which a line goes
# Always computed: one step in so many, from the start. They lay out the picture, and a forecast there changes it.
_FIRST_SHARE = 7


class _Computed(NamedTuple):
    """What the first block and all others added to the image's tokens at a step."""

    step: int
    first: Tensor
    rest: Tensor


class StepCache:
    """The memory of one walk; nothing of it outlives its picture."""

    def __init__(self, settings: StepCacheSettings, steps: int) -> None:
        self._settings = settings
        self._first_steps = max(_LINE, math.ceil(steps / _FIRST_SHARE))
        self._step = 0
        self._run = 0
        self._computed: list[_Computed] = []
        self.forecast = 0

    def after(self, before: Tensor, first: Tensor, others: Callable[[], Tensor]) -> Tensor:
        """The image's tokens after all blocks, from those before and after the first; `others` computes them."""
        self._step += 1
        added = first - before
        if self._may_forecast(added):
            self._run += 1
            self.forecast += 1
            earlier, last = self._computed
            return first + self._onwards(earlier.rest, last.rest)
        after = others()
        self._computed = [*self._computed[-1:], _Computed(self._step, added, after - first)]
        self._run = 0
        return after

    def _may_forecast(self, added: Tensor) -> bool:
        if self._step <= self._first_steps or self._run >= self._settings.longest_run:
            return False
        earlier, last = self._computed
        strayed = (added - self._onwards(earlier.first, last.first)).abs().mean() / added.abs().mean()
        return bool(strayed < self._settings.threshold)

    def _onwards(self, then: Tensor, now: Tensor) -> Tensor:
        """What was added at the two last computed steps, carried on along a line to this one."""
        earlier, last = self._computed
        ahead = (self._step - last.step) / (last.step - earlier.step)
        return now + (now - then) * ahead
