"""Submissions reach the disk in groups: many requests share one commit, and each is answered after it."""

import contextlib
import queue
import threading
from concurrent.futures import Future
from typing import NamedTuple

import structlog
from sqlalchemy.exc import OperationalError

from depthwright.errors import UserError
from depthwright.prediction import Submission
from depthwright.service.store import Store

_MOST_AT_ONCE = 256
log = structlog.get_logger()


class Accepted(NamedTuple):
    """A submission that is safe on disk; `position` is its place in the queue as it came, 0 for one that is not new."""

    id: str
    is_new: bool
    position: int = 0


class _Waiting(NamedTuple):
    submission: Submission
    answer: "Future[Accepted]"


class Submissions:
    """The one thread that inserts. While one commit waits for the disk, the next group gathers."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="submissions", daemon=True)
        self._thread.start()

    def submit(self, submission: Submission) -> "Future[Accepted]":
        """Queue a submission. The future is done after the commit; it raises as `Store.insert` does."""
        answer: Future[Accepted] = Future()
        self._waiting.put(_Waiting(submission, answer))
        return answer

    def close(self) -> None:
        """Commit what waits, then stop."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            group = [first]
            with contextlib.suppress(queue.Empty):
                while len(group) < _MOST_AT_ONCE:
                    following = self._waiting.get_nowait()
                    if following is None:
                        self._waiting.put(None)
                        break
                    group.append(following)
            # Whoever went away while waiting is passed over; from here on nobody can go away.
            self._commit([each for each in group if each.answer.set_running_or_notify_cancel()])

    def _commit(self, group: list[_Waiting]) -> None:
        outcomes: list[Accepted | Exception]
        try:
            outcomes = self._inserted(group)
        except OperationalError as error:  # a full disk, or a lock that lasts, is the same for all of them
            outcomes = [error] * len(group)
        except Exception as error:  # the boundary: what cannot be stored must not end the thread
            log.exception("not stored", submissions=len(group))
            if len(group) > 1:
                for waiting in group:
                    self._commit([waiting])
                return
            outcomes = [error]
        # Only now is anything promised.
        for waiting, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Exception):
                waiting.answer.set_exception(outcome)
            else:
                waiting.answer.set_result(outcome)

    def _inserted(self, group: list[_Waiting]) -> list[Accepted | Exception]:
        """What became of each, once one transaction with all of them is committed."""
        outcomes: list[Accepted | Exception] = []
        with self._store.database.writing() as connection:
            position = self._store.waiting(connection)
            for waiting in group:
                # A refusal comes before any write of its own, so the transaction of the others goes on.
                try:
                    prediction_id, is_new = self._store.insert(connection, waiting.submission)
                except UserError as refusal:
                    outcomes.append(refusal)
                    continue
                position += is_new
                outcomes.append(Accepted(prediction_id, is_new, position if is_new else 0))
        return outcomes
