"""The contract over HTTP: who may ask, what is refused, what is answered, in both dialects."""

import base64
import hashlib
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.support.asking import SUBMIT, ended, submit
from tests.support.serving import Serving, serving

SMALL: dict[str, Any] = {"prompt": "a red sphere", "size": "512*512", "num_inference_steps": 2}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("api") / "data", allowed_hosts="127.0.0.1") as running:
        yield running


@pytest.fixture
def client(server: Serving) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture
def stranger(server: Serving) -> Iterator[httpx.Client]:
    """Another key's owner."""
    from depthwright.service.auth import Keys
    from depthwright.service.database import Database
    from depthwright.service.places import Places

    database = Database(Places(server.folder).database)
    key = Keys(database).create("stranger")
    database.close()
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=server.base_url, headers=headers, trust_env=False) as client:
        yield client


def made(client: httpx.Client, **fields: object) -> dict[str, Any]:
    """A completed prediction, in sync mode."""
    answer = client.post(SUBMIT, json={**SMALL, "enable_sync_mode": True, **fields})
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    assert data["status"] == "completed", data
    return data


def picture() -> bytes:
    with io.BytesIO() as file:
        Image.linear_gradient("L").save(file, "PNG")
        return file.getvalue()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "prompt is missing"),
        ({"prompt": ""}, "prompt is ''"),
        ({"prompt": 7}, "prompt is 7"),
        ({**SMALL, "num_images": 9}, "num_images is 9: it must be a whole number from 1 to 4"),
        ({**SMALL, "num_images": 1.5}, "num_images is 1.5"),
        ({**SMALL, "num_images": True}, "num_images is True"),
        ({**SMALL, "control_scale": 2.01}, "control_scale is 2.01: it must be a number from 0 to 2"),
        ({**SMALL, "control_scale": "1"}, "control_scale is '1'"),
        ({**SMALL, "guidance_scale": 0.5}, "guidance_scale is 0.5"),
        ({**SMALL, "num_inference_steps": 51}, "num_inference_steps is 51"),
        ({**SMALL, "seed": -2}, "seed is -2"),
        ({**SMALL, "seed": 10**30}, "seed is 1000"),
        ({**SMALL, "size": "512"}, "size is '512'"),
        ({**SMALL, "size": "511*512"}, "size is '511*512': it must be W*H with each side from 512 to 1536"),
        ({**SMALL, "size": "864*1637"}, "size is '864*1637'"),
        ({**SMALL, "size": [512]}, "size is [512]"),
        ({**SMALL, "output_format": "gif"}, "output_format is 'gif': it must be png, jpeg or webp"),
        ({**SMALL, "enable_sync_mode": "maybe"}, "enable_sync_mode is 'maybe'"),
        ({**SMALL, "control_image": "http://example.org/a.png"}, "https"),
        ({**SMALL, "control_image": "ftp://example.org/a.png"}, "neither"),
        ({**SMALL, "control_image": base64.b64encode(b"no picture").decode()}, "no picture"),
        ({**SMALL, "webhook_url": "http://10.0.0.1/"}, "webhook_url"),
        ({**SMALL, "webhook_url": "https://example.org/", "enable_base64_output": True}, "webhook"),
        ([], "The body"),
        ("text", "The body"),
    ],
    ids=lambda value: json.dumps(value)[:60] if not isinstance(value, str) else "",
)
def test_what_is_not_as_it_must_be_is_refused_with_its_name_and_what_is_allowed(
    client: httpx.Client, body: object, told: str
) -> None:
    answer = client.post(SUBMIT, json=body)
    assert answer.status_code == 400
    assert answer.json()["code"] == 400
    assert told in answer.json()["message"]
    assert "error" not in answer.json()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"prompt": NaN}',
        b'{"prompt": "\\ud800"}',
        b"[" * 100_000,
        b'{"prompt": "x", "seed": Infinity}',
        b"\xff",
    ],
)
def test_what_is_no_json_is_refused(client: httpx.Client, content: bytes) -> None:
    assert client.post(SUBMIT, content=content).status_code == 400


def test_a_body_that_is_too_large_is_refused_whether_its_length_is_told_or_not(client: httpx.Client) -> None:
    assert client.post(SUBMIT, content=b"x" * 28_000_000).status_code == 413
    parts = (b"x" * 1_000_000 for _ in range(28))
    assert client.post(SUBMIT, content=parts).status_code == 413
    assert client.post("/api/v3/predictions", content=b" " * 1_000_001).status_code == 413


