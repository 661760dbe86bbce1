"""The demo: a server of our own, asked as the hosted API is asked, for one prompt at four control scales.

Writes demo/output.png, demo/depth.png and demo/sheet.png, and tells how long each stage took.
`make demo` runs it; `make demo ARGS="photo.jpg --prompt '...'"` takes a picture of your own.
"""

import argparse
import io
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from PIL import Image, ImageDraw, ImageFont
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from depthwright.errors import DepthwrightError, UserError
from depthwright.images import open_image, save_images

COMMAND = [sys.executable, "-m", "depthwright"]
SUBMIT = "/api/v2/wavespeed-ai/flux-control-lora-depth"
PROMPT = "a red sphere left of a blue cube and a yellow cone on a wooden floor outdoors, in daylight"
SCALES = (0.0, 0.5, 1.0, 2.0)
SERVED = 1.0  # the scale of output.png
SEED = 7
_PATIENCE_SECONDS = 30
PANEL_WIDTH, GAP, CAPTION = 288, 12, 34


class DemoFailed(UserError):
    """The server did not start, or did not make a picture."""


def main() -> None:
    """Serve, ask, write, tell."""
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    # 1. A server with a worker, on a free port, its data in a folder that goes with it.
    with tempfile.TemporaryDirectory() as data, _server(Path(data), options.profile) as client:
        warm = time.perf_counter() - started
        # 2. The control image, where there is one of your own.
        control = _upload(client, options.control_image) if options.control_image else None
        # 3. The same request at every control scale.
        with _progress() as progress:
            answers = {scale: _ask(client, progress, options.prompt, control, scale) for scale in SCALES}
        contents = {scale: _file(client, answer["outputs"][0]) for scale, answer in answers.items()}
        depth = _picture(_file(client, answers[SERVED]["control"]))
    # 4. The picture as it was sent, with its content credentials, its depth map and the sheet.
    pictures = {scale: _picture(content) for scale, content in contents.items()}
    files = [
        *save_images([pictures[SERVED]], options.folder / "output.png", lambda *_: contents[SERVED]),
        *save_images([depth], options.folder / "depth.png"),
        *save_images([_sheet(depth, pictures)], options.folder / "sheet.png"),
    ]
    # 5. What was done.
    _report(options.prompt, answers, files, warm, time.perf_counter() - started)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="One prompt, one depth map, four control scales.")
    parser.add_argument(
        "control_image", type=Path, nargs="?", help="a photo or a depth map (default: our own)"
    )
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--profile", default="embedded")
    parser.add_argument("--folder", type=Path, default=Path("demo"))
    return parser.parse_args()


@contextmanager
def _server(data: Path, profile: str) -> Iterator[httpx.Client]:
    """A server that is ready, and a client that holds its key; it ends with the block."""
    process = subprocess.Popen(  # noqa: S603 - our own command
        [*COMMAND, "serve", "--port", "0", "--profile", profile],
        stdout=subprocess.PIPE,
        stderr=(data / "server.log").open("w"),
        text=True,
        env={**os.environ, "DEPTHWRIGHT_DATA_DIR": str(data / "kept")},
    )
    assert process.stdout is not None
    print("Starting a server and warming up its model ...", flush=True)
    try:
        told = ""
        for line in process.stdout:
            told += line
            if line.startswith("Ready."):
                break
        address, key = re.search(r"listens on (\S+);", told), re.search(r"^ {2}(dw_\S+)$", told, re.MULTILINE)
        if process.poll() is not None or not address or not key:
            raise DemoFailed(f"The server did not start:\n{(data / 'server.log').read_text()}")
        headers = {"Authorization": f"Bearer {key[1]}"}
        with httpx.Client(base_url=address[1], headers=headers, timeout=60, trust_env=False) as client:
            yield client
    finally:
        process.terminate()
        try:
            process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _upload(client: httpx.Client, path: Path) -> str:
    open_image(path).close()  # a file that is no picture is told before it travels
    answer = client.post("/api/v2/media/upload/binary", files={"file": (path.name, path.read_bytes())})
    url: str = _data(answer)["download_url"]
    return url


