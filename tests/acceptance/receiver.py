"""Receives webhooks on loopback, and checks them the way WaveSpeedAI's documentation tells receivers to."""

import hashlib
import hmac
import json
import queue
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

_PATIENCE_SECONDS = 30
_OLDEST_SECONDS = 300


@dataclass(frozen=True)
class Webhook:
    """What was posted."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def prediction(self) -> dict[str, Any]:
        """The body, read."""
        told: dict[str, Any] = json.loads(self.body)
        return told

    def is_signed_with(self, secret: str) -> bool:
        """Whether the sender knows the secret and posted just now."""
        posted = self.headers["webhook-timestamp"]
        signed = f"{self.headers['webhook-id']}.{posted}.".encode() + self.body
        digest = hmac.new(secret.removeprefix("whsec_").encode(), signed, hashlib.sha256).hexdigest()
        is_recent = abs(time.time() - int(posted)) <= _OLDEST_SECONDS
        return is_recent and hmac.compare_digest(self.headers["webhook-signature"], f"v3,{digest}")


class Receiver:
    """Waits on a port of its own."""

    def __init__(self) -> None:
        self._arrived: queue.Queue[Webhook] = queue.Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Where to post."""
        return f"http://127.0.0.1:{self._server.server_port}/hooks/pictures"

    def next(self) -> Webhook:
        """The next that arrives, or has arrived."""
        return self._arrived.get(timeout=_PATIENCE_SECONDS)

    def _handler(receiver) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler's
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                names = {name.lower(): value for name, value in self.headers.items()}
                self.send_response(204)
                self.end_headers()
                receiver._arrived.put(Webhook(self.path, names, body))

            def log_message(self, *_told: object) -> None:
                """Say nothing."""

        return Handler
