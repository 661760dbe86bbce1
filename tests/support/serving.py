"""A real server on loopback: the API process, a worker process, an engine that obeys words in the prompt."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
_PATIENCE_SECONDS = 120
_FAKE = (sys.executable, "-m", "tests.support.fake_server")


@dataclass
class Serving:
    """A server that runs."""

    base_url: str
    key: str
    folder: Path
    process: "subprocess.Popen[str]"
    environment: Mapping[str, str]
    output: list[str] = field(default_factory=list)

    @property
    def headers(self) -> dict[str, str]:
        """What opens the server."""
        return {"Authorization": f"Bearer {self.key}"}

    def client(self) -> httpx.Client:
        """An HTTP client with the key."""
        return httpx.Client(base_url=self.base_url, headers=self.headers, timeout=60, trust_env=False)

    def start_worker(self) -> "subprocess.Popen[bytes]":
        """One more worker with the fake engine, beside those that the server keeps."""
        return subprocess.Popen(
            [*_FAKE, "worker"],
            stderr=(self.folder.parent / f"{self.folder.name}.log").open("a"),
            cwd=ROOT,
            env=self.environment,
            start_new_session=True,
        )

    def stop(self, with_signal: signal.Signals = signal.SIGINT) -> int:
        """End it; its exit code."""
        self.process.send_signal(with_signal)
        return self.process.wait(_PATIENCE_SECONDS)


@contextmanager
def serving(
    folder: Path,
    *,
    key: str | None = None,
    ready: bool = True,
    command: tuple[str, ...] = _FAKE,
    **settings: object,
) -> Iterator[Serving]:
    """Start a server that keeps its data in `folder`; `settings` are those of Settings, such as allowed_hosts."""
    environment = _environment({"data_dir": folder, "requests_per_minute": 0, **settings})
    process = subprocess.Popen(
        [*command, "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=(folder.parent / f"{folder.name}.log").open("a"),
        text=True,
        cwd=ROOT,
        env=environment,
        start_new_session=True,
    )
    output: list[str] = []
    news = threading.Condition()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with news:
                output.append(line)
                news.notify_all()
        with news:
            output.append("")
            news.notify_all()

    threading.Thread(target=read, daemon=True).start()

    def wait_for(pattern: str) -> re.Match[str]:
        until = time.monotonic() + _PATIENCE_SECONDS
        with news:
            while (found := re.search(pattern, "".join(output), re.MULTILINE)) is None:
                assert "" not in output, "".join(output)
                assert time.monotonic() < until, "".join(output)
                news.wait(1)
        return found

    try:
        address = wait_for(r"listens on (\S+);")[1]
        if ready:
            wait_for(r"^Ready\.")
        made = re.search(r"^ {2}(dw_\S+)$", "".join(output), re.MULTILINE)
        yield Serving(address, made[1] if made else key or "", folder, process, environment, output)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _environment(settings: Mapping[str, object]) -> dict[str, str]:
    told = {f"DEPTHWRIGHT_{name.upper()}": str(value) for name, value in settings.items()}
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}", **told}
