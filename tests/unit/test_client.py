"""The clients against servers that answer as no real one can be made to."""

import base64
import json
import logging
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from PIL import Image

from depthwright.clients import (
    AnswerInvalid,
    Client,
    KeyInvalid,
    ServerFailed,
    ServerRefused,
    ServerUnreachable,
)
from depthwright.errors import DepthwrightError, InvalidImage, InvalidParameter
from tests.support.scripted import (
    KEY,
    REFUSED,
    SERVER,
    Chunks,
    Clock,
    Reply,
    Script,
    Scripts,
    data,
    no,
    ok,
    png,
)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock.installed(monkeypatch)


@pytest.fixture(params=["sync", "async"])
def script(request: pytest.FixtureRequest) -> Scripts:
    return lambda *replies, **named: Script(request.param, replies, **named)


@pytest.mark.parametrize(
    "address", ["http://h:1", "http://h:1/", "http://h:1/api", "http://h:1/api/v3", " http://h:1/api/v3/// "]
)
def test_the_address_may_have_the_api_s_path_or_not(address: str) -> None:
    assert Client(address, KEY).server == "http://h:1"
    assert Client(f"{address.strip().replace(':1', ':1/sub')}", KEY).server == "http://h:1/sub"


@pytest.mark.parametrize(
    "address", ["", "h:1", "ftp://h", "http://", "http://h/?a=1", "http://h:x", "http://[", "http://a b"]
)
def test_what_is_no_address_is_told_with_an_example(address: str) -> None:
    with pytest.raises(InvalidParameter, match=r"such as http://127\.0\.0\.1:8000"):
        Client(address, KEY)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidParameter) as caught:
        Client("http://me:hunter2@host", KEY)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["", " ", "dw_se cret", "dw_se\ncret", "dw_secr\xe9t"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(KeyInvalid) as caught:
        Client(SERVER, key)
    assert "cr" not in str(caught.value).replace("create", "")


def test_nothing_shows_the_key(script: Scripts, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    calls = script(no(401, "no key"))
    with pytest.raises(ServerRefused) as caught:
        calls("get", "p1")
    assert calls.requests[0].headers["authorization"] == f"Bearer {KEY}"
    shown = [repr(calls.client), repr(vars(calls.client)), repr(caught.value), caplog.text]
    assert all(KEY not in text for text in shown)


def test_a_submission_is_repeated_under_one_idempotency_key_of_its_own(script: Scripts) -> None:
    calls = script(REFUSED, httpx.ReadTimeout(""), no(503), no(502), ok(data()), ok(data()))
    assert calls("submit", prompt="x", seed=None).id == "p1"
    calls("submit", prompt="x")
    keys = [request.headers["idempotency-key"] for request in calls.requests]
    assert len(set(keys[:5])) == 1
    assert keys[5] != keys[0]
    assert json.loads(calls.requests[0].content) == {"prompt": "x"}


def test_a_given_idempotency_key_is_the_one_that_is_sent(script: Scripts) -> None:
    calls = script(ok(data()))
    calls("submit", prompt="x", idempotency_key="mine")
    assert calls.requests[0].headers["idempotency-key"] == "mine"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "7"}, 7),
        ({"Retry_After": "Wed, 21 Oct 2015 07:28:09 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 9),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_kept_to(
    script: Scripts, clock: Clock, status: int, headers: dict[str, str], seconds: float
) -> None:
    calls = script(*[no(status, **headers)] * 6, ok(data()))
    assert calls("submit", prompt="x").id == "p1"
    assert clock.slept == [seconds] * 6


@pytest.mark.parametrize("text", ["-1", "soon", "Wed, 99 Oct", "9" * 5000, "1e9"])
def test_a_retry_after_without_sense_counts_as_absent(script: Scripts, clock: Clock, text: str) -> None:
    calls = script(no(429, Retry_After=text), ok(data()))
    calls("get", "p1")
    assert clock.slept[0] <= 0.5


def test_a_wait_beyond_the_patience_is_not_begun(script: Scripts, clock: Clock) -> None:
    calls = script(no(429, "too many", Retry_After="61"))
    with pytest.raises(ServerRefused, match=r"429.: too many") as caught:
        calls("submit", prompt="x")
    assert caught.value.status == 429
    assert clock.slept == []


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (REFUSED, ServerUnreachable, r"no answer from http://server.test:8000 \(refused\)"),
        (httpx.ReadTimeout(""), ServerUnreachable, "it takes too long"),
        (no(504, "gateway"), ServerFailed, "504.: gateway"),
    ],
)
def test_hope_ends_after_five_tries(
    script: Scripts, reply: Reply, kind: type[DepthwrightError], message: str
) -> None:
    calls = script(*[reply] * 5)
    with pytest.raises(kind, match=message):
        calls("submit", prompt="x")
    assert len(calls.requests) == 5


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 500])
def test_a_refusal_is_told_and_not_repeated(script: Scripts, status: int) -> None:
    calls = script(no(status, "size is '1*1'\x1b[31m: it must be larger"))
    with pytest.raises(ServerRefused if status < 500 else ServerFailed) as caught:
        calls("submit", prompt="x")
    assert str(caught.value).endswith(f"({status}): size is '1*1' [31m: it must be larger")


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (httpx.Response(500, text="<html>"), "Internal Server Error"),
        (httpx.Response(499, text=""), "it does not say why"),
        (httpx.Response(308, headers={"location": "https://else.test/"}), "give that address"),
    ],
)
def test_a_refusal_without_words_of_ours_is_still_a_sentence(
    script: Scripts, reply: Reply, message: str
) -> None:
    with pytest.raises((ServerRefused, ServerFailed), match=message):
        script(reply)("get", "p1")


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(200, text="<html>It works!</html>"),
        httpx.Response(200, content=b"[" * 100_000),
        httpx.Response(200, json=["data"]),
        httpx.Response(200, json={"error": "no"}),
        *map(ok, (None, [], {"status": "created"}, {"id": 7, "status": "x"}, {**data(), "outputs": [None]})),
        *map(ok, ({**data(), "outputs": "http://h/a.png"}, {**data(), "status": ""})),
    ],
)
def test_an_answer_that_is_no_prediction_is_called_that(script: Scripts, reply: Reply) -> None:
    with pytest.raises(AnswerInvalid):
        script(reply)("get", "p1")


