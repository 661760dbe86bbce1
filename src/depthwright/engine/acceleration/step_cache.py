"""Step cache: a step that would add nearly what the last ones added takes a forecast of it instead of computing it.

The first block is always computed. Where what it adds to the image's tokens differs from the last computed step's by
less than the threshold, the share of all other blocks is carried on along a straight line through the last two steps
that computed it; the first steps are never forecast. First Block Cache is ParaAttention's idea, forecasting
TaylorSeer's, and cache-dit joins the two.
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
    step: int
    rest: Tensor


class StepCache:
    """The memory of one walk; nothing of it outlives its picture."""

    def __init__(self, settings: StepCacheSettings, steps: int) -> None:
        self._settings = settings
        self._first_steps = max(_LINE, math.ceil(steps / _FIRST_SHARE))
        self._step = 0
        self._run = 0
        self._first: Tensor | None = None
        self._computed: list[_Computed] = []
        self.forecast = 0

    def after(self, before: Tensor, first: Tensor, others: Callable[[], Tensor]) -> Tensor:
        """The image's tokens after all blocks, from those before and after the first; `others` computes them."""
        self._step += 1
        added = first - before
        if self._may_forecast(added):
            self._run += 1
            self.forecast += 1
            return first + self._forecast()
        last = others()
        self._first = added
        self._computed = [*self._computed[-1:], _Computed(self._step, last - first)]
        self._run = 0
        return last

    def _may_forecast(self, added: Tensor) -> bool:
        if self._step <= self._first_steps or self._run >= self._settings.longest_run:
            return False
        assert self._first is not None
        change = (added - self._first).abs().mean() / self._first.abs().mean()
        return bool(change < self._settings.threshold)

    def _forecast(self) -> Tensor:
        before, last = self._computed
        ahead = (self._step - last.step) / (last.step - before.step)
        return last.rest + (last.rest - before.rest) * ahead
