"""What a plan asks its client to do, and what it is told in return.

A plan is a generator: it yields actions, is sent the outcomes, and returns what it was made for. It does no input or
output of its own, so the blocking client and the asynchronous one carry out the same plans.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from depthwright.clients.predictions import Update

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Request:
    """An HTTP request. `seconds` bounds every wait within it, `until` (of the monotonic clock) the whole of it.

    The key is no part of it: the client adds it where `with_key` says so.
    """

    method: str
    url: str
    json: object = None
    file: tuple[str, bytes] | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    with_key: bool = True
    seconds: float = 30
    until: float = float("inf")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read to its end. The headers' names are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Broken:
    """No answer, or not all of it, and why."""

    reason: str


@dataclass(frozen=True)
class Send:
    """Send a request. The outcome: Answer or Broken."""

    request: Request


@dataclass(frozen=True)
class Listen:
    """Open a stream of events; it ends with the plan, or the next. The outcome: Opened, else Answer or Broken."""

    request: Request


@dataclass(frozen=True)
class Opened:
    """There is a stream now, to Hear."""


@dataclass(frozen=True)
class Hear:
    """Take the next bytes of the stream. The outcome: bytes, or None when no more will come."""


@dataclass(frozen=True)
class Pause:
    """Do nothing for so many seconds. The outcome: None."""

    seconds: float


@dataclass(frozen=True)
class Compute:
    """Do what takes processor or disk time. The outcome: what it returns."""

    work: Callable[[], Any]


@dataclass(frozen=True)
class Tell:
    """Pass an update on to whoever watches. The outcome: None."""

    update: Update


Action: TypeAlias = Send | Listen | Hear | Pause | Compute | Tell
Plan: TypeAlias = Generator[Action, Any, _Value]
