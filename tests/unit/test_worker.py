"""A worker sees predictions to their end: on a real database and a real disk, with an engine that only paints."""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image

from depthwright.errors import EngineLost, OutOfMemory
from depthwright.prediction import STRIKES, Code, Prediction, Status, Submission
from depthwright.provenance.certificates import own_certificate
from depthwright.provenance.marking import Marker
from depthwright.request import PredictionRequest
from depthwright.service.database import Database
from depthwright.service.outputs import Outputs
from depthwright.service.preparing import Prepared, Preparing
from depthwright.service.queue_sqlite import Queue, take_back
from depthwright.service.store import Store
from depthwright.service.worker import Worker
from depthwright.settings import Settings
from tests.support.fake_engine import FakeEngine

SEED = 200


class House:
    """A worker and what it stands on."""

    def __init__(self, folder: Path, objects: Callable[[int], bool] | None = None) -> None:
        self.database = Database(folder / "d.sqlite3")
        self.database.migrate()
        self.store = Store(self.database)
        self.queue = Queue(self.database, "w")
        self.queue.register("ready")
        self.outputs = Outputs(folder / "outputs", Marker(own_certificate(folder / "certificates")))
        self.engine = FakeEngine(objects=objects)
        self.deaths: list[int] = []
        self.worker = Worker(
            self.queue,
            self.engine,
            cast(Preparing, None),
            self.outputs,
            threading.Event(),
            die=lambda: self.deaths.append(1),
        )

    def make(self, prediction_id: str, **wanted: Any) -> Prediction:
        """Submit a prediction and let the worker see it to its end."""
        raw = {"prompt": "a sphere", "size": "512*512", "num_inference_steps": 2, **wanted}
        request, _ = PredictionRequest.read(raw, Settings().size_bounds)
        submission = Submission(prediction_id, "key", "m", request.model_dump(mode="json"), SEED, time.time())
        with self.database.writing() as connection:
            self.store.insert(connection, submission)
        work = self.queue.claim()
        assert work is not None
        self.worker.work(Prepared(work, None, 0.0))
        found = self.store.get(prediction_id)
        assert found is not None
        return found

    def files(self, prediction_id: str) -> list[Path]:
        """What lies on the disk for it."""
        return sorted((self.outputs.folder / prediction_id).rglob("*.*"))

    def picture(self, name: str) -> Image.Image:
        """A picture as it was stored."""
        path = self.outputs.path(name)
        assert path is not None
        with Image.open(path) as image:
            image.load()
        return image


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.database.close()


def test_a_full_disk_fails_the_prediction_and_the_next_one_passes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        failed = house.make("p", num_images=2)
    assert (failed.status, failed.code) == (Status.FAILED, Code.INTERNAL)
    assert "disk is full" in failed.error
    assert (failed.outputs, house.files("p")) == ((), [])
    assert house.make("q").status == Status.COMPLETED


def test_pictures_and_depth_map_are_published_in_their_order_and_formats(house: House) -> None:
    made = house.make("p", num_images=3, output_format="png")
    colours = [house.picture(name).getpixel((0, 0)) for name in made.outputs]
    assert colours == [(SEED + number, 0, 0) for number in range(3)]
    assert made.control is not None
    assert house.picture(made.control).mode == "L"
    assert len(house.files("p")) == 4
    assert house.make("q", output_format="webp").outputs[0].endswith(".webp")
    assert {path.suffix for path in house.files("q")} == {".webp", ".png"}


def test_a_flagged_picture_is_black_before_it_is_stored_and_the_others_are_untouched(tmp_path: Path) -> None:
    house = House(tmp_path, objects=lambda number: number == 1)
    made = house.make("p", num_images=2)
    assert made.nsfw == (False, True)
    assert [house.picture(name).getpixel((0, 0)) for name in made.outputs] == [(SEED, 0, 0), (0, 0, 0)]
    unchecked = house.make("q", num_images=2, enable_safety_checker=False)
    assert unchecked.nsfw == ()
    assert house.picture(unchecked.outputs[1]).getpixel((0, 0)) == (SEED + 1, 0, 0)


def test_a_second_try_leaves_nothing_of_the_first(house: House) -> None:
    tries: list[int] = []

    def out_of_memory_once(step: int) -> None:
        tries.append(step)
        if len(tries) == 4:  # in the second picture: the first one is on its way to the disk
            raise OutOfMemory("The accelerator has too little memory.")

    house.engine.on_step = out_of_memory_once
    made = house.make("p", num_images=2)
    assert made.status == Status.COMPLETED
    assert len(house.files("p")) == 3


def test_a_worker_that_lost_its_model_dies_with_the_prediction_in_hand_which_the_third_time_fails(
    house: House,
) -> None:
    def lost(_step: int) -> None:
        raise EngineLost("The GPUs fell out of step.")

    house.engine.on_step = lost
    held = house.make("p")
    for _ in range(STRIKES):
        assert held.status == Status.PROCESSING
        assert take_back(house.database, "w") == 1
        house.queue.register("ready")
        if (work := house.queue.claim()) is not None:
            house.worker.work(Prepared(work, None, 0.0))
        found = house.store.get("p")
        assert found is not None
        held = found
    assert (held.status, held.code) == (Status.FAILED, Code.INTERNAL)
    assert len(house.deaths) == STRIKES
    assert house.files("p") == []


def test_what_an_earlier_attempt_left_goes_with_the_one_that_is_published(house: House) -> None:
    left = house.outputs.folder / "p" / "1" / "left.png"
    left.parent.mkdir(parents=True)
    left.touch()
    with house.database.writing() as connection:
        house.store.insert(connection, Submission("p", "key", "m", {}, 0, time.time()))
    work = house.queue.claim()
    assert work is not None
    house.queue.release(work.claim)
    again = house.queue.claim()
    assert again is not None
    with house.outputs.stage(again.claim) as staging:
        staging.add(Image.new("RGB", (8, 8)), "png")
        [name] = staging.settle()
        staging.keep()
    assert house.files("p") == [house.outputs.folder / name]


def test_an_idle_worker_starts_at_once_what_needs_no_control_image_and_nothing_else(house: House) -> None:
    for prediction_id, source in (("p", None), ("q", {"url": "https://example.org/a.png"}), ("r", None)):
        with house.database.writing() as connection:
            house.store.insert(
                connection, Submission(prediction_id, "key", "m", {}, 0, time.time(), source=source)
            )
    started = [house.queue.claim(idle=idle) for idle in (True, True, False)]
    assert [work and (work.claim.id, work.started) for work in started] == [
        ("p", True),
        ("q", False),
        ("r", False),
    ]
    rows = [house.store.get(each) for each in "pqr"]
    assert [row is not None and row.started_at is not None for row in rows] == [True, False, False]
