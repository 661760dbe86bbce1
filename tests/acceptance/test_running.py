"""Every official client submits, waits and gets its pictures."""

from base64 import b64decode
from io import BytesIO

import pytest
from PIL import Image

from tests.acceptance.clients import CLIENTS, Client
from tests.acceptance.driving import BY_NAME, NEWER, OLDEST, picture, succeed
from tests.support.serving import Serving

every_client = pytest.mark.parametrize("client", CLIENTS, ids=str)
EXAMPLE = {
    "prompt": "A dreamy anime girl in a glowing room, soft ambient light, pastel colors, Studio Ghibli style",
    "control_scale": 1,
    "seed": 0,
    "num_images": 1,
    "size": "864*1636",
    "num_inference_steps": 28,
    "guidance_scale": 3.5,
    "enable_safety_checker": True,
}


@every_client
def test_it_gets_the_pictures_it_asked_for_in_exactly_their_size(server: Serving, client: Client) -> None:
    wanted = {"prompt": "a red sphere", "num_images": 3, "size": "512*768", "num_inference_steps": 2}
    outputs = succeed(client, server, "run", input=wanted)["outputs"]
    assert len(set(outputs)) == 3
    assert all(url.startswith(server.base_url) for url in outputs)
    assert [picture(url).size for url in outputs] == [(512, 768)] * 3


@every_client
def test_the_documented_example_request_works(server: Serving, client: Client) -> None:
    outputs = succeed(client, server, "run", input=EXAMPLE)["outputs"]
    assert [picture(url).size for url in outputs] == [(864, 1636)]


@every_client
def test_a_prompt_is_enough(server: Serving, client: Client) -> None:
    outputs = succeed(client, server, "run", input={"prompt": "a red sphere"})["outputs"]
    assert [picture(url).size for url in outputs] == [(864, 1636)]


@every_client
def test_a_field_that_the_server_does_not_know_disturbs_nobody(server: Serving, client: Client) -> None:
    wanted = {"prompt": "a red sphere", "size": "512*512", "unheard_of": [1, {"a": None}]}
    outputs = succeed(client, server, "run", input=wanted)["outputs"]
    assert [picture(url).size for url in outputs] == [(512, 512)]


@every_client
def test_the_same_seed_gives_every_client_the_same_picture(server: Serving, client: Client) -> None:
    wanted = {"prompt": "a red sphere", "size": "512*512", "seed": 77, "num_images": 2}
    first, second = succeed(client, server, "run", input=wanted)["outputs"]
    assert picture(first).getpixel((0, 0)) == (77, 0, 0)
    assert picture(second).getpixel((0, 0)) == (78, 0, 0)


@every_client
def test_pictures_come_as_base64_on_request(server: Serving, client: Client) -> None:
    wanted = {"prompt": "a red sphere", "size": "512*640", "enable_base64_output": True}
    (output,) = succeed(client, server, "run", input=wanted)["outputs"]
    assert Image.open(BytesIO(b64decode(output, validate=True))).size == (512, 640)


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_pictures_come_in_the_format_that_was_asked_for(server: Serving, output_format: str) -> None:
    wanted = {"prompt": "a red sphere", "size": "512*512", "output_format": output_format}
    (output,) = succeed(BY_NAME["python-2.0.5"], server, "run", input=wanted)["outputs"]
    assert picture(output).format == output_format.upper()


def test_python_client_0_0_5_runs_asynchronously(server: Serving) -> None:
    wanted = {"prompt": "a red sphere", "size": "512*768"}
    answer = succeed(BY_NAME["python-0.0.5"], server, "run_async", input=wanted)
    assert answer["status"] == "completed"
    assert [picture(url).size for url in answer["outputs"]] == [(512, 768)]


@pytest.mark.parametrize("name", ["python-1.0.8", "python-2.0.5"])
def test_python_clients_run_by_their_modules_configuration(server: Serving, name: str) -> None:
    wanted = {"prompt": "a red sphere", "size": "512*768"}
    outputs = succeed(BY_NAME[name], server, "run_by_config", input=wanted)["outputs"]
    assert [picture(url).size for url in outputs] == [(512, 768)]


@pytest.mark.parametrize("name", ["python-2.0.5", "javascript-0.2.3", "javascript-0.3.2"])
def test_running_without_exceptions_names_the_prediction(server: Serving, name: str) -> None:
    answer = succeed(
        BY_NAME[name], server, "run_no_throw", input={"prompt": "a red sphere", "size": "512*512"}
    )
    assert (answer["status"], answer["error"]) == ("completed", None)
    assert answer["task_id"] in answer["outputs"][0]


@pytest.mark.parametrize("reader", [*OLDEST, BY_NAME["python-2.0.5"]], ids=str)
@pytest.mark.parametrize("maker", OLDEST, ids=str)
def test_a_prediction_made_by_one_client_is_read_by_another(
    server: Serving, maker: Client, reader: Client
) -> None:
    made = succeed(maker, server, "run", input={"prompt": "a red sphere", "size": "512*512", "num_images": 2})
    read = succeed(reader, server, "get", id=made["id"])
    assert read["status"] == "completed"
    assert read["outputs"] == made["outputs"]


@pytest.mark.parametrize("client", OLDEST, ids=str)
def test_the_oldest_clients_get_what_they_require_at_once(idle_server: Serving, client: Client) -> None:
    made = succeed(client, idle_server, "create", input={"prompt": "a red sphere"})["prediction"]
    assert made["status"] == "created"
    assert made["outputs"] == made["has_nsfw_contents"] == []
    assert made["error"] == ""
    assert made["executionTime"] == 0
    assert made["model"] == "wavespeed-ai/flux-control-lora-depth"
    assert made["urls"]["get"].startswith(idle_server.base_url)
    assert made["created_at"].endswith("Z")


@pytest.mark.parametrize("client", NEWER, ids=str)
def test_sync_mode_answers_with_the_pictures(server: Serving, client: Client) -> None:
    wanted = {"prompt": "a red sphere", "size": "512*768", "num_images": 2}
    outputs = succeed(client, server, "run", sync=True, input=wanted)["outputs"]
    assert [picture(url).size for url in outputs] == [(512, 768)] * 2


@pytest.mark.parametrize("client", OLDEST, ids=str)
def test_sync_mode_works_in_the_oldest_clients_as_a_field(server: Serving, client: Client) -> None:
    wanted = {"prompt": "a red sphere", "size": "512*768", "enable_sync_mode": True}
    made = succeed(client, server, "create", input=wanted)
    assert made["status"] == "completed"
    assert [picture(url).size for url in made["outputs"]] == [(512, 768)]
