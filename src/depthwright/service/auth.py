"""Keys: made by the operator, kept as digests, looked up at every request."""

import contextlib
import hashlib
import secrets
import threading
import time
from dataclasses import dataclass

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import OperationalError

from depthwright.errors import UserError
from depthwright.service.database import Database
from depthwright.service.tables import KEYS

K = KEYS.c
_CALLER = select(K.id, K.webhook_secret).where(K.digest == bindparam("digest"), K.revoked_at.is_(None))
PREFIX = "dw_"
_FLUSH_SECONDS = 10


class UnknownKey(UserError):
    """There is no key of that id or name."""

    exit_code = 2


@dataclass(frozen=True)
class Key:
    """A key as the operator sees it; the key itself is not kept."""

    id: str
    name: str
    created_at: float
    last_used_at: float | None
    revoked_at: float | None


@dataclass(frozen=True)
class Caller:
    """Whoever holds a valid key."""

    key_id: str
    webhook_secret: str


class Keys:
    """The keys of an installation."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._used: dict[str, float] = {}
        self._flushed = time.monotonic()
        self._lock = threading.Lock()

    def create(self, name: str = "") -> str:
        """A new key: shown now and never again."""
        # 32 random bytes are beyond guessing, so one round of a plain digest keeps them.
        key = PREFIX + secrets.token_urlsafe(32)
        row = {
            "id": secrets.token_hex(4),
            "name": name,
            "digest": _digest(key),
            "webhook_secret": f"whsec_{secrets.token_hex(24)}",
            "created_at": time.time(),
        }
        with self._database.writing() as connection:
            connection.execute(insert(KEYS).values(**row))
        return key

    def all(self) -> list[Key]:
        """Every key, the oldest first."""
        self.flush()
        with self._database.reading() as connection:
            rows = connection.execute(
                select(K.id, K.name, K.created_at, K.last_used_at, K.revoked_at).order_by(K.created_at)
            ).all()
        return [Key(*row) for row in rows]

    def revoke(self, which: str) -> Key:
        """End a key, by its id or its name; at once. Raises UnknownKey."""
        found = [key for key in self.all() if which in (key.id, key.name) and key.revoked_at is None]
        if len(found) != 1:
            how = "There is no valid key" if not found else f"{len(found)} keys are called"
            raise UnknownKey(f"{how} {which!r}: give an id from `depthwright keys list`.")
        with self._database.writing() as connection:
            connection.execute(update(KEYS).where(K.id == found[0].id).values(revoked_at=time.time()))
        return found[0]

    def caller(self, key: str) -> Caller | None:
        """Who holds this key; None if it is none, or was revoked."""
        with self._database.reading() as connection:
            row = connection.execute(_CALLER, {"digest": _digest(key)}).one_or_none()
        if row is None:
            return None
        self._used[row.id] = time.time()
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            with contextlib.suppress(OperationalError):  # a full disk does not lock out who only reads
                self.flush()
        return Caller(row.id, row.webhook_secret)

    def flush(self) -> None:
        """Write down when keys were last used; a write at every request would cost more than it tells."""
        with self._lock:
            used, self._used = self._used, {}
            self._flushed = time.monotonic()
        if used:
            with self._database.writing() as connection:
                for key_id, moment in used.items():
                    connection.execute(update(KEYS).where(K.id == key_id).values(last_used_at=moment))


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
