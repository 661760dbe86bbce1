"""Who is alive: workers are judged by their beats on this process's own clock, which no change of date can move."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import OperationalError

from depthwright.service.database import Database
from depthwright.service.queue_sqlite import orphans, take_back, workers

READY = "ready"
log = structlog.get_logger()


@dataclass
class _Seen:
    state: str
    beat: int
    at: float


class Reaper:
    """Watches the workers' beats, and takes back what the dead ones held. Call `look` a few times in each lease."""

    def __init__(
        self, database: Database, lease_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._lease = lease_seconds
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._looked = clock()

    def look(self) -> int:
        """One look at all workers; how many predictions went back into the queue.

        Where nobody could beat, nobody is judged: after a database that was not to be used, or a sleep of this
        process, every lease begins anew.
        """
        now = self._clock()
        if now - self._looked > self._lease:
            self._seen = {}
        self._looked = now
        try:
            return self._look(now)
        except OperationalError:
            self._seen = {}
            raise

    def _look(self, now: float) -> int:
        taken = 0
        found = workers(self._database)
        # 1. Whoever beat since the last look lives.
        for worker, (state, beat) in found.items():
            known = self._seen.get(worker)
            if known is None or known.beat != beat:
                self._seen[worker] = _Seen(state, beat, now)
            else:
                known.state = state
        self._seen = {worker: seen for worker, seen in self._seen.items() if worker in found}
        # 2. Whoever did not for a whole lease is dead, unless it beats before the transaction does.
        for worker, seen in list(self._seen.items()):
            if now - seen.at > self._lease:
                log.warning("worker lost", worker=worker)
                taken += take_back(self._database, worker, seen.beat)
                del self._seen[worker]
        # 3. What belongs to nobody goes back as well.
        for worker in orphans(self._database):
            taken += take_back(self._database, worker)
        return taken

    def ready(self) -> list[str]:
        """The workers that live and have made a picture."""
        now = self._clock()
        return [
            worker
            for worker, seen in list(self._seen.items())  # another thread looks meanwhile
            if seen.state == READY and now - seen.at <= self._lease
        ]
