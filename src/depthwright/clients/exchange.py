"""A request and its answer: when to send it again, and what an answer says."""

import json
import random
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from depthwright.clients.actions import Answer, Broken, Pause, Plan, Request, Send
from depthwright.clients.errors import (
    AnswerInvalid,
    KeyInvalid,
    ServerFailed,
    ServerRefused,
    ServerUnreachable,
)
from depthwright.errors import DepthwrightError, InvalidParameter

TRIES = 5
# A busy server and a gateway without one are worth another try: every request of ours may be repeated, a submission
# because it bears an Idempotency-Key.
TRANSIENT = (429, 502, 503, 504)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 8.0
_SHORTEST_WAIT = 1.0
_ADDRESS = "an http or https URL without name and password, such as http://127.0.0.1:8000"


def server_address(url: str) -> str:
    """A server's address without `/api/v3` and slashes at its end. Raises InvalidParameter."""
    try:
        parts = urlsplit(url.strip())
        fits = bool(parts.scheme in ("http", "https") and parts.hostname and parts.port != 0)
    except ValueError:  # brackets or a port that cannot be
        raise InvalidParameter("server", url, _ADDRESS) from None
    if "@" in parts.netloc:  # a password is not repeated
        raise InvalidParameter("server", f"{parts.scheme}://...@{parts.hostname}", _ADDRESS)
    if not fits or parts.query or parts.fragment or not url.strip().isprintable() or " " in url.strip():
        raise InvalidParameter("server", url, _ADDRESS)
    path = re.sub(r"/api(/v[23])?$", "", parts.path.rstrip("/")).rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}"


def checked_key(key: str) -> str:
    """The key, if a header can carry it. Raises KeyInvalid, which does not repeat it."""
    key = key.strip()
    if not key:
        raise KeyInvalid(
            "There is no key for the server; its operator makes one with `depthwright keys create`."
        )
    if not re.fullmatch(r"[!-~]+", key):
        raise KeyInvalid("The key for the server has a space or a character that no key has.")
    return key


def ask(request: Request, tries: float = TRIES) -> Plan[Answer]:
    """The answer with success, asked for again while there is hope.

    What the server says about when to come again is followed until the request's `until`; without it `tries` times.
    Raises ServerRefused, ServerFailed or ServerUnreachable.
    """
    pause, sent = _FIRST_PAUSE, 0
    while True:
        # 1. Ask.
        left = max(_SHORTEST_WAIT, request.until - monotonic())
        reply: Answer | Broken = yield Send(replace(request, seconds=min(request.seconds, left)))
        sent += 1
        if isinstance(reply, Answer) and reply.status == HTTPStatus.OK:
            return reply
        # 2. Whether, and when, to ask again.
        asked_to_wait = None
        if isinstance(reply, Answer):
            if reply.status not in TRANSIENT:
                raise refusal(reply)
            asked_to_wait = retry_after(reply.headers)
        spread = random.uniform(0.5, 1)  # noqa: S311 - only keeps clients from coming all at once
        wait = pause * spread if asked_to_wait is None else max(asked_to_wait, _FIRST_PAUSE * spread)
        if (asked_to_wait is None and sent >= tries) or monotonic() + wait > request.until:
            raise refusal(reply) if isinstance(reply, Answer) else unreachable(request.url, reply)
        # 3. Wait.
        yield Pause(wait)
        pause = min(2 * pause, _LONGEST_PAUSE)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """How many seconds a Retry-After asks for; None if there is none that makes sense."""
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    moment = _moment(text)
    if moment is None:
        return None
    # The server's own clock, where it tells it, made the date.
    return max(0.0, (moment - (_moment(headers.get("date", "")) or datetime.now(UTC))).total_seconds())


def data_of(answer: Answer) -> Any:
    """What is in the envelope. Raises AnswerInvalid, or ServerRefused where the envelope says so."""
    envelope = _json(answer)
    if not isinstance(envelope, dict) or not {"data", "code"} & envelope.keys():
        raise AnswerInvalid("What answered is no depthwright server: check the address.")
    code = envelope.get("code", HTTPStatus.OK)
    if code != HTTPStatus.OK or "data" not in envelope:
        raise ServerRefused(
            code if isinstance(code, int) else answer.status, str(envelope.get("message", ""))
        )
    return envelope["data"]


def refusal(answer: Answer) -> DepthwrightError:
    """The error that an answer without success stands for."""
    envelope = _json(answer)
    message = envelope.get("message") if isinstance(envelope, dict) else None
    if HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST:
        message = f"it sends on to {answer.headers.get('location', 'elsewhere')}: give that address"
    if not isinstance(message, str) or not message:
        named = answer.status in HTTPStatus._value2member_map_
        message = HTTPStatus(answer.status).phrase if named else "it does not say why"
    kind = ServerFailed if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR else ServerRefused
    return kind(answer.status, message)


def unreachable(url: str, broken: Broken) -> ServerUnreachable:
    """The error for no answer."""
    parts = urlsplit(url)
    return ServerUnreachable(
        f"There is no answer from {parts.scheme}://{parts.netloc} ({broken.reason}): "
        "is the server running, and the address right?"
    )


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return None


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
