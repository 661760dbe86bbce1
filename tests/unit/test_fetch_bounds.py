"""A fetch is bounded in time, bytes and redirects, whatever its host does."""

import asyncio
import socket
import threading
import time
from typing import Any

import pytest

from depthwright.errors import InvalidImage
from tests.support.hosts import body, fetching, redirect, refusal, saying, served, serving


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_host_that_drips_is_given_up_in_time(head: bytes) -> None:
    """In the status line, in the headers and in the body: each byte comes soon enough, the last one never."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        while True:
            writer.write(b"H")
            await writer.drain()
            await asyncio.sleep(0.02)

    started = time.monotonic()
    with pytest.raises(InvalidImage, match=r"took longer than 0\.5 s"):
        served(drip, seconds=0.5)
    assert time.monotonic() - started < 5


def test_redirects_share_the_time_of_one_fetch() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.2)
        writer.write(redirect("/again"))

    with pytest.raises(InvalidImage, match=r"took longer than 0\.5 s"):
        served(slow, seconds=0.5, redirects=1000)


def test_a_slow_name_server_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def never(*_: object, **__: object) -> list[Any]:
        released.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", never)
    try:
        refusal("https://slow.example/", seconds=0.2, match=r"took longer than 0\.2 s")
    finally:
        released.set()


def test_an_endless_body_is_left_at_the_limit() -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(bytes(65536))
            sent += 65536
            await writer.drain()

    with pytest.raises(InvalidImage, match="larger than 1 MB"):
        served(endless, limit=1_000_000)
    # Beyond what was read there is only what the system's buffers hold.
    assert sent < 20_000_000


def test_a_length_over_the_limit_is_refused_before_the_body() -> None:
    """The body never comes: waiting for it would be another error."""

    async def promising(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000001\r\n\r\n")
        await reader.read()

    with pytest.raises(InvalidImage, match="larger than 1 MB"):
        served(promising, limit=1_000_000)


def test_the_limit_itself_is_read() -> None:
    assert served(saying(body(bytes(1000))), limit=1000) == bytes(1000)
    with pytest.raises(InvalidImage, match="larger"):
        served(saying(b"HTTP/1.1 200 OK\r\n\r\n", bytes(1001)), limit=1000)


@pytest.mark.parametrize("status", [201, 204, 206, 304, 401, 404, 500, 503])
def test_any_status_but_success_is_told(status: int) -> None:
    with pytest.raises(InvalidImage, match=f"'127.0.0.1' answered with status {status}"):
        served(saying(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0\xff" * 100,
        b"HTTP/1.1 999999 X\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\n" % (b"9" * 5000),
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\ncut short",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 1_000_000,
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://[\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: \xff\xfe\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: https://a:99999/\r\n\r\n",
    ],
)
def test_a_host_that_breaks_the_protocol_is_told_in_a_sentence(answer: bytes) -> None:
    with pytest.raises(InvalidImage, match=r"The control image cannot be fetched: .*\.$"):
        served(saying(answer))


def test_a_webhook_is_posted_with_its_headers_and_a_redirect_is_an_answer() -> None:
    got: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(2))
        writer.write(redirect("/elsewhere"))

    async def main() -> int:
        async with serving(take) as host, fetching(host) as fetcher:
            return await fetcher.post(f"http://{host}/hook", b"{}", {"webhook-id": "7"})

    assert asyncio.run(main()) == 302
    assert len(got) == 1
    assert got[0].startswith(b"POST /hook HTTP/1.1\r\n")
    assert b"webhook-id: 7\r\n" in got[0]
    assert got[0].endswith(b"{}")
