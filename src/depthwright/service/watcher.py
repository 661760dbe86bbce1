"""Wakes whoever waits for a change in the database, in this process or another."""

import asyncio
import contextlib

from depthwright.service.database import Database


class Watcher:
    """One look at the database's version serves all who wait.

    Take a `mark`, read, then wait `after` the mark: no change between reading and waiting is missed.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._change = asyncio.Event()

    async def run(self) -> None:
        """Watch until cancelled."""
        changes = self._database.changes()
        try:
            while True:
                if changes.any():
                    past, self._change = self._change, asyncio.Event()
                    past.set()
                await changes.news()
        finally:
            changes.close()

    def mark(self) -> asyncio.Event:
        """This moment."""
        return self._change

    async def after(self, mark: asyncio.Event, seconds: float) -> bool:
        """Wait for a change after the mark, for so long at most; whether there was one."""
        with contextlib.suppress(TimeoutError):
            # Not wait_for: before Python 3.12 it swallows a cancellation that comes together with the event.
            async with asyncio.timeout(seconds):
                await mark.wait()
        return mark.is_set()
