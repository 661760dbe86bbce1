"""What goes to the hosted API, read off the wire."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from tests.comfyui.pack import Pack

SERVER = "https://api.wavespeed.ai"


def client(pack: Pack, answers: Any) -> tuple[Any, list[httpx.Request]]:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        told: httpx.Response = answers(request)
        return told

    made = pack.module("hosted").HostedClient(SERVER, SecretStr("a-key"), patience=2)
    made._http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return made, seen


def prediction(**more: Any) -> httpx.Response:
    return httpx.Response(
        200,
        json={"code": 200, "data": {"id": "abc", "status": "created", "outputs": [], **more}},
    )


def test_a_submission_is_the_documented_request(pack: Pack) -> None:
    made, seen = client(pack, lambda _: prediction())
    fields = {"prompt": "a", "seed": -1, "acceleration": "high", "output_format": "webp", "loras": []}
    asyncio.run(made.submit(control_image="https://a.example/x.png", idempotency_key="once", **fields))
    (request,) = seen
    assert request.method == "POST"
    assert str(request.url) == f"{SERVER}/api/v2/wavespeed-ai/flux-control-lora-depth"
    assert json.loads(request.content) == {
        "prompt": "a",
        "seed": -1,
        "control_image": "https://a.example/x.png",
    }
    assert request.headers["authorization"] == "Bearer a-key"
    assert "idempotency-key" not in request.headers


def test_a_result_is_asked_for_where_it_is_documented(pack: Pack) -> None:
    made, seen = client(pack, lambda _: prediction(status="completed"))
    asyncio.run(made.get("abc/../x"))
    assert str(seen[0].url) == f"{SERVER}/api/v2/predictions/abc%2F..%2Fx/result"


def test_a_submission_that_may_have_been_accepted_is_not_sent_again(pack: Pack) -> None:
    made, seen = client(pack, lambda _: httpx.Response(502))
    with pytest.raises(Exception, match="The server failed"):
        asyncio.run(made.submit(prompt="a"))
    assert len(seen) == 1
