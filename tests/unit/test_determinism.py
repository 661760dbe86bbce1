"""The caller's number of threads decides neither the result nor is it changed."""

import threading

import pytest
import torch
from torch.nn.functional import conv2d, gelu

from depthwright.engine.determinism import same_bytes

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(autouse=True)
def restored() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_callers_number_of_threads_comes_back(threads: int) -> None:
    torch.set_num_threads(threads)
    with same_bytes(CPU):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == threads


def test_it_comes_back_after_an_error_too() -> None:
    torch.set_num_threads(3)
    with pytest.raises(RuntimeError, match="under way"), same_bytes(CPU):
        raise RuntimeError("under way")
    assert torch.get_num_threads() == 3


def test_operations_that_depend_on_threads_no_longer_do(threads: int) -> None:
    """A 1x1 convolution of these sizes differs between one thread and two, GELU between two and three."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 96, 22, 12, generator=generator)
    kernel = torch.randn(128, 96, 1, 1, generator=generator)
    states = torch.randn(1, 106, 1024, generator=generator)
    torch.set_num_threads(1)
    expected = conv2d(image, kernel), gelu(states, approximate="tanh")
    torch.set_num_threads(threads)
    with same_bytes(CPU):
        assert torch.equal(conv2d(image, kernel), expected[0])
        assert torch.equal(gelu(states, approximate="tanh"), expected[1])


def test_work_on_one_device_takes_turns() -> None:
    inside = threading.Event()
    entered: list[bool] = []

    def second() -> None:
        with same_bytes(CPU):
            entered.append(True)

    with same_bytes(CPU):
        worker = threading.Thread(target=second)
        worker.start()
        inside.wait(0.05)
        assert not entered
    worker.join()
    assert entered
