"""The queue on SQLite: what a worker may do with a prediction, every write behind the fence of its attempt."""

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from depthwright.prediction import STRIKES, WORKER_LOST, Claim, Fault, Lost, Outcome, Status, Work
from depthwright.result import IMAGE, OFF_BY_REQUEST
from depthwright.service.audit import Decision, Entry, Subject
from depthwright.service.database import Database, count, count_each
from depthwright.service.deliveries import announce, owe
from depthwright.service.store import cancelled
from depthwright.service.tables import OPEN, PREDICTIONS, WORKERS

P, W = PREDICTIONS.c, WORKERS.c
# What each prediction waits for is put together once: the library takes longer for that than SQLite to do it.
_OLDEST = select(P.seq).where(OPEN, P.status == Status.CREATED).order_by(P.seq).limit(1)
_CLAIM = (
    update(PREDICTIONS)
    .where(P.seq == _OLDEST.scalar_subquery(), exists().where(W.id == bindparam("worker")))
    .values(
        status=Status.PROCESSING,
        attempt=P.attempt + 1,
        owner=bindparam("worker"),
        started_at=case((P.source.is_(None), bindparam("now"))),
        progress={},
        preview=None,
    )
    .returning(P.id, P.attempt, P.input, P.seed, P.source, P.created_at, P.started_at, P.warnings)
)

_HELD = and_(
    P.id == bindparam("held"),
    P.attempt == bindparam("held_attempt"),
    P.status == Status.PROCESSING,
    P.owner == bindparam("holder"),
)
_WRITE = update(PREDICTIONS).where(_HELD)
_END, _FINISH, _CANCEL = (
    each.returning(P.key_id, P.webhook_url)
    for each in (_WRITE, _WRITE.where(~P.cancel_requested), _WRITE.where(P.cancel_requested))
)
_WISHES = select(P.cancel_requested, P.preview_wanted).where(_HELD)


