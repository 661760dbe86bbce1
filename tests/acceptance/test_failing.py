"""What goes wrong on the server surfaces as each client's own kind of failure, with the server's words in it."""

import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from tests.acceptance.clients import CLIENTS, Client
from tests.acceptance.driving import BY_NAME, NEWER, OLDEST, drive, predictions
from tests.acceptance.receiver import Receiver
from tests.support.serving import Serving, serving

every_client = pytest.mark.parametrize("client", CLIENTS, ids=str)
# What each raises when the server refuses a submission.
REFUSED = {
    "python-0.0.5": ("HTTPStatusError", "Client error '{status} "),
    "python-1.0.8": ("RuntimeError", "Failed to submit prediction: HTTP {status}: "),
    "python-2.0.5": ("_SubmissionError", "Failed to submit prediction: HTTP {status}: "),
    "javascript-0.0.15": ("Error", "Failed to create prediction: {status} "),
    "javascript-0.2.3": ("Error", "Failed to submit prediction: HTTP {status}: "),
    "javascript-0.3.2": ("WavespeedSubmissionException", "Prediction submission failed: HTTP {status}: "),
}


def assert_refused(client: Client, answer: dict[str, Any], status: int, words: str) -> None:
    kind, message = REFUSED[str(client)]
    assert answer["raised"] == kind
    assert answer["message"].startswith(message.format(status=status))
    if str(client) != "python-0.0.5":  # it tells the status alone
        assert words in answer["message"]


def assert_failed(client: Client, answer: dict[str, Any], words: str) -> None:
    if client in OLDEST:
        assert answer["status"] == "failed"
        assert answer["outputs"] == []
        assert words in answer["prediction"]["error"]
    else:
        assert answer["raised"] in {"RuntimeError", "_TaskFailedError", "Error"}
        assert answer["message"].startswith("Prediction failed (task_id: ")
        assert words in answer["message"]


@every_client
def test_a_failing_prediction_is_the_clients_failure(server: Serving, client: Client) -> None:
    answer = drive(client, server, "run", input={"prompt": "fail", "size": "512*512"})
    assert_failed(client, answer, "The fake engine was told to fail.")


@pytest.mark.parametrize("client", NEWER, ids=str)
def test_a_failing_prediction_is_the_clients_failure_in_sync_mode(server: Serving, client: Client) -> None:
    answer = drive(client, server, "run", sync=True, input={"prompt": "fail", "size": "512*512"})
    assert_failed(client, answer, "The fake engine was told to fail.")


@pytest.mark.parametrize("name", ["python-2.0.5", "javascript-0.2.3", "javascript-0.3.2"])
def test_running_without_exceptions_tells_which_prediction_failed(server: Serving, name: str) -> None:
    answer = drive(BY_NAME[name], server, "run_no_throw", input={"prompt": "fail", "size": "512*512"})
    assert (answer["status"], answer["outputs"]) == ("failed", None)
    assert "The fake engine was told to fail." in answer["error"]
    assert answer["task_id"] == predictions(server)[0]["id"]


def test_javascript_client_0_3_2_takes_a_failure_for_one_of_the_prediction(server: Serving) -> None:
    client = BY_NAME["javascript-0.3.2"]
    answer = drive(client, server, "run_no_throw", input={"prompt": "fail", "size": "512*512"})
    assert answer["kind"] == "WavespeedPredictionException"


@every_client
def test_a_key_that_is_none_is_refused(server: Serving, client: Client) -> None:
    stranger = replace(server, key="dw_nobody")
    answer = drive(client, stranger, "run", input={"prompt": "a red sphere"})
    assert_refused(client, answer, 401, "Authorization: Bearer KEY")


@every_client
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"prompt": "a red sphere", "num_images": 9}, "num_images"),
        ({"prompt": "a red sphere", "size": "4000*4000"}, "size"),
        ({"size": "512*512"}, "prompt"),
        ({"prompt": "a red sphere", "control_image": "data:image/png;base64,AAAA"}, "picture"),
        ({"prompt": "a red sphere", "control_image": "http://127.0.0.1:9/depth.png"}, "control_image"),
    ],
    ids=["num_images", "size", "prompt", "control_image_no_picture", "control_image_private"],
)
def test_a_wrong_request_is_refused_with_the_name_of_what_is_wrong(
    server: Serving, client: Client, wrong: dict[str, object], words: str
) -> None:
    assert_refused(client, drive(client, server, "run", input=wrong), 400, words)


