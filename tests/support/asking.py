"""What tests ask of a server, and how long they wait for it."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from tests.support.serving import Serving

SUBMIT = "/api/v2/wavespeed-ai/flux-control-lora-depth"
PATIENCE = 60.0


def until(found: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """What `found` gives once it gives something."""
    deadline = time.monotonic() + patience
    while not (result := found()):
        assert time.monotonic() < deadline, "waited for too long"
        time.sleep(0.02)
    return result


def submit(client: httpx.Client, prompt: str, **fields: object) -> str:
    answer = client.post(SUBMIT, json={"prompt": prompt, "size": "512*512", "seed": 5, **fields})
    assert answer.status_code == 200, answer.text
    prediction_id: str = answer.json()["data"]["id"]
    return prediction_id


def get(client: httpx.Client, prediction_id: str) -> dict[str, Any]:
    data: dict[str, Any] = client.get(f"/api/v3/predictions/{prediction_id}").json()["data"]
    return data


def pixels(client: httpx.Client, url: str) -> bytes:
    """A picture's pixels: its file has the time of its signature in it."""
    with Image.open(io.BytesIO(client.get(url).content)) as image:
        return image.convert("RGB").tobytes()


def ended(client: httpx.Client, prediction_id: str) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        data = get(client, prediction_id)
        return data if data["status"] in ("completed", "failed") else None

    data: dict[str, Any] = until(found)
    return data


def denoising(client: httpx.Client, prediction_id: str) -> None:
    until(lambda: get(client, prediction_id)["progress"].get("step"))


def published(server: Serving, prediction_id: str) -> list[Path]:
    return sorted((server.folder / "outputs" / prediction_id).rglob("*.*"))