class Queue:
    """The waiting predictions, as one worker sees them."""

    def __init__(self, database: Database, worker: str) -> None:
        self._database = database
        self._worker = worker

    # --- the worker itself

    def register(self, state: str, model_version: str = "", image_checker: str = "") -> None:
        """Appear among the workers, or tell a new state."""
        with self._database.writing(durable=False) as connection:
            told = {"state": state, "model_version": model_version, "image_checker": image_checker}
            known = connection.execute(update(WORKERS).where(W.id == self._worker).values(**told))
            if not known.rowcount:
                row = {"id": self._worker, "started_at": time.time(), **told}
                connection.execute(insert(WORKERS).values(**row))

    def beat(self) -> bool:
        """Tell that this worker lives; False if it was taken for dead and its predictions went elsewhere."""
        with self._database.writing(durable=False) as connection:
            beaten = connection.execute(update(WORKERS).where(W.id == self._worker).values(beat=W.beat + 1))
            return bool(beaten.rowcount)

    def leave(self) -> None:
        """Hand back every prediction that this worker holds, none of them at fault, and disappear."""
        with self._database.writing() as connection:
            _hand_back(connection, and_(OPEN, P.owner == self._worker, P.status == Status.PROCESSING))
            connection.execute(WORKERS.delete().where(W.id == self._worker))

    # --- its predictions

    def claim(self, *, idle: bool = False) -> Work | None:
        """Take the oldest prediction that waits; None if none does. From here on its attempt is the fence.

        An idle worker's model begins at once with what needs no control image: that is `start` in the same write.
        A worker that was taken for dead gets none before it appears again: nobody would see it die.
        """
        now = time.time()
        with self._database.writing(durable=False) as connection:
            told = {"worker": self._worker, "now": now if idle else None}
            row = connection.execute(_CLAIM, told).one_or_none()
        if row is None:
            return None
        waited = max(0.0, now - row.created_at)
        claim = Claim(row.id, row.attempt)
        started = row.started_at is not None
        return Work(claim, row.input, row.seed, row.source, waited, started, tuple(row.warnings))

    def any_waiting(self) -> bool:
        """Whether a claim would find something."""
        with self._database.reading() as connection:
            waiting = select(P.seq).where(OPEN, P.status == Status.CREATED).limit(1)
            return connection.execute(waiting).one_or_none() is not None

    def start(self, claim: Claim) -> None:
        """The model begins with it: from here on a death of the worker is held against it. Raises Lost."""
        with self._database.writing(durable=False) as connection:
            self._write(connection, claim, started_at=time.time())

    def progress(self, claim: Claim, progress: Mapping[str, Any], preview: bytes | None = None) -> None:
        """Tell how far it is. Raises Lost."""
        values: dict[str, Any] = {"progress": progress}
        with self._database.writing(durable=False) as connection:
            self._write(connection, claim, **values | ({"preview": preview} if preview else {}))

    def wishes(self, claim: Claim) -> tuple[bool, bool]:
        """Whether its owner wants it cancelled, and wants previews. Raises Lost."""
        with self._database.reading() as connection:
            row = connection.execute(_WISHES, self._fence(claim)).one_or_none()
        if row is None:
            raise Lost
        return row.cancel_requested, row.preview_wanted

    def finish(self, claim: Claim, outcome: Outcome) -> bool:
        """Publish what was made; False if the fence, or a wish to cancel, stands before it: then nothing changed."""
        values: dict[str, Any] = {
            "status": Status.COMPLETED,
            "outputs": list(outcome.outputs),
            "control": outcome.control,
            "nsfw": list(outcome.nsfw),
            "fidelity": [dict(each) for each in outcome.fidelity],
            "timings": dict(outcome.timings),
            "model_version": outcome.model_version,
            "acceleration": dict(outcome.acceleration),
            "loras": [dict(each) for each in outcome.loras],
            "safety": dict(outcome.safety),
            "warnings": list(outcome.warnings),
            "progress": {},
        }
        with self._database.writing() as connection:
            seconds = {stage: milliseconds / 1000 for stage, milliseconds in outcome.timings.items()}
            finished = self._end(connection, claim, values, _FINISH, seconds)
            if finished and (decision := self._decision(outcome)):
                self._note(connection, claim, IMAGE, decision, sum(outcome.nsfw), outcome.pixels)
            return finished

    def fail(self, claim: Claim, fault: Fault) -> bool:
        """End it with a fault; False if it is no longer this worker's."""
        with self._database.writing() as connection:
            values: dict[str, Any] = {
                "status": Status.FAILED,
                "error": fault.message,
                "code": int(fault.code),
            }
            if fault.category:
                values["safety"] = {"refused": fault.category}
            failed = self._end(connection, claim, values)
            if failed and fault.category:
                self._note(connection, claim, fault.category, "refused", 1)
            return failed

    def cancelled(self, claim: Claim) -> bool:
        """End it as its owner wished; False if it is no longer this worker's."""
        with self._database.writing() as connection:
            return self._end(connection, claim, cancelled(), _CANCEL)

    def release(self, claim: Claim) -> None:
        """Hand it back, first in the queue, with no fault of its own."""
        with self._database.writing() as connection:
            held = and_(P.id == claim.id, P.attempt == claim.attempt, P.owner == self._worker)
            _hand_back(connection, and_(held, P.status == Status.PROCESSING))

    def _decision(self, outcome: Outcome) -> Decision | None:
        """What the audit log says of finished pictures, if anything."""
        if any(outcome.nsfw):
            return "blacked"
        if outcome.safety.get("image_checker") == OFF_BY_REQUEST:
            return "unchecked"
        return "made" if self._database.audit.keep_pictures else None

    def _note(
        self,
        connection: Connection,
        claim: Claim,
        category: str,
        decision: Decision,
        refusals: int,
        pixels: tuple[str, ...] = (),
    ) -> None:
        """Into the audit log, and into the count of refusals as many as there were."""
        row = connection.execute(select(P.key_id, P.input).where(P.id == claim.id)).one()
        subject: Subject = "image" if category == IMAGE else "prompt"
        prompt = row.input["prompt"]
        self._database.audit.record(
            connection, Entry(row.key_id, claim.id, subject, category, decision, prompt, pixels)
        )
        if refusals:
            count(connection, "refusals", category, refusals)
        if subject == "prompt":  # what is refused is not kept, whoever refused it
            kept = {"input": {**row.input, "prompt": ""}, "digest": ""}
            connection.execute(update(PREDICTIONS).where(P.id == claim.id).values(**kept))

    def _fence(self, claim: Claim) -> dict[str, Any]:
        return {"held": claim.id, "held_attempt": claim.attempt, "holder": self._worker}

    def _write(self, connection: Connection, claim: Claim, **values: Any) -> None:
        if not connection.execute(_WRITE, self._fence(claim) | values).rowcount:
            raise Lost

    def _end(
        self,
        connection: Connection,
        claim: Claim,
        values: Mapping[str, Any],
        how: ReturningUpdate[Any] = _END,
        seconds: Mapping[str, float] = MappingProxyType({}),
    ) -> bool:
        told = {"finished_at": time.time(), "owner": None, "preview": None, **values, **self._fence(claim)}
        ended = connection.execute(how, told).one_or_none()
        if ended is None:
            if connection.execute(_WISHES, self._fence(claim)).one_or_none() is None:
                count(connection, "stale_writes")
            return False
        stages = {("stage_seconds", stage): value for stage, value in seconds.items()}
        count_each(connection, {("finished", values["status"]): 1} | stages)
        owe(connection, claim.id, *ended)
        return True


