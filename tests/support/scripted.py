"""A server of scripted replies, both clients before it, and a clock that nobody waits for."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from depthwright.clients import AsyncClient, Client, Update

SERVER = "http://server.test:8000"
KEY = "dw_secret"
Reply = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    @classmethod
    def installed(cls, monkeypatch: pytest.MonkeyPatch) -> "Clock":
        """The clock of all clients, for one test."""
        clock = cls()
        for module in ("exchange", "plans", "http"):
            monkeypatch.setattr(f"depthwright.clients.{module}.monotonic", clock.monotonic)
        for name in ("monotonic", "sleep"):
            monkeypatch.setattr(f"depthwright.clients.blocking.time.{name}", getattr(clock, name))
        monkeypatch.setattr("depthwright.clients.asynchronous.asyncio.sleep", clock.sleep_async)
        return clock

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


class Chunks(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in pieces; a None among them breaks the connection."""

    def __init__(self, *pieces: bytes | None) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            if piece is None:
                raise httpx.ReadError("the line broke")
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


class Script:
    """Both clients, before a server that gives these replies, one a request."""

    def __init__(self, kind: str, replies: tuple[Reply, ...], patience: float = 60) -> None:
        self.requests: list[httpx.Request] = []
        self._replies = list(replies)
        self.client: Client | AsyncClient
        transport = httpx.MockTransport(self._answer)
        if kind == "sync":
            self.client = Client(SERVER, KEY, patience=patience, transport=transport)
        else:
            self.client = AsyncClient(SERVER, KEY, patience=patience, transport=transport)

    def __call__(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Call a method of the client, and wait for it."""
        return self._result(getattr(self.client, method)(*arguments, **named))

    def stream(self, name: str = "p1") -> list[Update]:
        """Everything that the stream tells."""
        client = self.client
        if isinstance(client, Client):
            return list(client.stream(name))

        async def gathered() -> list[Update]:
            return [update async for update in client.stream(name)]

        return asyncio.run(gathered())

    @property
    def asked(self) -> list[str]:
        """The requests: method and path."""
        return [f"{request.method} {request.url.path}" for request in self.requests]

    def _result(self, value: Any) -> Any:
        return asyncio.run(value) if asyncio.iscoroutine(value) else value

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self._replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        if not isinstance(reply, httpx.Response):
            return reply(request)
        if isinstance(reply.stream, Chunks):
            return reply
        # The library binds a response to the client that got it; a script may give it again.
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)


Scripts = Callable[..., Script]


def data(status: str = "created", /, **fields: Any) -> dict[str, Any]:
    return {"id": "p1", "status": status, "outputs": [], **fields}


def ok(content: object) -> httpx.Response:
    return httpx.Response(200, json={"code": 200, "message": "success", "data": content})


def no(status: int, message: str = "no", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={"code": status, "message": message}, headers=named)


def events(*pieces: bytes | None) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Chunks(*pieces))


def event(name: str, content: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(content)}\n\n".encode()


def png(color: str = "red") -> bytes:
    with io.BytesIO() as file:
        Image.new("RGB", (8, 6), color).save(file, "PNG")
        return file.getvalue()


REFUSED = httpx.ConnectError("refused")
