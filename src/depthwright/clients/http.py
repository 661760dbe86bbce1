"""What both clients share of HTTP: the library, the address and the key, requests and answers in its terms."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from depthwright import __version__
from depthwright.clients.actions import Answer, Broken, Request
from depthwright.clients.exchange import checked_key, server_address
from depthwright.clients.plans import Api
from depthwright.clients.predictions import Update

_Value = TypeVar("_Value")
_CONNECT_SECONDS = 10.0
_LARGEST_BODY = 200_000_000  # four pictures as base64, and room
FAILURES = (httpx.RequestError, httpx.InvalidURL, httpx.StreamError)
Watch = Callable[[Update], object]


@dataclass(frozen=True)
class Ended(Generic[_Value]):
    """What a plan returned."""

    value: _Value


class BaseClient:
    """The address, and the key, which nothing repeats."""

    def __init__(self, server: str, key: str | SecretStr, patience: float) -> None:
        self._api = Api(server_address(server), patience)
        self._key = SecretStr(checked_key(key.get_secret_value() if isinstance(key, SecretStr) else key))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.server!r})"

    @property
    def server(self) -> str:
        """The server's address."""
        return self._api.server

    def _options(self) -> dict[str, Any]:
        return {
            # A proxy of the environment is for the world outside, never for this machine.
            "trust_env": not _is_loopback(self.server),
            "headers": {"User-Agent": f"depthwright/{__version__}"},
        }

    def _arguments(self, request: Request) -> dict[str, Any]:
        key = {"Authorization": f"Bearer {self._key.get_secret_value()}"} if request.with_key else {}
        return {
            "method": request.method,
            "url": request.url,
            "headers": {**request.headers, **key},
            "json": request.json,
            "files": {"file": request.file} if request.file else None,
            "timeout": httpx.Timeout(request.seconds, connect=min(request.seconds, _CONNECT_SECONDS)),
            # Only what bears no key and changes nothing may be sent on to another place.
            "follow_redirects": not request.with_key,
        }


class Body:
    """An answer's body as it comes: bounded in size, and by the request's `until` however slowly it drips."""

    def __init__(self, request: Request) -> None:
        self._until = request.until
        self._chunks: list[bytes] = []
        self._size = 0

    def add(self, chunk: bytes) -> Broken | None:
        """Keep a part; or tell why no more is to be read."""
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > _LARGEST_BODY:
            return Broken("its answer is endless")
        return Broken("its answer takes too long") if monotonic() > self._until else None

    def answer(self, response: httpx.Response) -> Answer:
        """The whole."""
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, headers, b"".join(self._chunks))


def is_stream(response: httpx.Response) -> bool:
    """Whether events come, rather than an answer that ends."""
    kind: str = response.headers.get("content-type", "")
    return response.status_code == httpx.codes.OK and kind.lower().startswith("text/event-stream")


def broken(error: Exception) -> Broken:
    """The library's error in our words."""
    if isinstance(error, httpx.TimeoutException):
        return Broken("it takes too long")
    return Broken(str(error) or type(error).__name__)


def _is_loopback(server: str) -> bool:
    host = urlsplit(server).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
