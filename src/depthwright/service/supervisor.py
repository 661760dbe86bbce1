"""Keeps worker processes alive: starts them, starts them again with back-off, hands back what a dead one held."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Mapping, Sequence

import structlog

from depthwright.service.database import Database, count
from depthwright.service.queue_sqlite import take_back

_SHORTEST, _LONGEST = 0.5, 30.0
_WELL_AFTER = 60.0  # a worker that lived so long starts with no back-off
_GRACE_SECONDS = 20.0
log = structlog.get_logger()


class Supervisor:
    """A process of one command for each environment.

    A worker's standard input is its lifeline: when it ends, the worker stops.
    """

    def __init__(
        self, database: Database, command: Sequence[str], environments: Sequence[Mapping[str, str]]
    ) -> None:
        self._database = database
        self._command = command
        self._environments = environments
        self._stopping = asyncio.Event()
        self._slots: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start all workers."""
        self._slots = [asyncio.create_task(self._keep(slot)) for slot in range(len(self._environments))]

    async def stop(self) -> None:
        """End all workers: each hands back what it holds, or is killed after a while."""
        self._stopping.set()
        await asyncio.gather(*self._slots)

    async def _keep(self, slot: int) -> None:
        pause = _SHORTEST
        while not self._stopping.is_set():
            started = time.monotonic()
            worker = f"worker-{slot}-{secrets.token_hex(4)}"
            try:
                await self._live(worker, self._environments[slot])
            except Exception:  # the boundary: no memory or a full disk now, and the next worker comes
                log.exception("worker not seen to its end", worker=worker)
            if self._stopping.is_set():
                return
            pause = _SHORTEST if time.monotonic() - started > _WELL_AFTER else min(_LONGEST, pause * 2)
            log.info("another worker comes", again_in=pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()

    async def _live(self, worker: str, environment: Mapping[str, str]) -> None:
        """One worker's life, from its start until what it held is back in the queue."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            "--id",
            worker,
            "--attached",
            stdin=asyncio.subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,
        )
        code = await self._ended(process)
        # Whatever it held goes back at once; a worker that left by itself holds nothing. Should the database not take
        # this now, the reaper does it.
        taken = await asyncio.to_thread(take_back, self._database, worker)
        if not self._stopping.is_set():
            log.error("worker died", worker=worker, exit_code=code, handed_back=taken)
            await asyncio.to_thread(self._count)

    async def _ended(self, process: asyncio.subprocess.Process) -> int:
        """Wait for the process; once all is to stop, no longer than the grace."""
        assert process.stdin is not None
        ended = asyncio.create_task(process.wait())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        process.stdin.close()
        if (await asyncio.wait({ended}, timeout=_GRACE_SECONDS))[0]:
            return await ended
        process.kill()
        return await ended

    def _count(self) -> None:
        with self._database.writing() as connection:
            count(connection, "worker_restarts")
