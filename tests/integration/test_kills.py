"""A worker may die at any point: its predictions are made all the same, once, and to the same pixel."""

import http.server
import random
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest

from tests.support.asking import ended, get, pixels, published, submit, until
from tests.support.scripted import png
from tests.support.serving import Serving, serving

POINTS = ("depth", "text", "control", "denoise", "decode", "fidelity", "writing", "publishing")
ROUNDS = 20
FILES = 2  # of a prediction: its picture and its depth map


class Workers:
    """Two workers of a server that keeps none itself; one that died gets a successor."""

    def __init__(self, server: Serving) -> None:
        self._server = server
        self.processes = [server.start_worker() for _ in range(2)]

    def replenish(self) -> None:
        """Start a worker for every one that is gone."""
        self.processes = [
            each if each.poll() is None else self._server.start_worker() for each in self.processes
        ]

    def stop(self) -> None:
        """End all of them."""
        for each in self.processes:
            each.send_signal(signal.SIGTERM)
        for each in self.processes:
            each.wait(60)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, host: "SlowHost") -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("kills") / "data"
    with serving(folder, ready=False, workers=0, lease_seconds=1.5, allowed_hosts=host.address) as running:
        yield running


@pytest.fixture(scope="module")
def workers(server: Serving) -> Iterator[Workers]:
    found = Workers(server)
    yield found
    found.stop()


class SlowHost:
    """A host of pictures that keeps its first visitor waiting for good."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.over = threading.Event()
        slow = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if not slow.asked.is_set():
                    slow.asked.set()
                    slow.over.wait()
                    return
                picture = png()
                self.send_response(200)
                self.send_header("content-length", str(len(picture)))
                self.end_headers()
                self.wfile.write(picture)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def host() -> Iterator[SlowHost]:
    found = SlowHost()
    yield found
    found.close()


def picture(client: httpx.Client, data: dict[str, Any]) -> bytes:
    [output] = data["outputs"]
    return pixels(client, output)


def any_runs(client: httpx.Client, ids: list[str]) -> bool:
    return any(get(client, each)["status"] == "processing" for each in ids)


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_killed_at_any_point_leaves_one_picture_of_the_same_pixels(
    server: Serving, workers: Workers, point: str
) -> None:
    workers.replenish()
    with server.client() as client:
        undisturbed = ended(client, submit(client, "a sphere"))
        prediction_id = submit(client, f"die:{point}")
        data = ended(client, prediction_id)
        assert (server.folder / f"died-{point}").exists(), "nobody was killed"
        assert data["status"] == "completed"
        assert "/2/" in data["outputs"][0], "the second attempt made it"
        assert picture(client, data) == picture(client, undisturbed)
        # What the dead worker wrote is no output: only the second attempt's files are served.
        served = {data["outputs"][0], data["control"]}
        for file in published(server, prediction_id):
            url = f"{server.base_url}/outputs/{file.relative_to(server.folder / 'outputs').as_posix()}"
            assert client.get(url).status_code == (200 if url in served else 404)


def test_a_worker_killed_while_it_fetches_loses_nothing(
    server: Serving, workers: Workers, host: SlowHost
) -> None:
    workers.replenish()
    with server.client() as client:
        prediction_id = submit(client, "a sphere", control_image=f"http://{host.address}/a.png")
        until(host.asked.is_set)
        for each in workers.processes:
            each.kill()
            each.wait()
        workers.replenish()
        assert ended(client, prediction_id)["status"] == "completed"


def test_random_kills_lose_nothing_and_make_nothing_twice(server: Serving, workers: Workers) -> None:
    chance = random.Random(8)  # noqa: S311 - kills at the same moments each time
    with server.client() as client:
        undisturbed = picture(client, ended(client, submit(client, "a sphere")))
        answered = []
        for _ in range(ROUNDS):
            workers.replenish()
            new = [submit(client, "slow", num_inference_steps=chance.randint(4, 16)) for _ in range(2)]
            answered += new
            until(partial(any_runs, client, new))
            time.sleep(chance.uniform(0, 0.6))
            victim = chance.choice(workers.processes)
            victim.kill()
            victim.wait()
        workers.replenish()
        for each in answered:
            data = ended(client, each)
            # Three of the kills may have met the same prediction by chance; it says so then.
            if data["status"] == "failed":
                assert "3 workers died" in data["error"]
                continue
            assert picture(client, data) == undisturbed
            own = [
                file
                for file in published(server, each)
                if file.parent.name == data["outputs"][0].split("/")[-2]
            ]
            assert len(own) == FILES
        assert sum(get(client, each)["status"] == "completed" for each in answered) > ROUNDS
