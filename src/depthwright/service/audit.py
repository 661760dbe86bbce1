"""The audit log: who was refused what and when, in rows that are added and never changed.

Each row's digest covers the row before it: whoever edits the file behind the database's back breaks the chain from
there on. Prompts are digests under a secret of this installation, so that nobody finds them by trying likely ones.
"""

import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, insert, select

from depthwright.service.tables import AUDIT

Subject = Literal["prompt", "image"]
Decision = Literal["refused", "blacked", "unchecked", "made"]
_FIRST = "0" * 64
_LAST = select(AUDIT.c.digest).order_by(AUDIT.c.number.desc()).limit(1)
_AFTER = select(AUDIT).where(AUDIT.c.number > bindparam("after")).order_by(AUDIT.c.number).limit(500)
_ADD = insert(AUDIT)


@dataclass(frozen=True)
class Entry:
    """What was decided about whose prediction; `pixels` are the hashes that the receipts of its pictures have."""

    key_id: str
    prediction_id: str
    subject: Subject
    category: str
    decision: Decision
    prompt: str
    pixels: tuple[str, ...] = ()


class Audit:
    """Writes the log, within the transaction of what it tells; with `keep_pictures` also who had which picture made."""

    def __init__(self, secret: Path, *, keep_prompts: bool = False, keep_pictures: bool = False) -> None:
        self._path = secret
        self._keep_prompts = keep_prompts
        self.keep_pictures = keep_pictures
        self._secret: bytes | None = None

    def record(self, connection: Connection, entry: Entry) -> None:
        """Add a row; its transaction holds the database's one lock for writers, so the chain has no forks."""
        row: dict[str, Any] = {"at": time.time(), **vars(entry), "prompt": self._told(entry.prompt)}
        row["pixels"] = list(entry.pixels)
        before = connection.execute(_LAST).scalar_one_or_none() or _FIRST
        connection.execute(_ADD, row | {"digest": _digest(before, row)})

    def _told(self, prompt: str) -> str:
        if self._keep_prompts:
            return prompt
        if self._secret is None:
            self._secret = _kept(self._path)
        return "hmac-sha256:" + hmac.new(self._secret, prompt.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Row:
    """A row as it is exported; `is_whole` if its digest is that of the row and of the one before."""

    told: dict[str, Any]
    is_whole: bool


def exported(connection: Connection, after: int = 0) -> Iterator[Row]:
    """All rows, oldest first, each judged with the one before."""
    before = _FIRST
    number = 0
    while rows := connection.execute(_AFTER, {"after": number}).mappings().all():
        for row in rows:
            told = dict(row)
            number, digest = told["number"], told["digest"]
            content = {name: value for name, value in told.items() if name not in ("number", "digest")}
            if number > after:
                yield Row(told, _digest(before, content) == digest)
            before = digest


def _digest(before: str, content: dict[str, Any]) -> str:
    plain = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(f"{before}{plain}".encode()).hexdigest()


def _kept(path: Path) -> bytes:
    """The secret, made at first use; of several processes that make it at once one wins."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    if not path.exists():
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_bytes()