def test_an_error_in_an_envelope_of_success_is_an_error(script: Scripts) -> None:
    with pytest.raises(ServerRefused, match=r"400.: bad"):
        script(httpx.Response(200, json={"code": 400, "message": "bad"}))("get", "p1")


def test_unknown_fields_are_kept_and_odd_ones_count_as_absent(script: Scripts) -> None:
    odd = {
        "seed": "x",
        "fidelity": [1],
        "timings": {"depth": 3, "text": "?"},
        "progress": [],
        "warnings": "w",
    }
    found = script(ok(data() | odd | {"new": {"a": 1}}))("get", "p1")
    assert found.raw["new"] == {"a": 1}
    assert (found.seed, found.fidelity, found.timings, found.warnings) == (None, (), {"depth": 3}, ())
    assert found.progress.step == 0


def test_an_endless_answer_is_not_read_to_its_end(script: Scripts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("depthwright.clients.http._LARGEST_BODY", 1000)
    with pytest.raises(ServerUnreachable, match="endless"):
        script(*[httpx.Response(200, stream=Chunks(*[b"x" * 99] * 99)) for _ in range(5)])("get", "p1")


def test_pictures_are_fetched_without_the_key_wherever_they_are(script: Scripts) -> None:
    encoded = base64.b64encode(png("blue")).decode()
    outputs = ["https://elsewhere.test/a", "/outputs/b", encoded, f"data:image/png;base64,{encoded}"]
    picture = httpx.Response(200, content=png())
    moved = httpx.Response(302, headers={"location": "/moved"})
    calls = script(
        ok(data("created")), ok(data("completed", outputs=outputs, seed=5)), moved, picture, no(503), picture
    )
    made = calls("generate", prompt="x")
    assert [image.getpixel((0, 0)) for image in made.images] == [(255, 0, 0)] * 2 + [(0, 0, 255)] * 2
    assert made.seeds == (5, 6, 7, 8)
    assert made.fidelity == (None,) * 4
    fetched = calls.requests[2:]
    assert [str(request.url) for request in fetched[1:3]] == [
        "https://elsewhere.test/moved",
        f"{SERVER}/outputs/b",
    ]
    assert all("authorization" not in request.headers for request in fetched)


@pytest.mark.parametrize("output", ["https://h/a", "not base64!", "", base64.b64encode(png()[:50]).decode()])
def test_a_picture_that_is_none_is_the_server_s_fault(script: Scripts, output: str) -> None:
    calls = script(httpx.Response(200, text="<html>"))
    with pytest.raises(AnswerInvalid):
        calls("picture", output)


def test_a_local_control_image_is_uploaded_first(script: Scripts, tmp_path: Path) -> None:
    (tmp_path / "map.png").write_bytes(png())
    for control in (tmp_path / "map.png", Image.new("I;16", (4, 4))):
        calls = script(ok({"download_url": "http://h/uploads/1"}), ok(data()))
        calls("submit", prompt="x", control_image=control)
        assert calls.asked[0] == "POST /api/v3/media/upload/binary"
        assert b'name="file"' in calls.requests[0].content
        assert json.loads(calls.requests[1].content)["control_image"] == "http://h/uploads/1"


def test_a_file_that_is_no_picture_does_not_travel(script: Scripts) -> None:
    calls = script()
    with pytest.raises(InvalidImage):
        calls("submit", prompt="x", control_image=Path(__file__))
    assert calls.requests == []


def test_sync_mode_is_refused_since_it_would_outlast_every_try(script: Scripts) -> None:
    with pytest.raises(InvalidParameter, match="enable_sync_mode"):
        script()("submit", prompt="x", enable_sync_mode=True)


def test_an_id_stays_one_part_of_the_path(script: Scripts) -> None:
    calls = script(no(404))
    with pytest.raises(ServerRefused):
        calls("get", "../../a b?c#d")
    assert calls.requests[0].url.raw_path == b"/api/v3/predictions/..%2F..%2Fa%20b%3Fc%23d"
    with pytest.raises(InvalidParameter):
        calls("get", "..")


def test_cancel_delete_and_list_say_what_the_server_says(script: Scripts) -> None:
    page = {"page": 2, "total": 21, "items": [data()]}
    calls = script(ok(data("cancelled")), ok({"deleted_count": 2}), ok(page), ok({}), ok({}))
    assert calls("cancel", "p1").status == "cancelled"
    assert calls("delete", "p1", "p2") == 2
    assert calls("list", page=2, status="created").total == 21
    assert calls.asked[0] == "POST /api/v3/predictions/p1/cancel"
    assert [json.loads(request.content) for request in calls.requests[1:]] == [
        {"ids": ["p1", "p2"]},
        {"page": 2, "page_size": 20, "status": "created"},
    ]
    for method in ("delete", "list"):
        with pytest.raises(AnswerInvalid):
            calls(method)


def test_without_httpx_the_client_says_how_to_get_it() -> None:
    code = (
        "import sys; sys.modules['httpx'] = None\nimport depthwright.clients\n"
        "try:\n    from depthwright.clients import Client\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("(httpx missing): pip install 'depthwright[client]'")
