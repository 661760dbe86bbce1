"""Any interleaving of clients, workers, deaths and late writes: one end, one output set, nothing lost."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select

from depthwright.prediction import MOVES, STRIKES, Claim, Code, Fault, Lost, Outcome, Status, Submission
from depthwright.service.database import Database
from depthwright.service.health import Reaper
from depthwright.service.queue_sqlite import Queue, take_back
from depthwright.service.store import Store
from depthwright.service.tables import DELIVERIES, PREDICTIONS, WORKERS

WORKERS_NAMED = ("a", "b")
LEASE = 10.0
FAULT = Fault(Code.TASK_FAILED, "no")


def submission(number: int) -> Submission:
    return Submission(
        id=f"p{number}",
        key_id="key",
        model="m",
        input={},
        seed=number,
        created_at=float(number),
        webhook_url="https://example.org/hook" if number % 2 else None,
    )


def outcome(claim: Claim) -> Outcome:
    return Outcome((f"{claim.id}/{claim.attempt}/x.png",), "c", (), (), {"inference": 1}, "v")


class Interleavings(RuleBasedStateMachine):
    """The model: the last status seen of each prediction, what ended it, and which claims are good."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.database = Database(Path(self.folder.name) / "d.sqlite3")
        self.database.migrate()
        self.store = Store(self.database)
        self.queues = {name: Queue(self.database, name) for name in WORKERS_NAMED}
        self.now = 0.0
        self.reaper = Reaper(self.database, LEASE, clock=lambda: self.now)
        self.submitted: list[str] = []
        self.deleted: set[str] = set()
        self.claims: list[tuple[str, Claim]] = []
        self.last: dict[str, tuple[Status, int]] = {}
        self.published: dict[str, Claim] = {}
        self.alive: set[str] = set()

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()
            self.folder.cleanup()

    # --- what clients do

    @rule()
    def submit(self) -> None:
        new = submission(len(self.submitted))
        with self.database.writing() as connection:
            assert self.store.insert(connection, new) == (new.id, True)
        self.submitted.append(new.id)

    @precondition(lambda self: self.submitted)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(self.submitted))
        assert self.store.cancel(chosen, "key") == (chosen not in self.deleted)

    @precondition(lambda self: len(self.submitted) > 3)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(self.submitted))
        assert self.store.delete([chosen], "someone else") == []
        assert self.store.delete([chosen], "key") == ([] if chosen in self.deleted else [chosen])
        self.deleted.add(chosen)

    # --- what workers do

    @rule(worker=st.sampled_from(WORKERS_NAMED))
    def claim(self, worker: str) -> None:
        if worker not in self.alive:
            self.queues[worker].register("ready")
            self.alive.add(worker)
        waiting = [
            each
            for each in self.submitted
            if each not in self.deleted and self.status(each) is Status.CREATED
        ]
        work = self.queues[worker].claim()
        assert (work.claim.id if work else None) == (waiting[0] if waiting else None)
        if work:
            self.claims.append((worker, work.claim))

    @precondition(lambda self: self.claims)
    @rule(
        data=st.data(), what=st.sampled_from(("start", "progress", "finish", "fail", "cancelled", "release"))
    )
    def write(self, data: st.DataObject, what: str) -> None:
        """By any claim that ever was: most of them are stale."""
        worker, claim = data.draw(st.sampled_from(self.claims))
        queue, held = self.queues[worker], self.holds(worker, claim)
        row = self.store.get(claim.id)
        try:
            match what:
                case "start":
                    queue.start(claim)
                case "progress":
                    queue.progress(claim, {"step": 1})
                case "finish":
                    done = queue.finish(claim, outcome(claim))
                    assert done == (held and row is not None and not row.cancel_requested)
                    if done:
                        assert claim.id not in self.published
                        self.published[claim.id] = claim
                    return
                case "fail":
                    assert queue.fail(claim, FAULT) == held
                    return
                case "cancelled":
                    assert queue.cancelled(claim) == (held and row is not None and row.cancel_requested)
                    return
                case "release":
                    queue.release(claim)
                    return
            assert held
        except Lost:
            assert not held

    @rule(worker=st.sampled_from(WORKERS_NAMED))
    def leave(self, worker: str) -> None:
        self.queues[worker].leave()
        self.alive.discard(worker)

    # --- what befalls them

    @rule(worker=st.sampled_from(WORKERS_NAMED))
    def die(self, worker: str) -> None:
        take_back(self.database, worker)
        self.alive.discard(worker)

    @rule(beating=st.sets(st.sampled_from(WORKERS_NAMED)), seconds=st.sampled_from((1.0, 6.0, 11.0)))
    def time_passes(self, beating: set[str], seconds: float) -> None:
        self.reaper.look()
        self.now += seconds
        for worker in beating:
            assert self.queues[worker].beat() == (worker in self.known())
        self.reaper.look()
        assert beating & self.alive <= self.known(), "whoever beats lives"
        self.alive &= self.known()

    # --- what always holds

    @invariant()
    def moves_are_legal_and_ends_are_final(self) -> None:
        for each in getattr(self, "submitted", ()):
            found = self.store.get(each)
            assert (found is None) == (each in self.deleted)
            if found is None:
                continue
            before, attempt = self.last.get(each, (Status.CREATED, 0))
            # Several moves fit between two looks only where a worker's death gives back what another then claims.
            assert found.status is before or found.status in MOVES[before], (before, found.status)
            assert found.attempt >= attempt
            self.last[each] = (found.status, found.attempt)

    @invariant()
    def pictures_belong_to_the_attempt_that_held_the_fence(self) -> None:
        for each in getattr(self, "submitted", ()):
            found = self.store.get(each)
            if found is None:
                continue
            assert (found.status is Status.COMPLETED) == (each in self.published)
            assert found.outputs == (outcome(self.published[each]).outputs if each in self.published else ())
            assert (found.error != "") == (found.status in (Status.FAILED, Status.CANCELLED))

    @invariant()
    def every_end_owes_one_webhook(self) -> None:
        if not getattr(self, "submitted", ()):
            return
        with self.database.reading() as connection:
            owed = connection.execute(select(DELIVERIES.c.prediction_id)).scalars().all()
            rows = connection.execute(
                select(PREDICTIONS.c.id, PREDICTIONS.c.status).where(PREDICTIONS.c.webhook_url.is_not(None))
            ).all()
        assert sorted(owed) == sorted(row.id for row in rows if Status(row.status).is_terminal)

    @invariant()
    def nobody_is_struck_more_than_the_limit(self) -> None:
        if not getattr(self, "submitted", ()):
            return
        with self.database.reading() as connection:
            rows = connection.execute(select(PREDICTIONS.c.strikes, PREDICTIONS.c.status)).all()
        assert all(row.strikes < STRIKES or Status(row.status).is_terminal for row in rows)

    # --- how the model knows

    def status(self, prediction_id: str) -> Status:
        found = self.store.get(prediction_id)
        assert found is not None
        return found.status

    def holds(self, worker: str, claim: Claim) -> bool:
        with self.database.reading() as connection:
            row = connection.execute(
                select(PREDICTIONS.c.owner, PREDICTIONS.c.attempt, PREDICTIONS.c.status).where(
                    PREDICTIONS.c.id == claim.id
                )
            ).one_or_none()
        return row is not None and tuple(row) == (worker, claim.attempt, Status.PROCESSING)

    def known(self) -> set[str]:
        with self.database.reading() as connection:
            return set(connection.execute(select(WORKERS.c.id)).scalars())


Interleavings.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestInterleavings = Interleavings.TestCase


def test_the_same_idempotency_key_gives_the_first_prediction_and_another_request_is_refused(
    tmp_path: Path,
) -> None:
    from depthwright.service.store import IdempotencyConflict

    database = Database(tmp_path / "d.sqlite3")
    database.migrate()
    store = Store(database)
    first = replace(submission(1), idempotency_key="k", digest="one")
    with database.writing() as connection:
        assert store.insert(connection, first) == ("p1", True)
        assert store.insert(connection, replace(first, id="p2")) == ("p1", False)
        try:
            store.insert(connection, replace(first, id="p3", digest="two"))
        except IdempotencyConflict:
            pass
        else:
            raise AssertionError("another request was taken for the same")
    database.close()


def test_of_ten_workers_that_claim_at_once_one_gets_the_prediction(tmp_path: Path) -> None:
    database = Database(tmp_path / "d.sqlite3")
    database.migrate()
    with database.writing() as connection:
        Store(database).insert(connection, submission(1))
    queues = [Queue(database, f"w{number}") for number in range(10)]
    for queue in queues:
        queue.register("ready")
    together = Barrier(len(queues))

    def claimed(queue: Queue) -> Claim | None:
        together.wait()
        work = queue.claim()
        return work.claim if work else None

    with ThreadPoolExecutor(len(queues)) as pool:
        claims = [claim for claim in pool.map(claimed, queues) if claim]
    assert claims == [Claim("p1", 1)]
    finished = [queue.finish(claims[0], outcome(claims[0])) for queue in queues]
    assert sum(finished) == 1, "only the worker that holds it may finish it, and once"
    with database.reading() as connection:
        assert len(connection.execute(select(DELIVERIES.c.id)).scalars().all()) == 1
    database.close()
