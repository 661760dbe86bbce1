"""The client that blocks."""

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx
from PIL import Image
from pydantic import SecretStr

from depthwright.clients.actions import (
    Action,
    Answer,
    Broken,
    Compute,
    Hear,
    Listen,
    Opened,
    Pause,
    Plan,
    Request,
    Send,
    Tell,
)
from depthwright.clients.http import FAILURES, BaseClient, Body, Ended, Watch, broken, is_stream
from depthwright.clients.plans import ControlImage
from depthwright.clients.predictions import Generated, Page, Prediction, Update

_Value = TypeVar("_Value")


class Client(BaseClient):
    """A client that blocks; close it, or use it in a `with`.

    `server` may end in `/api/v3`. A single call tries for at most `patience` seconds to get its answer; its own
    `timeout` overrides that.
    """

    def __init__(
        self,
        server: str,
        key: str | SecretStr,
        *,
        patience: float = 60,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(server, key, patience)
        self._http = httpx.Client(transport=transport, **self._options())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(
        self,
        *,
        control_image: ControlImage = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **fields: object,
    ) -> Prediction:
        """Send a request of the API's fields; `control_image` is a URL, data URI, base64, a Path or a picture."""
        return self._run(self._api.submit(fields, control_image, idempotency_key, self._api.until(timeout)))

    def get(self, prediction_id: str, *, timeout: float | None = None) -> Prediction:
        """The prediction as it is now."""
        return self._run(self._api.get(prediction_id, self._api.until(timeout)))

    def wait(self, prediction_id: str, *, timeout: float = inf) -> Prediction:
        """The completed prediction. Raises PredictionFailed, PredictionStopped or TimedOut."""
        return self._run(self._api.poll(prediction_id, time.monotonic() + timeout)).completed()

    def stream(self, prediction_id: str, *, timeout: float = inf) -> Generator[Update, None, None]:
        """News as it comes; the last tells how it ended, also where it failed. Raises TimedOut."""
        with closing(self._told(self._api.follow(prediction_id, time.monotonic() + timeout))) as told:
            for each in told:
                if isinstance(each, Update):
                    yield each

    def cancel(self, prediction_id: str, *, timeout: float | None = None) -> Prediction:
        """Cancel it; one that has ended stays as it is, one that runs stops at its next step."""
        return self._run(self._api.cancel(prediction_id, self._api.until(timeout)))

    def delete(self, *prediction_ids: str, timeout: float | None = None) -> int:
        """Delete predictions and their pictures; how many there were."""
        return self._run(self._api.delete(prediction_ids, self._api.until(timeout)))

    def list(
        self, *, page: int = 1, page_size: int = 20, timeout: float | None = None, **filters: object
    ) -> Page:
        """A page of predictions, newest first; `filters` are the API's: status, created_after, include_inputs, ..."""
        wanted = {"page": page, "page_size": page_size, **filters}
        return self._run(self._api.list(wanted, self._api.until(timeout)))

    def upload(self, picture: Path | Image.Image | bytes, *, timeout: float | None = None) -> str:
        """Send a picture; the URL to give as `control_image`."""
        return self._run(self._api.upload(picture, self._api.until(timeout)))

    def pictures(self, prediction: Prediction, *, timeout: float | None = None) -> Generated:
        """Fetch the pictures of a completed prediction."""
        return self._run(self._api.pictures(prediction, self._api.until(timeout)))

    def picture(self, url: str, *, timeout: float | None = None) -> Image.Image:
        """Fetch one picture, such as `prediction.control`."""
        return self._run(self._api.picture(url, self._api.until(timeout)))

    def generate(
        self,
        *,
        control_image: ControlImage = None,
        timeout: float = inf,
        on_update: Watch | None = None,
        **fields: object,
    ) -> Generated:
        """Submit, wait, fetch the pictures; `on_update` hears of the progress. Raises as `wait` does."""
        until, watched = time.monotonic() + timeout, on_update is not None
        return self._run(self._api.generate(fields, control_image, until, watched=watched), on_update)

    def _run(self, plan: Plan[_Value], watch: Watch | None = None) -> _Value:
        with closing(self._told(plan)) as told:
            for each in told:
                if isinstance(each, Ended):
                    return each.value
                if watch:
                    watch(each)
        raise AssertionError("a plan ends with a value")

    def _told(self, plan: Plan[_Value]) -> Generator[Update | Ended[_Value], None, None]:
        """Carry out a plan: the updates that it tells, then what it returns."""
        outcome: object = None
        chunks: Iterator[bytes] = iter(())
        with ExitStack() as line:
            while True:
                try:
                    action: Action = plan.send(outcome)
                except StopIteration as end:
                    yield Ended(end.value)
                    return
                outcome = None
                match action:
                    case Send(request):
                        outcome = self._send(request)
                    case Listen(request):
                        line.close()
                        outcome, chunks = self._listen(request, line)
                    case Hear():
                        outcome = _next(chunks)
                    case Pause(seconds):
                        time.sleep(seconds)
                    case Compute(work):
                        outcome = work()
                    case Tell(update):
                        yield update

    def _send(self, request: Request) -> Answer | Broken:
        try:
            with self._http.stream(**self._arguments(request)) as response:
                return self._read(request, response)
        except FAILURES as error:
            return broken(error)

    def _listen(self, request: Request, line: ExitStack) -> tuple[Opened | Answer | Broken, Iterator[bytes]]:
        try:
            response = line.enter_context(self._http.stream(**self._arguments(request)))
            if is_stream(response):
                return Opened(), response.iter_bytes()
            return self._read(request, response), iter(())
        except FAILURES as error:
            return broken(error), iter(())

    def _read(self, request: Request, response: httpx.Response) -> Answer | Broken:
        body = Body(request)
        for chunk in response.iter_bytes():
            if (trouble := body.add(chunk)) is not None:
                return trouble
        return body.answer(response)


def _next(chunks: Iterator[bytes]) -> bytes | None:
    try:
        return next(chunks, None)
    except FAILURES:
        return None
