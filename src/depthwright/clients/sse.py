"""Server-sent events, from bytes as they come."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from depthwright.clients.errors import AnswerInvalid

LONGEST = 200_000_000  # an `end` may hold four pictures as base64
_LINE_END = re.compile(rb"\r\n|\r|\n")


class ServerEvent(NamedTuple):
    """One event: its name, and its data with the lines joined."""

    name: str
    data: str


class EventParser:
    """Feed it chunks, cut anywhere; it yields the events that are whole."""

    def __init__(self) -> None:
        self._pending: list[bytes] = []
        self._size = 0
        self._after_cr = False
        self._name = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[ServerEvent]:
        """Raises AnswerInvalid for an event without an end."""
        # A line may end in CR LF with the cut between them.
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._after_cr = chunk.endswith(b"\r")
        self._size += len(chunk)
        if self._size > LONGEST:
            raise AnswerInvalid("The server's answer has an event without an end.")
        *lines, rest = _LINE_END.split(chunk)
        for line in lines:
            self._pending.append(line)
            whole = b"".join(self._pending).decode("utf-8", "replace")
            self._pending.clear()
            yield from self._line(whole)
        self._pending.append(rest)

    def _line(self, line: str) -> Iterator[ServerEvent]:
        if not line:
            self._size = 0
            name, data = self._name or "message", self._data
            self._name, self._data = "", []
            if data:
                yield ServerEvent(name, "\n".join(data))
            return
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
