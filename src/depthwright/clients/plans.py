"""What a client can do with a server, each as a plan: no input or output here, and nothing that blocks."""

import binascii
import io
import json
import secrets
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from os import fspath
from pathlib import Path
from time import monotonic
from typing import TypeAlias
from urllib.parse import quote, urljoin

from PIL import Image

from depthwright.clients.actions import (
    Answer,
    Broken,
    Compute,
    Hear,
    Listen,
    Opened,
    Pause,
    Plan,
    Request,
    Tell,
)
from depthwright.clients.errors import AnswerInvalid, TimedOut
from depthwright.clients.exchange import TRANSIENT, TRIES, ask, data_of
from depthwright.clients.predictions import Generated, Page, Prediction, Update
from depthwright.clients.sse import EventParser, ServerEvent
from depthwright.errors import InvalidImage, InvalidParameter
from depthwright.images import open_image, read_image

ControlImage: TypeAlias = str | Path | Image.Image | None
_MODEL = "wavespeed-ai/flux-control-lora-depth"
_FIRST_POLL, _LONGEST_POLL = 0.2, 2.0
# A server is never silent on a stream for longer than 10 s. A wait that ends sooner than this asks instead of
# listening, so no stream outlasts it.
_SILENCE = 20.0
_STREAM_TRIES = 5
_STREAM_PAUSE = 0.5


@dataclass(frozen=True)
class Api:
    """A server's address, and for how many seconds a single call may try to get its answer."""

    server: str
    patience: float

    def submit(
        self, fields: Mapping[str, object], control_image: ControlImage, key: str | None, until: float
    ) -> Plan[Prediction]:
        """Accepted at most once, however often it is sent: every try bears the same Idempotency-Key."""
        if fields.get("enable_sync_mode"):
            raise InvalidParameter(
                "enable_sync_mode", True, "absent: this client waits by asking, or by listening to events"
            )
        key = key or secrets.token_hex(16)
        if not isinstance(control_image, str | None):
            control_image = yield from self.upload(control_image, until)
        body = {name: value for name, value in fields.items() if value is not None}
        if control_image is not None:
            body["control_image"] = control_image
        request = self._post(_MODEL, body, until, {"Idempotency-Key": key})
        return Prediction.read(data_of((yield from ask(request))))

    def upload(self, picture: Path | Image.Image | bytes, until: float) -> Plan[str]:
        """The URL that stands for the picture as a control image."""
        file: tuple[str, bytes] = yield Compute(lambda: _file(picture))
        request = Request("POST", f"{self.server}/api/v3/media/upload/binary", file=file, until=until)
        data = data_of((yield from ask(request)))
        url = data.get("download_url") if isinstance(data, dict) else None
        if not isinstance(url, str) or not url:
            raise AnswerInvalid("The server took the picture, but does not tell where it is.")
        return url

    def get(self, prediction_id: str, until: float, tries: float = TRIES) -> Plan[Prediction]:
        """The prediction as it is now."""
        request = Request("GET", self._of(prediction_id), until=until)
        return Prediction.read(data_of((yield from ask(request, tries))))

    def cancel(self, prediction_id: str, until: float) -> Plan[Prediction]:
        """The prediction after the cancellation."""
        request = Request("POST", f"{self._of(prediction_id)}/cancel", until=until)
        return Prediction.read(data_of((yield from ask(request))))

    def delete(self, ids: Iterable[str], until: float) -> Plan[int]:
        """How many were deleted."""
        data = data_of((yield from ask(self._post("predictions/delete", {"ids": list(ids)}, until))))
        count = data.get("deleted_count") if isinstance(data, dict) else None
        if not isinstance(count, int):
            raise AnswerInvalid("The server does not tell how many predictions it deleted.")
        return count

    def list(self, wanted: Mapping[str, object], until: float) -> Plan[Page]:
        """A page of predictions."""
        body = {name: value for name, value in wanted.items() if value is not None}
        return Page.read(data_of((yield from ask(self._post("predictions", body, until)))))

    def poll(self, prediction_id: str, until: float, known: Prediction | None = None) -> Plan[Prediction]:
        """Ask until it has ended. An outage of the server within the patience does not end the wait."""
        pause = _FIRST_POLL
        while True:
            prediction = yield from self._patiently(prediction_id, until)
            if prediction != known:
                yield Tell(Update(prediction))
                known = prediction
            if prediction.is_ended:
                return prediction
            left = until - monotonic()
            if left <= 0:
                raise TimedOut(prediction_id, prediction.status)
            yield Pause(min(pause, left))
            pause = min(1.5 * pause, _LONGEST_POLL)

    def follow(self, prediction_id: str, until: float) -> Plan[Prediction]:
        """Listen until it has ended; where the stream breaks, ask once and listen again; where there is none, poll."""
        request = Request(
            "GET",
            f"{self._of(prediction_id)}/events",
            headers={"Accept": "text/event-stream"},
            seconds=_SILENCE,
        )
        known: Prediction | None = None
        misses = 0
        while misses < _STREAM_TRIES and until - monotonic() > _SILENCE:
            # 1. Listen.
            reply: Opened | Answer | Broken = yield Listen(request)
            if isinstance(reply, Answer) and reply.status not in TRANSIENT:
                break  # no stream for us here; asking tells what is wrong, if anything is
            if isinstance(reply, Opened):
                heard = yield from _listen(until)
                if heard is not None:
                    known, misses = heard, 0
                if known is not None and known.is_ended:
                    return known
            # 2. It broke: ask how things stand, and try again.
            misses += 1
            prediction = yield from self._patiently(prediction_id, until)
            if prediction != known:
                yield Tell(Update(prediction))
                known = prediction
            if prediction.is_ended:
                return prediction
            yield Pause(max(0.0, min(_STREAM_PAUSE * 2**misses, until - monotonic())))
        return (yield from self.poll(prediction_id, until, known))

    def pictures(self, prediction: Prediction, until: float) -> Plan[Generated]:
        """A completed prediction with its pictures. Raises PredictionFailed or PredictionStopped for any other."""
        if not prediction.completed().outputs:
            raise AnswerInvalid("The server completed the prediction without a picture.")
        files: tuple[bytes, ...] = ()
        images: tuple[Image.Image, ...] = ()
        for output in prediction.outputs:
            files += ((yield from self._file_of(output, until)),)
            images += ((yield from _read(files[-1])),)
        return Generated(prediction, images, files)

    def picture(self, output: str, until: float) -> Plan[Image.Image]:
        """The picture behind an output or a depth map: a URL, asked for without the key, or base64."""
        return (yield from _read((yield from self._file_of(output, until))))

    def generate(
        self, fields: Mapping[str, object], control_image: ControlImage, until: float, *, watched: bool
    ) -> Plan[Generated]:
        """Submit, wait, fetch."""
        submitted = yield from self.submit(fields, control_image, None, min(until, self.until()))
        wait = self.follow if watched else self.poll
        ended = yield from wait(submitted.id, until)
        return (yield from self.pictures(ended, self.until()))

    def until(self, timeout: float | None = None) -> float:
        """When a single call that starts now must be over."""
        return monotonic() + (self.patience if timeout is None else timeout)

    def _file_of(self, output: str, until: float) -> Plan[bytes]:
        if output.startswith(("http://", "https://", "/")):
            request = Request("GET", urljoin(f"{self.server}/", output), with_key=False, until=until)
            return (yield from ask(request)).body
        data: bytes = yield Compute(lambda: _decoded(output))
        return data

    def _patiently(self, prediction_id: str, until: float) -> Plan[Prediction]:
        return (yield from self.get(prediction_id, min(until, self.until()), tries=inf))

    def _of(self, prediction_id: str) -> str:
        if not prediction_id.strip("."):  # nothing, or dots that would lead elsewhere
            raise InvalidParameter("prediction_id", prediction_id, "the id of a prediction")
        return f"{self.server}/api/v3/predictions/{quote(prediction_id, safe='')}"

    def _post(
        self, path: str, body: object, until: float, headers: Mapping[str, str] | None = None
    ) -> Request:
        return Request("POST", f"{self.server}/api/v3/{path}", body, headers=headers or {}, until=until)


