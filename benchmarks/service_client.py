"""A lean HTTP client: one keep-alive connection each, no more than the bytes of HTTP/1.1 that the servers here speak.

It shares the machine with the server that it measures, so it does nothing that it need not: a request is made ready
before the clock runs, and an answer is bytes.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

_PATIENCE_SECONDS = 120
LONGEST_SECONDS = 4.0
Address = tuple[str, int]


@dataclass(frozen=True)
class Figures:
    """What many requests took: milliseconds of each, and seconds for all of them."""

    took: tuple[float, ...] = ()
    seconds: float = 0.0

    def __add__(self, other: Self) -> Self:
        """Both together."""
        return replace(self, took=self.took + other.took, seconds=self.seconds + other.seconds)

    def told(self) -> dict[str, float]:
        """For JSON."""
        return {
            "per_s": round(len(self.took) / self.seconds, 1),
            "p50_ms": round(percentile(self.took, 0.5), 2),
            "p95_ms": round(percentile(self.took, 0.95), 2),
        }


class Connection:
    """One connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, address: Address) -> Self:
        """Connect."""
        return cls(*await asyncio.open_connection(*address))

    async def ask(self, request: bytes) -> bytes:
        """The body of the answer. Raises RuntimeError unless it is a 200."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        fields = head.lower()
        start = fields.index(b"content-length:") + 15
        body = await self._reader.readexactly(int(fields[start : fields.index(b"\r\n", start)]))
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{head.decode()}{body.decode()}")
        return body

    async def follow(self, request: bytes, until: bytes) -> None:
        """Read an answer without an end, until these bytes come."""
        self._writer.write(request)
        await self._reader.readuntil(until)

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


def request(
    address: Address, method: str, path: str, body: object = None, key: str = "", **headers: str
) -> bytes:
    """A whole request as bytes."""
    data = b"" if body is None else json.dumps(body).encode()
    told = {
        "Host": f"{address[0]}:{address[1]}",
        "Content-Type": "application/json",
        "Content-Length": str(len(data)),
        **({"Authorization": f"Bearer {key}"} if key else {}),
        **headers,
    }
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items())]
    return "\r\n".join([*lines, "", ""]).encode() + data


def load(address: Address, requests: Sequence[bytes], connections: int) -> Figures:
    """Send these requests over so many connections, each one request at a time; after 4 seconds no more of them."""
    return asyncio.run(_load(address, requests, connections))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so great a share of them does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def data_of(answer: bytes) -> Any:
    """What the service's envelope holds."""
    return json.loads(answer)["data"]


async def _load(address: Address, requests: Sequence[bytes], connections: int) -> Figures:
    waiting = iter(requests)
    took: list[float] = []

    async def work(connection: Connection) -> None:
        for each in waiting:
            started = time.perf_counter()
            if started > stop:
                return
            await connection.ask(each)
            took.append((time.perf_counter() - started) * 1000)

    opened = [await Connection.to(address) for _ in range(connections)]
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            started = time.perf_counter()
            stop = started + LONGEST_SECONDS
            await asyncio.gather(*(work(each) for each in opened))
            seconds = time.perf_counter() - started
    finally:
        for each in opened:
            each.close()
    return Figures(tuple(took), seconds)


async def _answer() -> None:
    """The least that a server can do: what the client reaches here, it reaches anywhere."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1200\r\n\r\n" + b" " * 1200
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(f"listens on http://127.0.0.1:{server.sockets[0].getsockname()[1]};", flush=True)
    await server.serve_forever()


def wait_until(true: Callable[[], bool], what: str, seconds: float = _PATIENCE_SECONDS) -> None:
    """Wait for something of another process. Raises TimeoutError."""
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            raise TimeoutError(what)
        time.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(_answer())
