"""Hosts on loopback that behave badly, and name servers that lie: what a fetcher has to stand."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpcore
import pytest
from httpcore._backends.auto import AutoBackend

from depthwright.errors import InvalidImage
from depthwright.service.fetch import Fetcher

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PRIVATE = [
    "127.0.0.1",
    "localhost",
    "localhost.",
    "LOCALHOST",
    "0.0.0.0",  # noqa: S104 - refused
    "0",
    "2130706433",
    "127.1",
    "0x7f.1",
    "017700000001",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[::1]",
    "[::]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "127.0.0.1.",
    "\uff11\uff12\uff17.0.0.1",
]
ELSEWHERE = [
    "169.254.169.254",
    "10.0.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "[fe80::1]",
    "[fd00::1]",
    "224.0.1.1",
]
# Public, and never reached: the tests that use it stand in for the network.
PUBLIC = "93.184.216.34"


@contextlib.asynccontextmanager
async def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server on the loopback, and its `host:port`."""

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await answer(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(answered, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@contextlib.asynccontextmanager
async def fetching(*allowed: str, seconds: float = 15, redirects: int = 3) -> AsyncIterator[Fetcher]:
    fetcher = Fetcher(allowed, seconds, redirects)
    try:
        yield fetcher
    finally:
        await fetcher.aclose()


def saying(*parts: bytes, seen: list[bytes] | None = None) -> Answer:
    """A server that says these bytes to whoever asks, and writes down what it was asked."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(asked)
        for part in parts:
            writer.write(part)
            await writer.drain()

    return answer


def body(content: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)


def redirect(location: str) -> bytes:
    return b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %b\r\n\r\n" % location.encode()


def refusal(url: str, *allowed: str, match: str | None = None, **limits: Any) -> str:
    async def main() -> None:
        async with fetching(*allowed, **limits) as fetcher:
            await fetcher.fetch(url)

    with pytest.raises(InvalidImage, match=match) as caught:
        asyncio.run(main())
    return str(caught.value)


def served(answer: Answer, *, limit: int = 20_000_000, path: str = "/", **limits: Any) -> bytes:
    """What is fetched from a server on the loopback whose address is on the list."""

    async def main() -> bytes:
        async with serving(answer) as host, fetching(host, **limits) as fetcher:
            return await fetcher.fetch(f"http://{host}{path}", limit)

    return asyncio.run(main())


def resolve_to(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Answer each look-up with the next of these lists of addresses; returns the names that are looked up."""
    asked: list[str] = []

    def resolver(host: str, port: int, *_: object, **__: object) -> list[Any]:
        found = answers[min(len(asked), len(answers) - 1)]
        asked.append(host)
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in found]
        return [
            (family, socket.SOCK_STREAM, 6, "", (address, port))
            for family, address in zip(families, found, strict=True)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    return asked


def connect_nowhere(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Let no connection leave; returns where they would have gone."""
    wanted: list[tuple[str, int]] = []

    async def connect(_: object, host: str, port: int, **__: object) -> httpcore.AsyncNetworkStream:
        wanted.append((host, port))
        raise httpcore.ConnectError(f"no way to {host}")

    monkeypatch.setattr(AutoBackend, "connect_tcp", connect)
    return wanted