@every_client
def test_a_control_image_that_cannot_be_had_fails_the_prediction(
    open_server: Serving, receiver: Receiver, client: Client
) -> None:
    # The receiver knows no GET.
    wanted = {"prompt": "a red sphere", "size": "512*512", "control_image": receiver.url}
    assert_failed(client, drive(client, open_server, "run", input=wanted), "control image")


@pytest.mark.parametrize("client", [*OLDEST, BY_NAME["python-2.0.5"]], ids=str)
def test_a_prediction_that_is_none_is_not_found(server: Serving, client: Client) -> None:
    answer = drive(client, server, "get", id="0" * 32)
    assert "404" in answer["message"]


@every_client
def test_a_prediction_that_is_deleted_while_a_client_waits_ends_the_wait(
    idle_server: Serving, client: Client
) -> None:
    answer = _while_waiting(idle_server, client, "delete")
    assert "404" in answer["message"]


@every_client
def test_a_prediction_that_is_cancelled_while_a_client_waits_ends_the_wait(
    idle_server: Serving, client: Client
) -> None:
    answer = _while_waiting(idle_server, client, "cancel")
    if client in OLDEST:
        assert answer["status"] == "failed"
    else:
        assert answer["message"].startswith("Prediction ")


@pytest.mark.parametrize("client", NEWER, ids=str)
def test_sync_mode_that_takes_too_long_is_told_apart(idle_server: Serving, client: Client) -> None:
    answer = drive(client, idle_server, "run", sync=True, input={"prompt": "a red sphere"})
    (newest, *_) = predictions(idle_server)
    assert "Sync mode timed out" in answer["message"]
    assert newest["id"] in answer["message"]
    assert newest["urls"]["get"] in answer["message"]
    assert newest["status"] == "created"


@pytest.mark.parametrize("name", ["python-2.0.5", "javascript-0.3.2"])
def test_sync_mode_that_takes_too_long_is_no_failure_without_exceptions(
    idle_server: Serving, name: str
) -> None:
    answer = drive(BY_NAME[name], idle_server, "run_no_throw", sync=True, input={"prompt": "a red sphere"})
    assert (answer["status"], answer["outputs"]) == ("processing", None)
    assert answer["task_id"] == predictions(idle_server)[0]["id"]


@pytest.mark.parametrize(
    "client", [each for each in CLIENTS if each.version != "0.0.15"], ids=str
)  # that one waits and tries again
def test_a_spent_allowance_is_told_apart(limited_server: Serving, client: Client) -> None:
    answer = drive(client, limited_server, "run", input={"prompt": "a red sphere"})
    assert_refused(client, answer, 429, "try again in")


@pytest.fixture(scope="module")
def limited_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serving(
        tmp_path_factory.mktemp("limited") / "data", ready=False, workers=0, requests_per_minute=1
    ) as running:
        drive(BY_NAME["javascript-0.0.15"], running, "create", input={"prompt": "a red sphere"})
        yield running


def _while_waiting(server: Serving, client: Client, action: str) -> dict[str, Any]:
    """Let a client run, do something to its prediction, and see what the client makes of that."""
    before = {each["id"] for each in predictions(server)}
    answers: list[dict[str, Any]] = []
    running = threading.Thread(
        target=lambda: answers.append(drive(client, server, "run", input={"prompt": "a red sphere"}))
    )
    running.start()
    until = time.monotonic() + 30
    while not (new := {each["id"] for each in predictions(server)} - before):
        assert time.monotonic() < until
        time.sleep(0.1)
    with server.client() as http:
        path = f"/api/v3/predictions/{new.pop()}"
        done = http.delete(path) if action == "delete" else http.post(f"{path}/{action}")
        assert done.status_code == 200, done.text
    running.join()
    assert answers, "the client went on waiting"
    return answers[0]
