"""Every GPU gets a worker, and every worker a GPU of its own."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from depthwright.service.gpus import gpus, shares
from tests.support.asking import until
from tests.support.serving import Serving, serving

NOWHERE = Path("/nowhere")


@pytest.mark.parametrize(
    ("allowed", "found"),
    [
        ("0,1", ("0", "1")),
        (" 3 , GPU-8932f937 ", ("3", "GPU-8932f937")),
        ("MIG-1,MIG-2", ("MIG-1", "MIG-2")),
        ("0,-1,1", ("0",)),
        ("-1", ()),
        ("", ()),
    ],
)
def test_what_the_environment_allows_is_what_cuda_would_see(allowed: str, found: tuple[str, ...]) -> None:
    assert gpus({"CUDA_VISIBLE_DEVICES": allowed}, NOWHERE) == found


def test_without_a_word_all_gpus_that_the_driver_lists_are_used(tmp_path: Path) -> None:
    assert gpus({}, NOWHERE) == ()
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    assert gpus({}, tmp_path) == ("0", "1")


@pytest.mark.parametrize(
    ("number", "found", "told"),
    [
        (None, (), [None]),
        (None, ("0", "1"), ["0", "1"]),
        (3, ("0", "1"), ["0", "1", "0"]),
        (1, ("0", "1"), ["0"]),
        (0, ("0", "1"), []),
        (2, (), [None, None]),
    ],
)
def test_workers_take_gpus_in_turns(
    number: int | None, found: tuple[str, ...], told: list[str | None]
) -> None:
    assert [each.get("CUDA_VISIBLE_DEVICES") for each in shares(number, found)] == told


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Serving]:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    with serving(tmp_path / "data") as server:
        yield server


def test_a_server_starts_a_worker_for_each_gpu_and_it_sees_no_other(two_gpus: Serving) -> None:
    def environments() -> list[Mapping[str, str]]:
        children = psutil.Process(two_gpus.process.pid).children()
        return [each.environ() for each in children] if len(children) == 2 else []

    assert sorted(each["CUDA_VISIBLE_DEVICES"] for each in until(environments)) == ["4", "7"]
