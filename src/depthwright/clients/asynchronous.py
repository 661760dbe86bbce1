"""The client for asyncio."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
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


class AsyncClient(BaseClient):
    """`Client` for asyncio; close it with `aclose`, or use it in an `async with`.

    `asyncio.timeout` bounds a wait. A task that is cancelled stops waiting; its prediction goes on until somebody
    cancels that.
    """

    def __init__(
        self,
        server: str,
        key: str | SecretStr,
        *,
        patience: float = 60,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(server, key, patience)
        self._http = httpx.AsyncClient(transport=transport, **self._options())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def submit(
        self,
        *,
        control_image: ControlImage = None,
        idempotency_key: str | None = None,
        **fields: object,
    ) -> Prediction:
        """Send a request of the API's fields; `control_image` is a URL, data URI, base64, a Path or a picture."""
        return await self._run(self._api.submit(fields, control_image, idempotency_key, self._api.until()))

    async def get(self, prediction_id: str) -> Prediction:
        """The prediction as it is now."""
        return await self._run(self._api.get(prediction_id, self._api.until()))

    async def wait(self, prediction_id: str) -> Prediction:
        """The completed prediction. Raises PredictionFailed or PredictionStopped."""
        ended = await self._run(self._api.poll(prediction_id, inf))
        return ended.completed()

    async def stream(self, prediction_id: str) -> AsyncGenerator[Update, None]:
        """News as it comes; the last tells how it ended, also where it failed."""
        async with aclosing(self._told(self._api.follow(prediction_id, inf))) as told:
            async for each in told:
                if isinstance(each, Update):
                    yield each

    async def cancel(self, prediction_id: str) -> Prediction:
        """Cancel it; one that has ended stays as it is, one that runs stops at its next step."""
        return await self._run(self._api.cancel(prediction_id, self._api.until()))

    async def delete(self, *prediction_ids: str) -> int:
        """Delete predictions and their pictures; how many there were."""
        return await self._run(self._api.delete(prediction_ids, self._api.until()))

    async def list(self, *, page: int = 1, page_size: int = 20, **filters: object) -> Page:
        """A page of predictions, newest first; `filters` are the API's: status, created_after, include_inputs, ..."""
        wanted = {"page": page, "page_size": page_size, **filters}
        return await self._run(self._api.list(wanted, self._api.until()))

    async def upload(self, picture: Path | Image.Image | bytes) -> str:
        """Send a picture; the URL to give as `control_image`."""
        return await self._run(self._api.upload(picture, self._api.until()))

    async def pictures(self, prediction: Prediction) -> Generated:
        """Fetch the pictures of a completed prediction."""
        return await self._run(self._api.pictures(prediction, self._api.until()))

    async def picture(self, url: str) -> Image.Image:
        """Fetch one picture, such as `prediction.control`."""
        return await self._run(self._api.picture(url, self._api.until()))

    async def generate(
        self,
        *,
        control_image: ControlImage = None,
        on_update: Watch | None = None,
        **fields: object,
    ) -> Generated:
        """Submit, wait, fetch the pictures; `on_update` hears of the progress. Raises as `wait` does."""
        plan = self._api.generate(fields, control_image, inf, watched=on_update is not None)
        return await self._run(plan, on_update)

    async def _run(self, plan: Plan[_Value], watch: Watch | None = None) -> _Value:
        async with aclosing(self._told(plan)) as told:
            async for each in told:
                if isinstance(each, Ended):
                    return each.value
                if watch:
                    watch(each)
        raise AssertionError("a plan ends with a value")

    async def _told(self, plan: Plan[_Value]) -> AsyncGenerator[Update | Ended[_Value], None]:
        """Carry out a plan: the updates that it tells, then what it returns."""
        outcome: object = None
        chunks: AsyncIterator[bytes] = _nothing()
        async with AsyncExitStack() as line:
            while True:
                try:
                    action: Action = plan.send(outcome)
                except StopIteration as end:
                    yield Ended(end.value)
                    return
                outcome = None
                match action:
                    case Send(request):
                        outcome = await self._send(request)
                    case Listen(request):
                        await line.aclose()
                        outcome, chunks = await self._listen(request, line)
                    case Hear():
                        outcome = await _next(chunks)
                    case Pause(seconds):
                        await asyncio.sleep(seconds)
                    case Compute(work):
                        outcome = await asyncio.to_thread(work)
                    case Tell(update):
                        yield update

    async def _send(self, request: Request) -> Answer | Broken:
        try:
            async with self._http.stream(**self._arguments(request)) as response:
                return await self._read(request, response)
        except FAILURES as error:
            return broken(error)

    async def _listen(
        self, request: Request, line: AsyncExitStack
    ) -> tuple[Opened | Answer | Broken, AsyncIterator[bytes]]:
        try:
            response = await line.enter_async_context(self._http.stream(**self._arguments(request)))
            if is_stream(response):
                return Opened(), response.aiter_bytes()
            return await self._read(request, response), _nothing()
        except FAILURES as error:
            return broken(error), _nothing()

    async def _read(self, request: Request, response: httpx.Response) -> Answer | Broken:
        body = Body(request)
        async for chunk in response.aiter_bytes():
            if (trouble := body.add(chunk)) is not None:
                return trouble
        return body.answer(response)


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    try:
        return await anext(chunks, None)
    except FAILURES:
        return None


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield
