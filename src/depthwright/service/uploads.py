"""Pictures that clients upload: stored under names that cannot be guessed, by multipart or by ticket."""

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete, insert, select, update

from depthwright.errors import InvalidImage, UserError
from depthwright.service.database import Database
from depthwright.service.images import FIRST_BYTES, LIMIT_BYTES
from depthwright.service.tables import UPLOADS

U = UPLOADS.c
TICKET_SECONDS = 3600
_KINDS = {
    b"\x89PNG": ("image/png", ".png"),
    b"\xff\xd8\xff": ("image/jpeg", ".jpg"),
    b"RIFF": ("image/webp", ".webp"),
}
_NAME = re.compile(r"[A-Za-z0-9_-]{16,64}(\.png|\.jpg|\.webp)?")


class TicketInvalid(UserError):
    """The ticket was used, is too old, or never was."""


@dataclass(frozen=True)
class Upload:
    """A picture that was uploaded; `id` is its public name, with a suffix."""

    id: str
    filename: str
    content_type: str
    size: int


class Uploads:
    """The uploads of all keys."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder

    def add(self, key_id: str, data: bytes, filename: str = "") -> Upload:
        """Keep a picture. Raises InvalidImage if its first bytes are not those of one."""
        content_type, suffix = _kind(data)
        upload = Upload(secrets.token_urlsafe(24) + suffix, filename[:255], content_type, len(data))
        self._write(upload.id, data)
        row = {"key_id": key_id, "created_at": time.time(), "complete": True}
        with self._database.writing() as connection:
            connection.execute(insert(UPLOADS).values(**vars(upload), **row))
        return upload

    def ticket(self, key_id: str, filename: str, content_type: str, size: int) -> tuple[Upload, str]:
        """Promise a place for a picture; the upload as it will be, and the ticket to send it by, good once."""
        # Clients go by the file's name, and some know no better than application/octet-stream: the bytes will tell.
        suffix = next((end for kind, end in _KINDS.values() if kind == content_type), "")
        upload = Upload(secrets.token_urlsafe(24) + suffix, filename[:255], content_type, size)
        ticket = secrets.token_urlsafe(32)
        row = {"key_id": key_id, "created_at": time.time(), "ticket": ticket}
        with self._database.writing() as connection:
            connection.execute(insert(UPLOADS).values(**vars(upload), **row))
        return upload, ticket

    def owner(self, ticket: str) -> str | None:
        """The key that a ticket was given to, while it is good."""
        with self._database.reading() as connection:
            return connection.execute(
                select(U.key_id).where(U.ticket == ticket, U.created_at > time.time() - TICKET_SECONDS)
            ).scalar_one_or_none()

    def redeem(self, ticket: str, data: bytes) -> Upload:
        """Keep the picture that a ticket was given for. Raises TicketInvalid or InvalidImage."""
        content_type, _ = _kind(data)
        # The ticket is taken first, in one statement: of two that come at once, one gets it.
        with self._database.writing() as connection:
            row = connection.execute(
                update(UPLOADS)
                .where(U.ticket == ticket, U.created_at > time.time() - TICKET_SECONDS)
                .values(ticket=None, size=len(data), content_type=content_type)
                .returning(U.id, U.filename)
            ).one_or_none()
        if row is None:
            raise TicketInvalid("This upload address was used before or is too old: ask for a new one.")
        self._write(row.id, data)
        with self._database.writing() as connection:
            connection.execute(update(UPLOADS).where(U.id == row.id).values(complete=True))
        return Upload(row.id, row.filename, content_type, len(data))

    def find(self, upload_id: str) -> Upload | None:
        """A complete upload by its public name."""
        if not _NAME.fullmatch(upload_id):
            return None
        with self._database.reading() as connection:
            row = connection.execute(
                select(U.id, U.filename, U.content_type, U.size).where(U.id == upload_id, U.complete)
            ).one_or_none()
        return Upload(*row) if row else None

    def path(self, upload_id: str) -> Path:
        """Where an upload's bytes are."""
        return self._folder / upload_id

    def sweep(self, created_before: float) -> int:
        """Remove what is older; how many."""
        with self._database.writing() as connection:
            ids = (
                connection.execute(delete(UPLOADS).where(U.created_at < created_before).returning(U.id))
                .scalars()
                .all()
            )
        self._unlink(ids)
        return len(ids)

    def _unlink(self, ids: Iterable[str]) -> None:
        for upload_id in ids:
            with contextlib.suppress(OSError):
                self.path(upload_id).unlink()

    def _write(self, upload_id: str, data: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / f".{upload_id}.part"
        try:
            with draft.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path(upload_id))
        finally:
            draft.unlink(missing_ok=True)


def _kind(data: bytes) -> tuple[str, str]:
    if len(data) > LIMIT_BYTES:
        raise InvalidImage(f"The file is too large: at most {LIMIT_BYTES / 1_000_000:g} MB are read.")
    if FIRST_BYTES.match(data):
        return next(kind for start, kind in _KINDS.items() if data.startswith(start))
    raise InvalidImage("The file is no picture that can be read: give a PNG, JPEG or WebP picture.")