def _ask(
    client: httpx.Client, progress: Progress, prompt: str, control: str | None, scale: float
) -> dict[str, Any]:
    """Submit, then poll to the end: these two calls are all that the hosted API's users make."""
    body = {
        "prompt": prompt,
        "control_image": control,
        "control_scale": scale,
        "seed": SEED,
        "num_images": 1,
        "size": "864*1636",
        "num_inference_steps": 28,
        "guidance_scale": 3.5,
        "enable_safety_checker": True,
    }
    task = progress.add_task(f"Control scale {scale:g}", total=28, stage="")
    data = _data(client.post(SUBMIT, json=body))
    while data["status"] not in ("completed", "failed"):
        time.sleep(0.1)
        data = _data(client.get(data["urls"]["get"]))
        told = data["progress"]
        progress.update(task, completed=told.get("step") or 0, stage=told.get("stage", "waiting"))
    if data["status"] == "failed":
        raise DemoFailed(data["error"])
    progress.update(task, completed=28, stage="done")
    return data


def _data(answer: httpx.Response) -> dict[str, Any]:
    envelope = answer.json()
    if envelope["code"] != 200:
        raise DemoFailed(envelope["message"])
    data: dict[str, Any] = envelope["data"]
    return data


def _file(client: httpx.Client, url: str) -> bytes:
    return client.get(url).raise_for_status().content


def _picture(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description:<18}"),
        BarColumn(),
        TextColumn("{task.fields[stage]:<10}"),
        TimeElapsedColumn(),
        disable=not sys.stdout.isatty(),
    )


def _sheet(depth: Image.Image, pictures: dict[float, Image.Image]) -> Image.Image:
    """The depth map and the outputs side by side, each with its label."""
    panels = [("depth map", depth)]
    panels += [(f"control scale {scale:g}", picture) for scale, picture in pictures.items()]
    height = round(PANEL_WIDTH * depth.height / depth.width)
    width = GAP + len(panels) * (PANEL_WIDTH + GAP)
    sheet = Image.new("RGB", (width, height + CAPTION + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (label, picture) in enumerate(panels):
        left = GAP + number * (PANEL_WIDTH + GAP)
        draw.text(
            (left + PANEL_WIDTH / 2, CAPTION / 2), label, "black", ImageFont.load_default(18), anchor="mm"
        )
        small = picture.convert("RGB").resize((PANEL_WIDTH, height), Image.Resampling.LANCZOS)
        sheet.paste(small, (left, CAPTION))
    return sheet


def _report(
    prompt: str, answers: dict[float, dict[str, Any]], files: list[Path], warm: float, total: float
) -> None:
    served = answers[SERVED]
    print(f'\n"{prompt}"')
    print(f"Model {served['model_version']}, seed {served['seed']}, size {served['input']['size']}.")
    print("Milliseconds by stage, at each scale:\n")
    stages = ["queue", "fetch", "depth", "text", "control", "denoise", "decode", "fidelity", "save"]
    print("scale" + "".join(f"{stage:>10}" for stage in [*stages, "inference"]) + "      RMSE  correlation")
    for scale, answer in answers.items():
        timings, [fidelity] = answer["timings"], answer["fidelity"]
        follows = fidelity["residual_correlation"]
        row = "".join(f"{timings[stage]:10}" for stage in [*stages, "inference"])
        print(f"{scale:5g}{row}{fidelity['rmse']:10.2f}{'-' if follows is None else f'{follows:.2f}':>13}")
    print("\nRMSE (0-255) and residual correlation compare the depth seen in a picture with the depth map.")
    print(f"The server was warm after {warm:.1f} s; everything took {total:.1f} s. Written:")
    for file in files:
        print(f"  {file}")


if __name__ == "__main__":
    try:
        main()
    except DepthwrightError as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