@pytest.mark.parametrize("key", [None, "Bearer", "Bearer wrong", "Basic eDp5", "Bearer \xff"])
def test_without_a_valid_key_nothing_is_told(server: Serving, key: str | None) -> None:
    headers = [(b"authorization", key.encode("latin-1"))] if key else []
    with httpx.Client(base_url=server.base_url, headers=headers, trust_env=False) as client:
        for path in ("/api/v2/predictions/x", "/api/v3/balance", "/api/v3/webhook/secret", "/metrics"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert client.post(SUBMIT, json=SMALL).status_code == 401


def test_a_key_that_is_revoked_opens_nothing_from_that_moment(server: Serving) -> None:
    from depthwright.service.auth import Keys
    from depthwright.service.database import Database
    from depthwright.service.places import Places

    database = Database(Places(server.folder).database)
    key = Keys(database).create("brief")
    with httpx.Client(
        headers={"Authorization": f"Bearer {key}"}, base_url=server.base_url, trust_env=False
    ) as client:
        assert client.get("/api/v3/balance").status_code == 200
        Keys(database).revoke("brief")
        assert client.get("/api/v3/balance").status_code == 401
    database.close()


def test_another_keys_prediction_is_not_there(client: httpx.Client, stranger: httpx.Client) -> None:
    data = made(client)
    here = f"/api/v3/predictions/{data['id']}"
    for method, path in (
        ("GET", here),
        ("GET", f"{here}/result"),
        ("GET", f"{here}/events"),
        ("GET", f"{here}/webhooks"),
        ("POST", f"{here}/cancel"),
        ("DELETE", here),
    ):
        assert stranger.request(method, path).status_code == 404, path
    assert stranger.post("/api/v3/predictions/delete", json={"ids": [data["id"]]}).json()["data"] == {
        "deleted_count": 0
    }
    assert stranger.post("/api/v3/predictions", json={}).json()["data"]["total"] == 0
    assert client.get(here).status_code == 200


def test_both_dialects_tell_the_same_prediction_with_and_without_result(client: httpx.Client) -> None:
    data = made(client, foo=1, hires_fix=[])
    assert [warning.split()[0] for warning in data["warnings"][:2]] == ["foo", "hires_fix"]
    for dialect in ("v2", "v3"):
        for end in ("", "/result"):
            same = client.get(f"/api/{dialect}/predictions/{data['id']}{end}").json()["data"]
            assert {**same, "urls": None} == {**data, "urls": None}
            assert same["urls"]["get"].endswith(f"/api/{dialect}/predictions/{data['id']}/result")


def test_loras_act_in_their_order_and_the_answer_tells_which_by_name_scale_and_digest(
    server: Serving, client: httpx.Client
) -> None:
    folder = server.folder / "loras"
    folder.mkdir(exist_ok=True)
    for name in ("ink", "clay"):
        (folder / f"{name}.safetensors").write_text(name)
    wanted = [{"path": "clay", "scale": 0.5}, {"path": "ink.safetensors"}]
    data = made(client, loras=wanted)
    assert data["input"]["loras"] == [
        {"path": "clay", "scale": 0.5},
        {"path": "ink.safetensors", "scale": 1.0},
    ]
    assert data["loras"] == [
        {"name": f"{name}.safetensors", "digest": hashlib.sha256(name.encode()).hexdigest(), "scale": scale}
        for name, scale in (("clay", 0.5), ("ink", 1.0))
    ]
    for path, why in (
        ("pencil", "no LoRA called pencil"),
        ("https://10.0.0.1/a.safetensors", "no public address"),
    ):
        answer = client.post(SUBMIT, json={"prompt": "x", "loras": [{"path": path}]})
        assert answer.status_code == 400
        assert why in answer.json()["message"]


def test_a_lora_that_is_gone_when_its_turn_comes_fails_the_prediction_in_words(
    server: Serving, client: httpx.Client
) -> None:
    file = server.folder / "loras" / "fleeting.safetensors"
    file.parent.mkdir(exist_ok=True)
    file.touch()
    ahead = [submit(client, "slow") for _ in range(2)]
    waits = submit(client, "x", loras=[{"path": "fleeting"}])
    file.unlink()
    data = ended(client, waits)
    assert (data["status"], data["code"]) == ("failed", 1402)
    assert data["error"] == "The LoRA 'fleeting' cannot be had: this server has none of that name."
    assert [ended(client, each)["status"] for each in ahead] == ["completed"] * 2


@pytest.mark.parametrize(("output_format", "kind"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_outputs_have_the_format_and_size_that_were_asked_for(
    client: httpx.Client, output_format: str, kind: str
) -> None:
    [url] = made(client, output_format=output_format, size="640*512")["outputs"]
    with httpx.Client(trust_env=False) as anybody:
        answer = anybody.get(url)
        assert answer.headers["content-type"] == f"image/{output_format}"
        assert "immutable" in answer.headers["cache-control"]
        with Image.open(io.BytesIO(answer.content)) as image:
            assert (image.format, image.size) == (kind, (640, 512))
        part = anybody.get(url, headers={"range": "bytes=2-5"})
        assert (part.status_code, part.content) == (206, answer.content[2:6])
        assert anybody.get(f"{url}x").status_code == 404


def test_base64_outputs_are_the_files_themselves(client: httpx.Client) -> None:
    [text] = made(client, enable_base64_output=True)["outputs"]
    with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as image:
        assert image.size == (512, 512)


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_a_control_image_in_the_body_is_kept_as_an_upload_and_not_repeated(
    client: httpx.Client, prefix: str
) -> None:
    data = made(client, control_image=prefix + base64.b64encode(picture()).decode())
    url = data["input"]["control_image"]
    assert client.get(url).content == picture()
    assert made(client, control_image=url)["input"]["control_image"] == url
    assert made(client, control_image=data["outputs"][0])["status"] == "completed"


def test_a_ticket_takes_one_picture_without_a_key(client: httpx.Client) -> None:
    order = {"filename": "a.png", "size": len(picture()), "content_type": "image/png"}
    ticket = client.post("/api/v3/media/uploads", json=order).json()["data"]
    address = ticket["upload"]["url"]
    with httpx.Client(trust_env=False) as anybody:
        assert anybody.get(ticket["download_url"]).status_code == 404
        assert anybody.put(address, content=b"no picture").status_code == 400
        assert anybody.put(address, content=picture()).status_code == 200
        assert anybody.put(address, content=picture()).status_code == 403
        assert anybody.get(ticket["download_url"]).content == picture()


def test_the_same_idempotency_key_is_the_same_prediction(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": "once"}
    first, second = (client.post(SUBMIT, json=SMALL, headers=headers).json()["data"]["id"] for _ in range(2))
    assert first == second
    other = client.post(SUBMIT, json={**SMALL, "seed": 1}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, 409)


def test_events_tell_steps_and_previews_and_end_with_the_result(client: httpx.Client) -> None:
    prediction_id = client.post(SUBMIT, json={**SMALL, "prompt": "slow", "num_inference_steps": 50}).json()[
        "data"
    ]["id"]
    told: list[tuple[str, dict[str, Any]]] = []
    with client.stream("GET", f"/api/v3/predictions/{prediction_id}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in stream.iter_lines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                told.append((name, json.loads(line[6:])))
    assert [name for name, _ in told].count("end") == 1
    assert told[-1][1]["status"] == "completed"
    steps = [data["progress"]["step"] for _, data in told if "step" in data["progress"]]
    assert len(steps) > 1
    assert steps == sorted(steps)
    assert any(data.get("preview", "").startswith("data:image/jpeg;base64,") for _, data in told)


def test_lists_are_paged_and_narrowed_and_what_is_deleted_is_gone(client: httpx.Client) -> None:
    before = time.time()
    ids = [made(client)["id"] for _ in range(3)]
    listed = client.post("/api/v3/predictions", json={"page": 1, "page_size": 2}).json()["data"]
    assert [item["id"] for item in listed["items"]] == ids[:0:-1]
    assert "input" not in listed["items"][0]
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(before + 3600))
    assert client.post("/api/v3/predictions", json={"created_after": since}).json()["data"]["total"] == 0
    assert client.post("/api/v3/predictions/delete", json={"ids": [*ids, "none"]}).json()["data"] == {
        "deleted_count": 3
    }
    assert client.get(f"/api/v2/predictions/{ids[0]}").status_code == 404


def test_models_balance_price_and_secret_are_as_the_newer_clients_read_them(client: httpx.Client) -> None:
    [model] = client.get("/api/v3/models").json()["data"]
    schema = model["api_schema"]["api_schemas"][0]["request_schema"]
    assert model["model_id"] == "wavespeed-ai/flux-control-lora-depth"
    assert schema["required"] == ["prompt"]
    assert set(schema["x-order-properties"]) == set(schema["properties"])
    assert client.get("/api/v3/balance").json()["data"]["balance"] == 0
    assert client.post("/api/v3/model/price", json={"model_id": "m", "inputs": {}}).json()["code"] == 200
    assert client.get("/api/v3/webhook/secret").json()["data"]["secret"].startswith("whsec_")


def test_unknown_paths_and_methods_are_answered_in_the_envelope(client: httpx.Client) -> None:
    missing = client.post("/api/v3/wavespeed-ai/another-model", json=SMALL)
    assert (missing.status_code, missing.json()["code"]) == (404, 404)
    wrong = client.put(SUBMIT, json=SMALL)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


def test_the_documentation_is_served_from_here(client: httpx.Client) -> None:
    page = client.get("/docs").text
    assert "https://" not in page
    assert client.get("/openapi.json").json()["openapi"].startswith("3.1")


def test_too_many_requests_and_too_many_predictions_are_told_when_to_come_back(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("limits") / "data"
    with (
        serving(folder, ready=False, workers=0, requests_per_minute=3, concurrent_predictions=2) as server,
        server.client() as client,
    ):
        until = time.monotonic() + 30
        while client.get("/live").status_code != 200:
            assert time.monotonic() < until
        statuses = [client.post(SUBMIT, json=SMALL) for _ in range(4)]
        assert [answer.status_code for answer in statuses] == [200, 200, 429, 429]
        assert "2 predictions" in statuses[2].json()["message"]
        assert "3 requests a minute" in statuses[3].json()["message"]
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in statuses[2:])
