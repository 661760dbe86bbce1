"""Several devices draw one picture together: here processes of one CPU, over gloo, which stand in for GPUs."""

import multiprocessing
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from PIL import Image

from depthwright.engine.engine import Engine
from depthwright.engine.loading import load_components
from depthwright.errors import EngineLost, InvalidParameter
from depthwright.events import StepFinished
from depthwright.parameters import GenerationParameters, SizeBounds
from tests.support.previews import seen
from tests.support.tiny import HEADS, LENGTH, Tiny

pytestmark = pytest.mark.usefixtures("one_thread")
BOUNDS = SizeBounds(16, 512)


def asked(**changes: Any) -> GenerationParameters:
    fields = {"prompt": "a red cube", "size": "64*96", "num_inference_steps": 3, "seed": 4, **changes}
    return GenerationParameters.from_user(size_bounds=BOUNDS, **fields)


def velocities(engine: Engine, **changes: Any) -> list[torch.Tensor]:
    """The finished latents of every picture, as far as the preview shows them: its pixels."""
    control = Image.linear_gradient("L")
    events = engine.stream(asked(preprocess_depth="false", **changes), control)
    found = [seen(event) for event in events if isinstance(event, StepFinished)]
    return [torch.tensor(list(each.get_flattened_data()), dtype=torch.float32) for each in found]


@pytest.fixture(scope="module")
def alone(tiny: Tiny) -> Engine:
    return Engine(load_components(tiny.profile(), device="cpu"))


@pytest.fixture
def together(tiny: Tiny) -> Iterator[Engine]:
    engine = Engine(load_components(tiny.profile(gpus=2), device="cpu"))
    assert engine.components.together is not None
    yield engine
    engine.components.together.close()
    torch.distributed.destroy_process_group()


def test_two_give_what_one_gives_at_every_scale_and_in_turns(alone: Engine, together: Engine) -> None:
    for scale in (1.0, 0.0, 0.5, 1.0):
        ours = velocities(together, control_scale=scale)
        theirs = velocities(alone, control_scale=scale, acceleration="none")
        assert ours[0].std() > 1
        assert max((a - b).abs().max() for a, b in zip(ours, theirs, strict=True)) <= 1
    # One that is stopped leaves the others in step.
    stopped = together.stream(asked())
    next(event for event in stopped if isinstance(event, StepFinished))
    first = velocities(together, num_images=2)
    stopped.close()
    assert all(torch.equal(a, b) for a, b in zip(first, velocities(together, num_images=2), strict=True))


def test_a_follower_that_dies_is_told_and_nothing_waits_for_it(together: Engine) -> None:
    found = together.components.together
    assert found is not None
    [process] = found._processes
    assert process.pid is not None
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    for _ in range(2):
        with pytest.raises(EngineLost, match="has to be loaded again"):
            velocities(together)


def test_heads_that_cannot_be_shared_are_refused_and_no_process_is_left(tiny: Tiny) -> None:
    before = set(multiprocessing.active_children())
    with pytest.raises(InvalidParameter, match=f"a divisor of the transformer's {HEADS} heads"):
        load_components(tiny.profile(gpus=3), device="cpu")
    assert set(multiprocessing.active_children()) <= before


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"memory": "fp8"}, "memory resident"),
        ({"gpus": 5}, "max_sequence_length that 5 divides"),
    ],
)
def test_what_cannot_be_shared_is_refused_before_anything_is_loaded(
    tiny: Tiny, changes: dict[str, Any], why: str
) -> None:
    assert LENGTH % 5
    with pytest.raises(InvalidParameter, match=why):
        load_components(tiny.profile(**{"gpus": 2, **changes}), device="cpu")
