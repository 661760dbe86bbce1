"""Waiting for a prediction, by asking and by listening, over lines that break."""

import base64

import httpx
import pytest

from depthwright.clients import (
    Client,
    PredictionFailed,
    PredictionStopped,
    ServerRefused,
    ServerUnreachable,
    TimedOut,
)
from depthwright.clients.sse import EventParser, ServerEvent
from depthwright.errors import DepthwrightError
from tests.support.scripted import REFUSED, Clock, Reply, Script, Scripts, data, event, events, no, ok


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock.installed(monkeypatch)


@pytest.fixture(params=["sync", "async"])
def script(request: pytest.FixtureRequest) -> Scripts:
    return lambda *replies, **named: Script(request.param, replies, **named)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_events_are_read_however_they_are_cut(size: int, end: str) -> None:
    text = ': hello||event: progress|data: {"a":|data:"\u2028\xe9"}||id: 1|data: b||event: nothing||'
    raw = text.replace("|", end).encode()
    parser = EventParser()
    found = [each for at in range(0, len(raw), size) for each in parser.feed(raw[at : at + size])]
    assert found == [ServerEvent("progress", '{"a":\n"\u2028\xe9"}'), ServerEvent("message", "b")]


def test_the_stream_tells_progress_previews_and_the_end(script: Scripts) -> None:
    told = data("processing", progress={"stage": "denoise", "step": 2, "steps": 9, "queue_position": 0})
    thumbnail = "data:image/jpeg;base64," + base64.b64encode(b"jpeg").decode()
    first, second = event("progress", told), event("progress", told | {"preview": thumbnail})
    end = event("end", data("completed", outputs=["http://h/a.png"]))
    calls = script(events(first[:30], first[30:] + b": still here\n\n" + event("news", 1) + second, end))
    one, two, three = calls.stream()
    assert (one.progress.stage, one.progress.step, one.progress.steps) == ("denoise", 2, 9)
    assert (one.preview, two.preview) == (None, b"jpeg")
    assert three.prediction.outputs == ("http://h/a.png",)
    assert calls.asked == ["GET /api/v3/predictions/p1/events"]


@pytest.mark.parametrize(
    "broken", [(None,), (), (b"event: progress\ndata: {oops\n\n",), (event("end", {"a": 1}),)]
)
def test_a_stream_that_breaks_is_asked_about_and_opened_again(
    script: Scripts, broken: tuple[bytes | None, ...]
) -> None:
    begun, going = data("processing"), data("processing", progress={"stage": "decode"})
    calls = script(
        events(event("progress", begun), *broken), ok(going), events(event("end", data("completed")))
    )
    told = [(update.prediction.status, update.progress.stage) for update in calls.stream()]
    assert told == [("processing", ""), ("processing", "decode"), ("completed", "")]
    assert [path.rpartition("/")[2] for path in calls.asked] == ["events", "p1", "events"]


@pytest.mark.parametrize("reply", [no(404), httpx.Response(200, text="<html>"), no(405)])
def test_where_there_is_no_stream_the_client_asks(script: Scripts, reply: Reply) -> None:
    calls = script(reply, ok(data()), ok(data()), ok(data("completed")))
    assert [update.prediction.status for update in calls.stream()] == ["created", "completed"]
    assert len(calls.requests) == 4


def test_a_stream_that_never_comes_is_given_up_for_asking(script: Scripts) -> None:
    calls = script(*[no(503), ok(data())] * 5, ok(data("completed")))
    assert calls.stream()[-1].prediction.status == "completed"


def test_a_prediction_that_is_not_there_is_told_by_the_stream_too(script: Scripts) -> None:
    with pytest.raises(ServerRefused, match="404"):
        script(no(404), no(404)).stream()


def test_a_restart_of_the_server_does_not_end_a_wait(script: Scripts) -> None:
    calls = script(ok(data()), *[REFUSED] * 8, ok(data("completed")))
    assert calls("wait", "p1").status == "completed"


def test_an_outage_longer_than_the_patience_does(script: Scripts, clock: Clock) -> None:
    with pytest.raises(ServerUnreachable):
        script(*[REFUSED] * 99)("wait", "p1")
    assert 50 < sum(clock.slept) <= 60


def test_a_wait_ends_on_time(clock: Clock) -> None:
    calls = Script("sync", (lambda _request: ok(data("processing")),) * 99)
    with pytest.raises(TimedOut, match="p1 is still processing") as caught:
        calls("wait", "p1", timeout=10)
    assert caught.value.prediction_id == "p1"
    assert clock.now == pytest.approx(1010)


def test_a_stream_is_left_for_asking_when_its_silence_could_outlast_the_timeout() -> None:
    calls = Script("sync", (ok(data("completed")),))
    assert isinstance(calls.client, Client)
    list(calls.client.stream("p1", timeout=19))
    assert calls.asked == ["GET /api/v3/predictions/p1"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("failed", PredictionFailed),
        ("timeout", PredictionFailed),
        ("cancelled", PredictionStopped),
        ("deleted", PredictionStopped),
    ],
)
def test_a_prediction_that_ends_badly_is_an_error(
    script: Scripts, status: str, kind: type[DepthwrightError]
) -> None:
    with pytest.raises(kind, match="p1"):
        script(ok(data(status, error="why", code=1405)))("wait", "p1")
