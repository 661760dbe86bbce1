"""A real ComfyUI, headless on the CPU, driven over HTTP and its websocket."""

import io
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from tests.comfyui.events import Listener
from tests.comfyui.pack import SOURCE
from tests.comfyui.workflows import Prompt

ROOT = SOURCE.parent
_START_SECONDS, _RUN_SECONDS = 180, 300
_ENDS = ("execution_success", "execution_error", "execution_interrupted")


@dataclass(frozen=True)
class Ran:
    """How a prompt ended: the event that says so, its history, and what it showed meanwhile."""

    end: dict[str, Any]
    history: dict[str, Any]
    progress: list[tuple[int, int]]
    previews: int

    @property
    def how(self) -> str:
        """success, error or interrupted."""
        return str(self.end["type"]).removeprefix("execution_")

    def files(self, node_id: str) -> list[dict[str, str]]:
        """The pictures that a node saved or shows."""
        found: list[dict[str, str]] = self.history["outputs"][node_id]["images"]
        return found


@dataclass
class RealComfy:
    """A ComfyUI that runs."""

    port: int
    base: Path
    python: str
    environment: dict[str, str]
    log: Path

    @property
    def http(self) -> httpx.Client:
        """Its server."""
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60, trust_env=False)

    def upload(self, picture: Image.Image, name: str) -> None:
        """Put a picture where Load Image finds it."""
        with io.BytesIO() as file:
            picture.save(file, "PNG")
            files = {"image": (name, file.getvalue(), "image/png")}
        with self.http as client:
            client.post("/upload/image", files=files, data={"overwrite": "true"}).raise_for_status()

    def submit(self, prompt: Prompt, client_id: str = "tests") -> httpx.Response:
        """Queue a prompt; its answer, also where it was refused."""
        with self.http as client:
            return client.post("/prompt", json={"prompt": prompt, "client_id": client_id})

    def run(self, prompt: Prompt, *, interrupt_at: int | None = None) -> Ran:
        """Run a prompt to its end; or press the button when its bar shows that many steps."""
        client_id = uuid.uuid4().hex
        listener = Listener(self.port, client_id)
        answer = self.submit(prompt, client_id)
        assert answer.is_success, answer.text
        prompt_id = answer.json()["prompt_id"]
        if interrupt_at is not None:
            listener.wait_for(
                lambda event: event["type"] == "progress" and event["data"]["value"] >= interrupt_at
            )
            with self.http as client:
                client.post("/interrupt").raise_for_status()
        end = listener.wait_for(
            lambda event: event["type"] in _ENDS and event["data"].get("prompt_id") == prompt_id
        )
        listener.close()
        progress = [
            (event["data"]["value"], event["data"]["max"])
            for event in listener.events
            if event["type"] == "progress"
        ]
        return Ran(end, self._history(prompt_id), progress, listener.previews)

    def picture(self, file: dict[str, str]) -> Image.Image:
        """A picture that a node saved or shows, with its metadata."""
        with self.http as client:
            picture = Image.open(io.BytesIO(client.get("/view", params=file).raise_for_status().content))
            picture.load()
            return picture

    def command(self, *arguments: str) -> None:
        """`depthwright` by ComfyUI's own interpreter, which has its own torch."""
        done = subprocess.run(
            [self.python, "-m", "depthwright", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_RUN_SECONDS,
        )
        assert done.returncode == 0, done.stderr

    def _history(self, prompt_id: str) -> dict[str, Any]:
        until = time.monotonic() + 30
        with self.http as client:
            while not (told := client.get(f"/history/{prompt_id}").json()):
                assert time.monotonic() < until, "it ended, but its history is empty"
                time.sleep(0.1)
        found: dict[str, Any] = told[prompt_id]
        return found


@contextmanager
def real_comfy(checkout: Path, python: str, base: Path, connections: Path) -> Iterator[RealComfy]:
    """Start it with a copy of the pack as it stands, and end it."""
    (base / "custom_nodes").mkdir(parents=True, exist_ok=True)
    for folder in ("models", "input", "output", "user"):
        (base / folder).mkdir(exist_ok=True)
    shutil.copytree(
        SOURCE, base / "custom_nodes" / "depthwright", ignore=shutil.ignore_patterns("__pycache__")
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "OMP_NUM_THREADS": "1",
        "DEPTHWRIGHT_CONNECTIONS": str(connections),
    }
    log = base / "comfyui.log"
    command = [
        python, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port), "--base-directory", str(base),
        "--disable-api-nodes", "--database-url", f"sqlite:///{base}/comfyui.db",
    ]  # fmt: skip
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=checkout, env=environment, stdout=output, stderr=output)
    running = RealComfy(port, base, python, environment, log)
    try:
        _wait(running, process)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait(running: RealComfy, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _START_SECONDS
    with running.http as client:
        while True:
            assert process.poll() is None, running.log.read_text()
            assert time.monotonic() < until, running.log.read_text()
            try:
                if client.get("/system_stats").is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.5)