def take_back(database: Database, worker: str, beat: int | None = None) -> int:
    """Put the predictions of a dead worker back into the queue, or fail those that killed too many; how many.

    With `beat`, only if the worker has not beaten since. What the model was working on gets a strike; if it was
    working on nothing, everything that was being prepared does.
    """
    with database.writing() as connection:
        if beat is not None:
            same = select(W.id).where(W.id == worker, W.beat == beat)
            if connection.execute(same).one_or_none() is None:
                return 0
        held = and_(OPEN, P.owner == worker, P.status == Status.PROCESSING)
        rows = connection.execute(select(P.id, P.strikes, P.started_at, P.cancel_requested).where(held)).all()
        rendering = any(row.started_at is not None for row in rows)
        for row in rows:
            strikes = row.strikes + (row.started_at is not None or not rendering)
            if row.cancel_requested:
                values: Mapping[str, Any] = cancelled()
            elif strikes >= STRIKES:
                values = _failed(WORKER_LOST)
            else:
                values = _WAITING
            connection.execute(update(PREDICTIONS).where(P.id == row.id).values(**values, strikes=strikes))
            if values is not _WAITING:
                count(connection, "finished", values["status"])
                announce(connection, row.id)
        known = connection.execute(WORKERS.delete().where(W.id == worker)).rowcount
        if known or rows:  # one that left by itself did not die
            count(connection, "worker_deaths")
        return len(rows)


def orphans(database: Database) -> list[str]:
    """Workers that hold predictions without being among the workers."""
    with database.reading() as connection:
        rows = connection.execute(
            select(P.owner)
            .where(OPEN, P.status == Status.PROCESSING, or_(P.owner.is_(None), P.owner.not_in(select(W.id))))
            .distinct()
        )
        return [row.owner for row in rows if row.owner is not None]


def workers(database: Database) -> dict[str, tuple[str, int]]:
    """State and beat of every worker."""
    with database.reading() as connection:
        return {row.id: (row.state, row.beat) for row in connection.execute(select(W.id, W.state, W.beat))}


def image_checkers(database: Database) -> list[str]:
    """Who looks at the pictures of the workers that are there."""
    with database.reading() as connection:
        named = select(W.image_checker).where(W.image_checker != "").distinct().order_by(W.image_checker)
        return list(connection.execute(named).scalars())


def waiting(database: Database) -> tuple[int, float]:
    """How many predictions wait, and since when the oldest does, in seconds."""
    with database.reading() as connection:
        number, oldest = connection.execute(
            select(func.count(), func.min(P.created_at)).where(OPEN, P.status == Status.CREATED)
        ).one()
    return number, max(0.0, time.time() - oldest) if number else 0.0


def _hand_back(connection: Connection, which: ColumnElement[bool]) -> None:
    """Back into the queue, or to their end where their owner wishes that."""
    ended = connection.execute(
        update(PREDICTIONS).where(which, P.cancel_requested).values(**cancelled()).returning(P.id)
    ).scalars()
    for prediction_id in ended.all():
        count(connection, "finished", Status.CANCELLED)
        announce(connection, prediction_id)
    connection.execute(update(PREDICTIONS).where(which).values(**_WAITING))


def _failed(fault: Fault) -> Mapping[str, Any]:
    return {
        "status": Status.FAILED,
        "finished_at": time.time(),
        "error": fault.message,
        "code": int(fault.code),
        "owner": None,
        "preview": None,
    }


_WAITING: Mapping[str, Any] = {
    "status": Status.CREATED,
    "owner": None,
    "started_at": None,
    "progress": {},
    "preview": None,
}
