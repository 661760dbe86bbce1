"""The two curl lines of the API's own page, word for word but for host, key and picture, against the real engine."""

import functools
import http.server
import io
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageDraw

from tests.support.serving import Serving, serving

SUBMIT = """curl --location --request POST "https://api.wavespeed.ai/api/v2/wavespeed-ai/flux-control-lora-depth" \\
--header "Content-Type: application/json" \\
--header "Authorization: Bearer ${WAVESPEED_API_KEY}" \\
--data-raw '{
    "prompt": "A dreamy anime girl in a glowing room, soft ambient light, pastel colors, cinematic composition, Studio Ghibli style",
    "control_image": "https://d2g64w682n9w0w.cloudfront.net/media/images/1745416716025416255_1oAHDzwr.jpg",
    "control_scale": 1,
    "seed": 0,
    "num_images": 1,
    "size": "864*1636",
    "num_inference_steps": 28,
    "guidance_scale": 3.5,
    "enable_safety_checker": true
}'"""  # noqa: E501 - word for word
QUERY = """curl --location --request GET "https://api.wavespeed.ai/api/v2/predictions/${requestId}/result" \\
--header "Authorization: Bearer ${WAVESPEED_API_KEY}\""""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A host of pictures on loopback, in the place of the source's own."""
    folder = tmp_path_factory.mktemp("pictures") / "media" / "images"
    folder.mkdir(parents=True)
    picture = Image.new("L", (432, 818), 40)
    ImageDraw.Draw(picture).ellipse((120, 300, 330, 510), fill=220)
    picture.save(folder / "1745416716025416255_1oAHDzwr.jpg")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder.parents[1]))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as host:
        threading.Thread(target=host.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{host.server_port}"
        host.shutdown()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    command = (sys.executable, "-m", "depthwright")
    folder = tmp_path_factory.mktemp("server") / "data"
    with serving(folder, command=command, allowed_hosts="127.0.0.1") as server:
        yield server


def curl(line: str, server: Serving, pictures: str, request_id: str = "") -> dict[str, Any]:
    """What a shell makes of the line."""
    line = line.replace("https://api.wavespeed.ai", server.base_url)
    line = line.replace("https://d2g64w682n9w0w.cloudfront.net", pictures)
    environment = {**os.environ, "WAVESPEED_API_KEY": server.key, "requestId": request_id}
    done = subprocess.run(
        ["/bin/sh", "-c", line.replace("curl", f"{shlex.quote('curl')} --silent --noproxy '*'", 1)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_the_sources_two_lines_give_a_picture_of_exactly_864x1636(server: Serving, pictures: str) -> None:
    submitted = curl(SUBMIT, server, pictures)
    assert (submitted["code"], submitted["message"]) == (200, "success")
    deadline = time.monotonic() + 120
    data = submitted["data"]
    while data["status"] not in ("completed", "failed"):
        assert time.monotonic() < deadline, data
        data = curl(QUERY, server, pictures, submitted["data"]["id"])["data"]
    assert data["status"] == "completed", data["error"]
    [url] = data["outputs"]
    with Image.open(io.BytesIO(httpx.get(url, trust_env=False).content)) as picture:
        assert picture.size == (864, 1636)
        assert picture.format == "PNG"
    # Measured, not made up: the parts of the time are there, and together they are the whole.
    stages = ("depth", "text", "control", "denoise", "decode", "fidelity")
    assert abs(data["timings"]["inference"] - sum(data["timings"][stage] for stage in stages)) <= len(stages)
    assert data["timings"]["denoise"] > 0
    assert data["seed"] == 0
    assert data["fidelity"][0]["rmse"] > 0


def test_the_api_process_never_loads_torch_and_stays_under_200_megabytes(server: Serving) -> None:
    process = Path(f"/proc/{server.process.pid}")
    if not process.exists():
        pytest.skip("this system has no /proc")
    assert "torch" not in (process / "maps").read_text()
    [resident] = [line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS")]
    assert int(resident.split()[1]) < 200_000