def _listen(until: float) -> Plan[Prediction | None]:
    """What was heard last before the stream ended."""
    parser = EventParser()
    last: Prediction | None = None
    while until - monotonic() > _SILENCE:
        chunk: bytes | None = yield Hear()
        if chunk is None:
            break
        try:
            updates = [_update(event) for event in parser.feed(chunk)]
        except AnswerInvalid:
            break
        for update in updates:
            if update is None:
                continue
            last = update.prediction
            yield Tell(update)
            if last.is_ended:
                return last
    return last


def _update(event: ServerEvent) -> Update | None:
    if event.name not in ("progress", "end"):
        return None
    try:
        data = json.loads(event.data)
    except (ValueError, RecursionError) as error:
        raise AnswerInvalid("The server sends events that cannot be read.") from error
    prediction = Prediction.read(data)
    preview = data.pop("preview", None)
    try:
        return Update(prediction, _decoded(preview) if isinstance(preview, str) else None)
    except AnswerInvalid:  # news without its thumbnail is still news
        return Update(prediction)


def _file(picture: Path | Image.Image | bytes) -> tuple[str, bytes]:
    if isinstance(picture, bytes):
        return "image", picture
    if isinstance(picture, Image.Image):
        with io.BytesIO() as file:
            try:
                picture.save(file, "PNG")
            except OSError as error:
                raise InvalidImage(f"A picture of mode {picture.mode} cannot be sent.") from error
            return "image.png", file.getvalue()
    open_image(picture).close()  # a file that is no picture is told before it travels
    return picture.name, Path(fspath(picture)).read_bytes()


def _read(data: bytes) -> Plan[Image.Image]:
    picture: Image.Image = yield Compute(lambda: _picture(data))
    return picture


def _picture(data: bytes) -> Image.Image:
    try:
        return read_image(io.BytesIO(data), "The server's picture")
    except InvalidImage as error:
        raise AnswerInvalid(str(error)) from error


def _decoded(text: str) -> bytes:
    """Base64, with or without the head of a data URI."""
    head, comma, rest = text.partition(",")
    try:
        return b64decode(rest if comma and head.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise AnswerInvalid("The server's picture is neither a URL nor base64.") from error
