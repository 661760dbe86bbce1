"""Depth Generate (API) and Fetch Result against our real server on loopback."""

import io
import json
import logging
import threading
import time
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.comfyui.fake import Blocker, Interrupt, Link
from tests.comfyui.pack import Pack
from tests.support.serving import Serving

NODE, FETCH = "DepthwrightGenerateAPI", "DepthwrightFetchResult"
SMALL = {"prompt": "a red sphere", "size": "512*512", "num_inference_steps": 4}


@pytest.fixture(autouse=True)
def _configured(pack: Pack, server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPTHWRIGHT_SERVER", server.base_url)
    monkeypatch.setenv("DEPTHWRIGHT_KEY", server.key)


def connection(pack: Pack, **widgets: Any) -> Link:
    return Link(pack.run("DepthwrightConnection", **widgets)[0])


def hosted(pack: Pack, server: Serving, **widgets: Any) -> Link:
    """Our server, which speaks the hosted API's dialect, under a profile that says so."""
    module = pack.module("connections")
    return Link(module.Connection("default", server.base_url, "wavespeed", widgets.get("timeout", 60.0), 0.1))


def generate(pack: Pack, link: Link | None = None, **widgets: Any) -> dict[str, Any]:
    return pack.outputs(NODE, connection=link or connection(pack), **{**SMALL, **widgets})


def bytes_of(pack: Pack, batch: Any) -> list[Image.Image]:
    pictures: list[Image.Image] = pack.module("tensors").to_pictures(batch)
    return [picture.convert("RGB") for picture in pictures]


def told(server: Serving, request_id: str) -> dict[str, Any]:
    with server.client() as client:
        data: dict[str, Any] = client.get(f"/api/v3/predictions/{request_id}").json()["data"]
        return data


def newest(server: Serving) -> dict[str, Any]:
    with server.client() as client:
        body = {"page": 1, "page_size": 1, "include_inputs": True}
        data: dict[str, Any] = client.post("/api/v3/predictions", json=body).json()["data"]["items"][0]
        return data


def test_all_images_of_the_batch_come_in_the_order_of_their_seeds(pack: Pack) -> None:
    made = generate(pack, num_images=3, seed=77)
    assert tuple(made["images"].shape) == (3, 512, 512, 3)
    # The fake engine paints the seed.
    assert [each.getpixel((9, 9)) for each in bytes_of(pack, made["images"])] == [
        (77, 0, 0),
        (78, 0, 0),
        (79, 0, 0),
    ]
    assert made["first_seed"] == 77


def test_what_is_told_beside_the_pictures_is_json_that_others_can_read(pack: Pack, server: Serving) -> None:
    made = generate(pack, num_images=2)
    said = told(server, made["request_id"])
    assert said["status"] == "completed"
    assert made["first_seed"] == said["seed"]
    assert json.loads(made["flags"]) == said["has_nsfw_contents"]
    assert json.loads(made["timings"])["inference"] == said["timings"]["inference"] / 1000
    assert tuple(made["depth_map"].shape) == (1, 512, 512, 3)


def test_progress_runs_over_all_steps_of_all_images_with_previews(pack: Pack) -> None:
    generate(pack, prompt="slow", num_images=2, num_inference_steps=20)
    done = [value for value, _, _ in pack.comfy.progress]
    assert done == sorted(done)
    assert {of for _, of, _ in pack.comfy.progress} == {40}
    assert any(value > 20 for value in done)
    previews = [shown for _, _, shown in pack.comfy.progress if shown]
    assert previews
    assert all(kind == "JPEG" and isinstance(each, Image.Image) for kind, each, _ in previews)


def test_a_control_image_travels_as_it_is(pack: Pack, server: Serving) -> None:
    ramp = Image.linear_gradient("L").resize((320, 200))
    batch = pack.module("tensors").to_batch([ramp])
    generate(pack, control_image=Link(batch))
    url = newest(server)["input"]["control_image"]
    arrived = Image.open(io.BytesIO(httpx.get(url, trust_env=False).content))
    assert arrived.tobytes() == ramp.tobytes()
    assert arrived.mode == "L"


def test_a_control_image_may_be_a_url(pack: Pack, server: Serving) -> None:
    batch = pack.module("tensors").to_batch([Image.linear_gradient("L")])
    generate(pack, control_image=Link(batch))
    url = newest(server)["input"]["control_image"]
    made = generate(pack, control_image_url=f" {url} ")
    assert newest(server)["input"]["control_image"] == url
    assert made["request_id"] == newest(server)["id"]


def test_a_picture_and_a_url_at_once_are_refused(pack: Pack) -> None:
    batch = pack.module("tensors").to_batch([Image.linear_gradient("L")])
    with pytest.raises(
        Exception, match=r"control_image_url is .* it must be empty where a picture is linked"
    ):
        generate(pack, control_image=Link(batch), control_image_url="https://a.example/x.png")


def test_a_batch_of_control_images_is_refused_rather_than_one_taken(pack: Pack) -> None:
    batch = pack.module("tensors").to_batch([Image.linear_gradient("L")] * 2)
    with pytest.raises(Exception, match="control_image is a batch of 2 pictures"):
        generate(pack, control_image=Link(batch))


def test_every_widget_reaches_the_server(pack: Pack, server: Serving) -> None:
    generate(
        pack,
        control_scale=0.5,
        seed=5,
        guidance_scale=10,
        preprocess_depth="false",
        acceleration="none",
        enable_safety_checker=False,
        output_format="webp",
        loras=" \n",
        webhook_url="",
    )
    said = newest(server)["input"]
    assert (said["control_scale"], said["seed"], said["guidance_scale"]) == (0.5, 5, 10)
    assert (said["preprocess_depth"], said["acceleration"]) == ("false", "none")
    assert (said["enable_safety_checker"], said["output_format"]) == (False, "webp")
    assert not said.get("loras")
    assert not said.get("webhook_url")


def test_the_servers_error_is_raised_in_its_words(pack: Pack) -> None:
    with pytest.raises(Exception, match=r"failed .*The fake engine was told to fail"):
        generate(pack, prompt="fail")


def test_the_servers_refusal_is_raised_in_its_words(pack: Pack) -> None:
    with pytest.raises(Exception, match=r"The server refused \(400\): size is '4000\*4000'"):
        generate(pack, size="4000*4000")


def test_a_wrong_key_is_told_and_not_repeated(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    link = connection(pack)
    monkeypatch.setenv("DEPTHWRIGHT_KEY", "dw_wrong-key-of-somebody")
    with pytest.raises(Exception, match=r"The server refused \(401\)") as refused:
        generate(pack, link)
    assert "somebody" not in str(refused.value)


def test_nobody_at_the_address_is_told_in_words(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPTHWRIGHT_SERVER", "http://127.0.0.1:9")
    with pytest.raises(Exception, match=r"There is no answer from http://127\.0\.0\.1:9"):
        generate(pack, connection(pack, timeout=1))


def test_an_interrupt_stops_it_on_the_server_too(pack: Pack, server: Serving) -> None:
    pack.comfy.interrupt_at = 3
    with pytest.raises(Interrupt):
        generate(pack, prompt="slow", num_inference_steps=50, num_images=4)
    until = time.monotonic() + 20
    while (state := newest(server))["status"] == "processing" and time.monotonic() < until:
        time.sleep(0.1)
    assert state["cancelled"] is True
    assert not [each for each in threading.enumerate() if each.name.startswith("asyncio_")]


def test_an_interrupt_is_heard_where_nothing_moves(
    pack: Pack, idle_server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody works there, so there is no news of the prediction."""
    monkeypatch.setenv("DEPTHWRIGHT_SERVER", idle_server.base_url)
    monkeypatch.setenv("DEPTHWRIGHT_KEY", idle_server.key)
    threading.Timer(1.5, pack.comfy.interrupt).start()
    started = time.monotonic()
    with pytest.raises(Interrupt):
        generate(pack)
    assert time.monotonic() - started < 10
    assert newest(idle_server)["cancelled"] is True


def test_after_the_time_out_the_id_is_told_and_the_result_can_be_fetched(pack: Pack) -> None:
    with pytest.raises(Exception, match=r"is still .* It goes on at the server") as late:
        generate(pack, connection(pack, timeout=1), prompt="slow", num_inference_steps=50, seed=9)
    request_id = str(late.value).partition("the request ")[2].split()[0]
    made = pack.outputs(FETCH, connection=connection(pack), request_id=f" {request_id} ")
    assert tuple(made["images"].shape) == (1, 512, 512, 3)
    assert made["first_seed"] == 9


def test_an_unknown_request_is_told_in_words(pack: Pack) -> None:
    with pytest.raises(Exception, match=r"The server refused \(404\)"):
        pack.outputs(FETCH, connection=connection(pack), request_id="nothing")


def test_the_hosted_dialect_sends_documented_fields_alone_and_waits_by_asking(
    pack: Pack, server: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    batch = pack.module("tensors").to_batch([Image.linear_gradient("L")])
    made = generate(
        pack, hosted(pack, server), num_images=2, seed=3, acceleration="none", control_image=Link(batch)
    )
    documented = set(pack.module("hosted").DOCUMENTED)
    assert len(documented) == 9
    said = newest(server)
    defaults = {"acceleration": "regular", "preprocess_depth": "auto"}
    assert {name: said["input"].get(name) for name in defaults} == defaults
    assert tuple(made["images"].shape) == (2, 512, 512, 3)
    assert "ignored" not in caplog.text


def test_the_hosted_dialect_says_that_an_interrupt_does_not_stop_it_there(
    pack: Pack, server: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    timer = threading.Timer(0.6, pack.comfy.interrupt)
    timer.start()
    with caplog.at_level(logging.WARNING), pytest.raises(Interrupt):
        generate(pack, hosted(pack, server), prompt="slow", num_inference_steps=50)
    assert "it goes on there" in caplog.text
    with server.client() as client:
        client.post(f"/api/v3/predictions/{newest(server)['id']}/cancel")


def test_a_server_without_a_depth_map_blocks_only_who_needs_it(pack: Pack) -> None:
    module, results = pack.module("remote"), pack.module("nodes.generate_api").results
    from depthwright.clients import Generated, Prediction

    prediction = Prediction.read({"id": "a", "status": "completed", "outputs": ["x"]})
    picture = Image.new("RGB", (16, 16))
    images, depth, *_ = results(module.Made(Generated(prediction, (picture,), (b"",)), None)).args
    assert tuple(images.shape) == (1, 16, 16, 3)
    assert isinstance(depth, Blocker)
    assert depth.message == "This server does not give back the depth map that it used."


def test_the_key_is_in_no_output_and_no_log(
    pack: Pack, server: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        made = generate(pack, prompt="warn")
    assert server.key not in caplog.text
    assert server.key not in repr({name: each for name, each in made.items() if "image" not in name})
    assert "The fake engine was told to warn." in caplog.text
