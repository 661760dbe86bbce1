"""What the service promises when its parts die, freeze or are told to stop: real processes, a fake engine."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support.asking import PATIENCE, denoising, ended, get, pixels, published, submit, until
from tests.support.serving import Serving, serving


def workers_of(server: Serving) -> list[int]:
    """The process ids of a server's workers."""
    return [each.pid for each in psutil.Process(server.process.pid).children()]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serving(tmp_path_factory.mktemp("faults") / "data", lease_seconds=1.5) as running:
        yield running


def test_a_killed_workers_prediction_completes_once_with_the_same_pixels(server: Serving) -> None:
    with server.client() as client:
        undisturbed = ended(client, submit(client, "slow"))
        prediction_id = submit(client, "slow")
        denoising(client, prediction_id)
        [worker] = workers_of(server)
        os.kill(worker, signal.SIGKILL)
        data = ended(client, prediction_id)
        assert data["status"] == "completed"
        [output] = data["outputs"]
        assert "/2/" in output, "the second attempt made it"
        assert len(published(server, prediction_id)) == 2  # the picture and its depth map, of one attempt
        assert pixels(client, output) == pixels(client, undisturbed["outputs"][0])


def test_a_prediction_that_kills_three_workers_fails_and_the_others_are_made(server: Serving) -> None:
    with server.client() as client:
        deadly = submit(client, "crash")
        others = [submit(client, "a sphere") for _ in range(3)]
        assert [ended(client, each)["status"] for each in others] == ["completed"] * 3
        data = ended(client, deadly)
        assert (data["status"], data["code"]) == ("failed", 5000)
        assert "3 workers died" in data["error"]


def test_a_frozen_workers_late_write_is_refused(server: Serving) -> None:
    with server.client() as client:
        until(lambda: client.get("/ready").status_code == 200)
        prediction_id = submit(client, "slow", num_images=2)
        denoising(client, prediction_id)
        [worker] = workers_of(server)
        os.kill(worker, signal.SIGSTOP)
        try:
            # Its lease ends: the prediction waits again, for a worker that is not there.
            until(lambda: get(client, prediction_id)["status"] == "created")
            assert client.get("/ready").status_code == 503
            assert client.get("/live").status_code == 200
        finally:
            os.kill(worker, signal.SIGCONT)
        data = ended(client, prediction_id)
        assert data["status"] == "completed"
        assert all("/2/" in output for output in data["outputs"])
        assert len(published(server, prediction_id)) == 3


def test_what_runs_is_cancelled_at_its_next_step_and_what_waits_at_once(server: Serving) -> None:
    with server.client() as client:
        until(lambda: client.get("/ready").status_code == 200)
        running = submit(client, "slow", num_images=4)
        denoising(client, running)
        waiting = submit(client, "slow")
        waiting = submit(client, "slow")
        for each in (waiting, running):
            assert client.post(f"/api/v3/predictions/{each}/cancel").status_code == 200
        for each in (waiting, running):
            data = ended(client, each)
            assert (data["status"], data["cancelled"]) == ("failed", True)
            assert published(server, each) == []
        assert ended(client, submit(client, "a sphere"))["status"] == "completed"


def test_faults_of_the_model_are_told_in_words_and_the_next_prediction_is_made(server: Serving) -> None:
    with server.client() as client:
        failed = ended(client, submit(client, "fail"))
        assert (failed["status"], failed["error"]) == ("failed", "The fake engine was told to fail.")
        bug = ended(client, submit(client, "bug"))
        assert (bug["status"], bug["code"]) == ("failed", 5000)
        assert "ZeroDivision" not in bug["error"]
        assert ended(client, submit(client, "memory"))["status"] == "completed"
        assert "The fake engine was told to warn." in ended(client, submit(client, "warn"))["warnings"]


def test_ids_that_were_answered_survive_a_killed_server_and_are_made_after_its_restart(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data"
    with serving(folder, lease_seconds=1.5) as server, server.client() as client:
        denoised = submit(client, "slow")
        denoising(client, denoised)
        answered: list[str] = []

        def send(number: int) -> None:
            try:
                answered.append(submit(client, f"a sphere {number}"))
            except httpx.HTTPError:
                return  # killed before the answer: nothing was promised

        with ThreadPoolExecutor(16) as pool:
            for number in range(300):
                pool.submit(send, number)
            until(lambda: len(answered) > 20)
            server.process.kill()
    assert len(answered) > 20
    with serving(folder, key=server.key, lease_seconds=1.5) as again, again.client() as client:
        assert ended(client, denoised)["status"] == "completed"
        assert {ended(client, each)["status"] for each in answered} == {"completed"}


def test_ctrl_c_hands_back_what_runs_and_a_restart_makes_it(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with serving(folder) as server, server.client() as client:
        prediction_id = submit(client, "slow", num_images=4)
        denoising(client, prediction_id)
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < PATIENCE
    with serving(folder, key=server.key) as again, again.client() as client:
        data = ended(client, prediction_id)
        assert data["status"] == "completed"
        assert len(published(again, prediction_id)) == 5
