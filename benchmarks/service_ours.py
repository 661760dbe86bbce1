"""Our server and its worker over a folder of data."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.service_client import request
from benchmarks.service_nothing import COMMAND, LOG
from benchmarks.service_process import Server, listening

_KEY = re.compile(r"^ {2}(dw_\S+)$", re.MULTILINE)


class Depthwright:
    """Our server over a folder of data, and its worker, each with a process of its own."""

    def __init__(self, name: str, folder: Path, key: str = "") -> None:
        self.folder = folder
        self.log = folder / "engine.log"
        self.api = self._start(name, "serve", "--port", "0")
        self.worker: Server | None = None
        self.api.says("listens on")
        said = self.api.said()
        self.api.address = listening(said)
        made = _KEY.search(said)
        self.key = made[1] if made else key
        self.api.answers(self.request("GET", "/api/v3/balance"))

    def work(self) -> None:
        """Start the worker and wait until it is ready."""
        self.worker = self._start("worker", "worker")
        self.api.says("Ready.")

    def rest(self) -> None:
        """End the worker."""
        if self.worker is not None:
            self.worker.end()
            self.worker = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Let it run for a while, with its worker if it has one."""
        with self.api.running(), self.worker.running() if self.worker else contextlib.nullcontext():
            yield

    def pause(self) -> None:
        """Stop it still."""
        for each in filter(None, (self.api, self.worker)):
            each.pause()

    def end(self) -> None:
        """End both."""
        self.rest()
        self.api.end()

    def request(self, method: str, path: str, body: object = None, **headers: str) -> bytes:
        """A request with the key."""
        return request(self.api.address, method, path, body, self.key, **headers)

    def memory(self) -> tuple[float, float, bool]:
        """The API process's resident memory now and at most, in MB, and whether it has torch loaded."""
        status = Path(f"/proc/{self.api.pid}/status").read_text()
        now, most = (int(re.findall(rf"{name}:\s+(\d+)", status)[0]) / 1000 for name in ("VmRSS", "VmHWM"))
        return now * 1.024, most * 1.024, "/torch/" in Path(f"/proc/{self.api.pid}/maps").read_text()

    def _start(self, name: str, *arguments: str) -> Server:
        settings: Mapping[str, object] = {
            "DATA_DIR": self.folder,
            "REQUESTS_PER_MINUTE": 0,
            "CONCURRENT_PREDICTIONS": 0,
            "WORKERS": 0,
            "LEASE_SECONDS": 600,  # it stands still while others are measured
        }
        options = {f"DEPTHWRIGHT_{key}": value for key, value in settings.items()}
        output = self.folder / f"{name}.txt"
        return Server(name, [*COMMAND, *arguments], output, **options, **{LOG: self.log})
