"""What the API asks of the database: submit, look up, list, cancel, delete."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, select, update

from depthwright.errors import UserError
from depthwright.prediction import Code, Fault, Prediction, Status, Submission
from depthwright.service.audit import Entry
from depthwright.service.database import Database, count, count_each, counted
from depthwright.service.deliveries import announce, owe
from depthwright.service.tables import DELIVERIES, OPEN, PREDICTIONS

P = PREDICTIONS.c
# A submission's columns; what it was refused for is told by others.
_SUBMITTED = [field.name for field in fields(Submission) if field.name not in ("refused", "prompt")]
_STORED = [P[field.name] for field in fields(Prediction) if field.name != "position"]
# Built once: the library takes longer to put such statements together than SQLite does to run them.
_INSERT = insert(PREDICTIONS)
_ONE = select(*_STORED, P.seq).where(P.id == bindparam("id"))
_MINE = _ONE.where(P.key_id == bindparam("key_id"))
_WAITING = select(func.count()).where(OPEN, P.status == Status.CREATED)
_AHEAD = select(func.count()).where(OPEN, P.status == Status.CREATED, P.seq <= bindparam("seq"))
_LISTS = ("outputs", "nsfw", "fidelity", "warnings", "loras")
# The counter of how many predictions each key has: counting a million rows for a list takes too long.
STORED = "stored"
CANCELLED = Fault(Code.TASK_FAILED, "The prediction was cancelled.")


class IdempotencyConflict(UserError):
    """The idempotency key was used before, for another request."""


class TooManyOpen(UserError):
    """The key has as many predictions waiting or running as it may."""


@dataclass(frozen=True)
class Query:
    """Which predictions to list; None does not narrow."""

    page: int = 1
    page_size: int = 20
    model: str | None = None
    status: Status | None = None
    created_after: float | None = None
    created_before: float | None = None


class Store:
    """The predictions of all keys; every look-up names the key, so that one never sees another's."""

    def __init__(self, database: Database, most_open: int = 0) -> None:
        self.database = database
        self._most_open = most_open

    def insert(self, connection: Connection, submission: Submission) -> tuple[str, bool]:
        """Put a submission into the queue within a transaction; its id, and whether it is new.

        The same idempotency key with the same request gives the first one's id. Raises IdempotencyConflict or
        TooManyOpen.
        """
        if submission.idempotency_key is not None:
            known = connection.execute(
                select(P.id, P.digest).where(
                    P.key_id == submission.key_id, P.idempotency_key == submission.idempotency_key
                )
            ).one_or_none()
            if known is not None:
                if known.digest != submission.digest:
                    raise IdempotencyConflict(
                        "This Idempotency-Key was used for another request: send the same request, or a new key."
                    )
                return known.id, False
        if self._most_open and self._open(connection, submission.key_id) >= self._most_open:
            raise TooManyOpen(
                f"{self._most_open} predictions of this key are waiting or running, as many as it may have at "
                "once: wait for one to end, or cancel one."
            )
        row = {name: getattr(submission, name) for name in _SUBMITTED}
        row |= {"warnings": list(submission.warnings), "status": submission.status}
        if submission.refused is None:
            connection.execute(_INSERT, row)
        else:
            self._insert_refused(connection, row, submission, submission.refused)
        count_each(connection, {("submissions", ""): 1, (STORED, submission.key_id): 1})
        return submission.id, True

    def _insert_refused(
        self, connection: Connection, row: dict[str, Any], submission: Submission, fault: Fault
    ) -> None:
        """It has ended before it began: with its webhook, and a line in the audit log."""
        told = {"finished_at": time.time(), "error": fault.message, "code": int(fault.code)}
        connection.execute(_INSERT, row | told)
        count_each(connection, {("finished", Status.FAILED): 1, ("refusals", fault.category): 1})
        self.database.audit.record(
            connection,
            Entry(submission.key_id, submission.id, "prompt", fault.category, "refused", submission.prompt),
        )
        owe(connection, submission.id, submission.key_id, submission.webhook_url)

    def get(self, prediction_id: str, key_id: str | None = None) -> Prediction | None:
        """One prediction with its place in the queue; None if there is none, or it belongs to another key."""
        with self.database.reading() as connection:
            which = {"id": prediction_id} if key_id is None else {"id": prediction_id, "key_id": key_id}
            row = connection.execute(_ONE if key_id is None else _MINE, which).one_or_none()
            if row is None:
                return None
            position = 0
            if row.status == Status.CREATED:
                position = connection.execute(_AHEAD, {"seq": row.seq}).scalar_one()
        return as_prediction(row, position)

    def page(self, key_id: str, query: Query) -> tuple[int, list[Prediction]]:
        """How many there are, and one page of them, newest first."""
        wanted = [P.key_id == key_id]
        narrowed = replace(query, page=1, page_size=20) != Query()
        if query.model is not None:
            wanted.append(P.model == query.model)
        if query.status is not None:
            wanted.append(P.status == query.status)
        if query.created_after is not None:
            wanted.append(P.created_at >= query.created_after)
        if query.created_before is not None:
            wanted.append(P.created_at <= query.created_before)
        with self.database.reading() as connection:
            if narrowed:
                total = connection.execute(select(func.count()).where(*wanted)).scalar_one()
            else:
                total = counted(connection, STORED, key_id)
            rows = connection.execute(
                select(*_STORED)
                .where(*wanted)
                .order_by(P.seq.desc())
                .offset((query.page - 1) * query.page_size)
                .limit(query.page_size)
            ).all()
        return total, [as_prediction(row) for row in rows]

    def cancel(self, prediction_id: str, key_id: str) -> bool:
        """Cancel what waits at once, what runs at its next step; False if there is no such prediction."""
        with self.database.writing() as connection:
            mine = and_(P.id == prediction_id, P.key_id == key_id)
            waiting = connection.execute(
                update(PREDICTIONS).where(mine, P.status == Status.CREATED).values(**cancelled())
            )
            if waiting.rowcount:
                count(connection, "finished", Status.CANCELLED)
                announce(connection, prediction_id)
                return True
            connection.execute(
                update(PREDICTIONS).where(mine, P.status == Status.PROCESSING).values(cancel_requested=True)
            )
            return connection.execute(select(P.id).where(mine)).one_or_none() is not None

    def delete(self, ids: Iterable[str], key_id: str) -> list[str]:
        """Forget these predictions, whatever their state; the ids that were there. A worker's later writes miss."""
        gone: list[str] = []
        with self.database.writing() as connection:
            for prediction_id in dict.fromkeys(ids):
                mine = and_(P.id == prediction_id, P.key_id == key_id)
                if connection.execute(delete(PREDICTIONS).where(mine)).rowcount:
                    connection.execute(delete(DELIVERIES).where(DELIVERIES.c.prediction_id == prediction_id))
                    gone.append(prediction_id)
            count(connection, STORED, key_id, -len(gone))
        return gone

    def want_preview(self, prediction_id: str) -> None:
        """Ask the worker for previews: somebody is watching."""
        with self.database.writing() as connection:
            connection.execute(
                update(PREDICTIONS).where(P.id == prediction_id, OPEN).values(preview_wanted=True)
            )

    def preview(self, prediction_id: str) -> bytes | None:
        """The newest preview, a small JPEG."""
        with self.database.reading() as connection:
            return connection.execute(select(P.preview).where(P.id == prediction_id)).scalar_one_or_none()

    def publishes(self, prediction_id: str, path: str) -> bool:
        """Whether this file is an output or the depth map of a prediction that is there."""
        prediction = self.get(prediction_id)
        return prediction is not None and path in {*prediction.outputs, prediction.control}

    @staticmethod
    def waiting(connection: Connection) -> int:
        """How many predictions wait."""
        return connection.execute(_WAITING).scalar_one()

    @staticmethod
    def _open(connection: Connection, key_id: str) -> int:
        return connection.execute(select(func.count()).where(P.key_id == key_id, OPEN)).scalar_one()


def cancelled() -> Mapping[str, Any]:
    """The values of a prediction that is cancelled now."""
    return {
        "status": Status.CANCELLED,
        "finished_at": time.time(),
        "error": CANCELLED.message,
        "code": CANCELLED.code,
        "owner": None,
        "preview": None,
    }


def as_prediction(row: Any, position: int = 0) -> Prediction:
    """A row as a prediction."""
    values = {column.name: getattr(row, column.name) for column in _STORED}
    values |= {name: tuple(values[name]) for name in _LISTS}
    return Prediction(**values | {"status": Status(values["status"]), "position": position})
