"""Which steps are forecast, and from what."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from depthwright.engine.acceleration.step_cache import StepCache
from depthwright.engine.profiles import StepCacheSettings

SHAPE = (1, 3, 4)


class Blocks:
    """The first block adds 1 times `steady`; the others' share grows along a line."""

    def __init__(self) -> None:
        self.calls = 0

    def share(self, step: int) -> Tensor:
        return torch.full(SHAPE, 2.0 + 0.5 * step)

    def run(self, cache: StepCache, step: int, first: float = 1.0) -> Tensor:
        before = torch.full(SHAPE, float(step))
        after_first = before + first

        def others() -> Tensor:
            self.calls += 1
            return after_first + self.share(step)

        return cache.after(before, after_first, others)


def cache(threshold: float = 0.1, longest_run: int = 3, steps: int = 12) -> StepCache:
    return StepCache(StepCacheSettings(threshold=threshold, longest_run=longest_run), steps)


def test_what_grows_along_a_line_is_forecast_exactly() -> None:
    blocks, kept = Blocks(), cache(longest_run=20)
    for step in range(12):
        last = blocks.run(kept, step)
        assert torch.allclose(last, torch.full(SHAPE, float(step)) + 1.0 + blocks.share(step))
    assert (blocks.calls, kept.forecast) == (2, 10)


def test_no_more_steps_than_the_longest_run_are_forecast_in_a_row() -> None:
    blocks, kept = Blocks(), cache(longest_run=3)
    for step in range(10):
        blocks.run(kept, step)
    assert (blocks.calls, kept.forecast) == (4, 6)  # two, three forecast, one, three forecast, one


def test_a_first_block_that_strays_from_its_line_is_followed_by_all_the_others() -> None:
    blocks, kept = Blocks(), cache(threshold=0.1)
    forecast = []
    for step, first in enumerate((1.0, 1.0, 1.2, 1.35, 1.65, 1.5)):
        blocks.run(kept, step, first)
        forecast.append(kept.forecast)
    # Of 1.2 the line says 1 and of 1.35 it says 1.4, of 1.65 then 1.6; 1.5 is off 1.8 by a fifth.
    assert forecast == [0, 0, 0, 1, 2, 2]


def test_a_first_block_that_grows_fast_but_steadily_is_no_reason_to_compute() -> None:
    blocks, kept = Blocks(), cache(threshold=0.01, longest_run=20)
    for step in range(12):
        blocks.run(kept, step, 1.0 + step)
    assert (blocks.calls, kept.forecast) == (2, 10)


def test_one_step_in_seven_is_always_computed_before_any_is_forecast() -> None:
    blocks, kept = Blocks(), cache(longest_run=20, steps=28)
    for step in range(28):
        blocks.run(kept, step)
    assert (blocks.calls, kept.forecast) == (5, 23)  # four, twenty forecast, one, three forecast


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=30), st.floats(0.01, 1), st.integers(1, 20))
def test_every_step_is_either_computed_or_forecast_and_the_first_two_are_computed(
    firsts: list[float], threshold: float, longest_run: int
) -> None:
    blocks, kept = Blocks(), cache(threshold, longest_run)
    for step, first in enumerate(firsts):
        blocks.run(kept, step, first)
        assert blocks.calls + kept.forecast == step + 1
        assert blocks.calls >= min(step + 1, 2)
