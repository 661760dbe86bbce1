"""ComfyUI's events over a websocket: as much of RFC 6455 as a listener needs."""

import base64
import json
import os
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10
_PATIENCE_SECONDS = 300


class Listener:
    """Collects the events of one client; `previews` counts the pictures among them."""

    def __init__(self, port: int, client_id: str) -> None:
        self.events: list[dict[str, Any]] = []
        self.previews = 0
        self._news = threading.Condition()
        self._line = socket.create_connection(("127.0.0.1", port), timeout=30)
        nonce = base64.b64encode(os.urandom(16)).decode()
        self._line.sendall(
            f"GET /ws?clientId={client_id} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {nonce}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._stream = self._line.makefile("rb")
        assert b" 101 " in self._stream.readline()
        while self._stream.readline().strip():
            pass
        self._line.settimeout(None)
        threading.Thread(target=self._listen, daemon=True).start()

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first such event, of those that came and those that will come."""
        found: list[dict[str, Any]] = []

        def is_there() -> bool:
            found.extend(event for event in self.events if wanted(event))
            return bool(found)

        with self._news:
            assert self._news.wait_for(is_there, _PATIENCE_SECONDS), self.events[-20:]
        return found[0]

    def close(self) -> None:
        """Listen no more."""
        self._line.close()

    def _listen(self) -> None:
        try:
            while True:
                kind, body = self._frame()
                if kind == _PING:
                    self._send(_PONG, body)
                    continue
                with self._news:
                    if kind == _BINARY:
                        self.previews += 1
                    elif kind == _TEXT:
                        self.events.append(json.loads(body))
                    self._news.notify_all()
                if kind == _CLOSE:
                    return
        except (OSError, EOFError, ValueError):  # closed by either side
            return

    def _frame(self) -> tuple[int, bytes]:
        first, second = self._read(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self._read(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self._read(8))
        return first & 0x0F, self._read(length)

    def _read(self, count: int) -> bytes:
        data = self._stream.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def _send(self, kind: int, body: bytes) -> None:
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(body))
        self._line.sendall(bytes([0x80 | kind, 0x80 | len(body)]) + mask + masked)
