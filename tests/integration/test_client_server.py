"""Our own client and command against a real server."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from depthwright.cli.app import run
from depthwright.clients import AsyncClient, Client
from depthwright.clients.errors import PredictionFailed, PredictionStopped, ServerRefused
from tests.support.serving import Serving, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("client") / "data") as running:
        yield running


@pytest.fixture
def client(server: Serving) -> Iterator[Client]:
    with Client(server.base_url, server.key) as client:
        yield client


def test_a_picture_is_generated_with_a_picture_of_ones_own(client: Client, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.linear_gradient("L").save(photo)
    made = client.generate(prompt="a sphere", control_image=photo, size="512*640", seed=3, num_images=2)
    assert [image.size for image in made.images] == [(512, 640)] * 2
    assert list(made.seeds) == [3, 4]
    assert made.model_version == "fake-123456789abc"


def test_progress_is_told_step_by_step_and_the_last_update_is_the_end(client: Client) -> None:
    submitted = client.submit(prompt="slow", size="512*512", num_inference_steps=40)
    updates = list(client.stream(submitted.id))
    steps = [update.progress.step for update in updates if update.progress.step]
    assert len(steps) > 1
    assert steps == sorted(steps)
    assert updates[-1].prediction.status == "completed"


def test_what_fails_and_what_is_cancelled_is_told_apart(client: Client) -> None:
    with pytest.raises(PredictionFailed, match="told to fail"):
        client.generate(prompt="fail", size="512*512")
    submitted = client.submit(prompt="slow", size="512*512", num_images=4)
    threading.Timer(0.3, lambda: client.cancel(submitted.id)).start()
    with pytest.raises(PredictionStopped, match="cancelled"):
        client.wait(submitted.id)


def test_the_servers_own_words_reach_the_caller(server: Serving) -> None:
    with Client(server.base_url, "dw_wrong") as stranger, pytest.raises(ServerRefused, match="no valid key"):
        stranger.list()


def test_the_asynchronous_client_does_the_same(server: Serving) -> None:
    async def both() -> list[tuple[int, int]]:
        async with AsyncClient(server.base_url, server.key) as client:
            made = await asyncio.gather(*(client.generate(prompt="a cube", size="512*512") for _ in range(2)))
            return [each.images[0].size for each in made]

    assert asyncio.run(both()) == [(512, 512), (512, 512)]


def test_the_command_generates_on_the_server(
    server: Serving, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.png"
    options = ["--prompt", "a sphere", "--size", "512*512", "--seed", "9", "--output", str(target)]
    assert run(["generate", "--server", server.base_url, "--key", server.key, *options]) == 0
    with Image.open(target) as image:
        assert image.size == (512, 512)
    told = capsys.readouterr()
    assert "seed 9" in told.out
    assert server.key not in told.out + told.err


def test_the_command_names_loras_to_the_server(
    server: Serving, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = server.folder / "loras"
    folder.mkdir(exist_ok=True)
    (folder / "ink.safetensors").touch()
    options = ["--prompt", "x", "--size", "512*512", "--output", str(tmp_path / "out.png")]
    where = ["--server", server.base_url, "--key", server.key]
    assert run(["generate", *where, *options, "--lora", "ink=0.5"]) == 0
    with Client(server.base_url, server.key) as client:
        newest = client.list().items[0]
        assert newest.raw["loras"][0]["scale"] == 0.5
    capsys.readouterr()
    assert run(["generate", *where, *options, "--lora", "pencil"]) != 0
    assert "no LoRA called pencil" in capsys.readouterr().err


def test_a_model_option_beside_a_server_is_refused(
    server: Serving, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--prompt", "x", "--server", server.base_url, "--key", server.key, "--profile", "embedded"]
    assert run(["generate", *options]) == 2
    assert "--profile" in capsys.readouterr().err
