"""Webhooks that official clients ask for arrive signed. JavaScript's 0.0.15 has an option for them, all a field."""

import pytest

from tests.acceptance.clients import CLIENTS, Client
from tests.acceptance.driving import BY_NAME, drive, picture, succeed
from tests.acceptance.receiver import Receiver
from tests.support.serving import Serving


def _secret(server: Serving) -> str:
    with server.client() as http:
        return str(http.get("/api/v3/webhook/secret").json()["data"]["secret"])


def test_javascript_client_0_0_15_asks_for_a_webhook_by_its_option(
    open_server: Serving, receiver: Receiver
) -> None:
    wanted = {"prompt": "a red sphere", "size": "512*768", "seed": 5}
    made = succeed(BY_NAME["javascript-0.0.15"], open_server, "create", webhook=receiver.url, input=wanted)
    webhook = receiver.next()
    assert webhook.path == "/hooks/pictures"
    assert webhook.is_signed_with(_secret(open_server))
    told = webhook.prediction
    assert (told["id"], told["status"], told["input"]["seed"]) == (made["id"], "completed", 5)
    assert [picture(url).size for url in told["outputs"]] == [(512, 768)]


@pytest.mark.parametrize("client", CLIENTS, ids=str)
def test_a_webhook_is_asked_for_by_a_field(open_server: Serving, receiver: Receiver, client: Client) -> None:
    wanted = {"prompt": "a red sphere", "size": "512*512", "webhook_url": receiver.url}
    outputs = succeed(client, open_server, "run", input=wanted)["outputs"]
    webhook = receiver.next()
    assert webhook.is_signed_with(_secret(open_server))
    assert not webhook.is_signed_with("whsec_another")
    assert webhook.prediction["outputs"] == outputs


def test_a_failure_is_told_by_webhook(open_server: Serving, receiver: Receiver) -> None:
    made = succeed(
        BY_NAME["javascript-0.0.15"],
        open_server,
        "create",
        webhook=receiver.url,
        input={"prompt": "fail", "size": "512*512"},
    )
    webhook = receiver.next()
    assert webhook.is_signed_with(_secret(open_server))
    told = webhook.prediction
    assert (told["id"], told["status"], told["outputs"]) == (made["id"], "failed", [])
    assert "The fake engine was told to fail." in told["error"]


def test_a_webhook_to_a_private_address_is_refused(server: Serving, receiver: Receiver) -> None:
    answer = drive(
        BY_NAME["javascript-0.0.15"],
        server,
        "create",
        webhook=receiver.url,
        input={"prompt": "a red sphere"},
    )
    assert answer["message"].startswith("Failed to create prediction: 400 ")
    assert "webhook_url" in answer["message"]
