"""Lets an official client do something in its own environment, and says how that went."""

import json
import os
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from tests.acceptance.clients import CLIENTS, Client, command
from tests.support.serving import Serving

MODEL = "wavespeed-ai/flux-control-lora-depth"
BY_NAME = {str(client): client for client in CLIENTS}
OLDEST = tuple(client for client in CLIENTS if client.version.startswith("0.0."))
"""They return a prediction, whatever became of it."""
NEWER = tuple(client for client in CLIENTS if client not in OLDEST)
"""They return the pictures, or raise; and they know sync mode."""
UPLOADING = tuple(client for client in CLIENTS if str(client) != "python-0.0.5")
_DRIVERS = Path(__file__).parent / "drivers"
_PATIENCE_SECONDS = 20


def drive(client: Client, server: Serving, action: str, **order: object) -> dict[str, Any]:
    """The client's answer to one action; `raised` and `message` are in it if the client raised."""
    told = {"base_url": server.base_url, "key": server.key, "model": MODEL, "action": action, **order}
    program, environment = command(client, _driver(client))
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ}
    try:
        done = subprocess.run(
            [*program, json.dumps(told)],
            env={**kept, "NO_PROXY": "*", **environment},
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"raised": None, "message": f"{client} still waits after {_PATIENCE_SECONDS} s"}
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert lines, done.stderr
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def succeed(client: Client, server: Serving, action: str, **order: object) -> dict[str, Any]:
    """The same, where nothing may go wrong."""
    answer = drive(client, server, action, **order)
    assert "raised" not in answer, answer
    return answer


def picture(url: str) -> Image.Image:
    """What an address of ours shows to somebody without a key."""
    answer = httpx.get(url, trust_env=False)
    assert answer.status_code == 200, answer.text
    image = Image.open(BytesIO(answer.content))
    image.load()
    assert answer.headers["content-type"] == Image.MIME[str(image.format)]
    return image


def predictions(server: Serving) -> list[dict[str, Any]]:
    """All predictions of the key, newest first."""
    with server.client() as http:
        listed: list[dict[str, Any]] = http.post("/api/v3/predictions", json={}).json()["data"]["items"]
    return listed


def _driver(client: Client) -> Path:
    match client.language, client.version.split(".")[:2]:
        case "python", ["0", "0"]:
            return _DRIVERS / "python_0.py"
        case "python", _:
            return _DRIVERS / "python_1.py"
        case _, ["0", "0"]:
            return _DRIVERS / "javascript_0_0.cjs"
    return _DRIVERS / "javascript_0_2.cjs"
