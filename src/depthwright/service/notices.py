"""News between processes: whoever waits keeps a named pipe, and each commit writes a byte into all of them.

Looking at the database every few milliseconds would find news as well, later on average, and would cost an idle
server processor time for ever. A byte is a hint and no more: it may get lost, so whoever waits looks now and then.
"""

import asyncio
import contextlib
import errno
import os
import secrets
from pathlib import Path

_SUFFIX = ".pipe"
_SELDOM, _OFTEN = 0.25, 0.005


class Notices:
    """The pipes in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def tell(self) -> None:
        """Wake whoever waits, in this process and others."""
        with contextlib.suppress(OSError):  # a hint that got lost is no harm to what was committed
            names = os.listdir(self.folder)  # noqa: PTH208 - this runs at every commit
            # Others first: whoever waits in this process takes the interpreter as soon as it is woken.
            for name in sorted(names, key=lambda name: name.startswith(f"{os.getpid()}-")):
                if name.endswith(_SUFFIX):
                    self._ring(f"{self.folder}/{name}")

    @staticmethod
    def _ring(path: str) -> None:
        try:
            pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            # Nobody reads it: its process is gone.
            with contextlib.suppress(FileNotFoundError):
                Path(path).unlink()
            return
        try:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):  # full: it will wake anyway
                os.write(pipe, b"\0")
        finally:
            os.close(pipe)


class Listener:
    """One who waits, in one event loop. Where there are no named pipes it looks often instead."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
        self._pipe = -1
        with contextlib.suppress(OSError, AttributeError):
            folder.mkdir(parents=True, exist_ok=True)
            self._pipe = _opened(self._path)

    async def wait(self, seconds: float = _SELDOM) -> None:
        """Until there may be news: a byte came, or it is time to look for oneself."""
        if self._pipe < 0:
            await asyncio.sleep(min(_OFTEN, seconds))
            return
        loop = asyncio.get_running_loop()
        came = asyncio.Event()
        loop.add_reader(self._pipe, came.set)
        try:
            async with asyncio.timeout(seconds):
                await came.wait()
            # Emptied before the caller looks: what is written from now on wakes it again.
            with contextlib.suppress(BlockingIOError):
                os.read(self._pipe, 65536)
        except TimeoutError:
            pass
        finally:
            loop.remove_reader(self._pipe)

    def wake(self) -> None:
        """End the wait, from any thread."""
        if self._pipe >= 0:
            with contextlib.suppress(BlockingIOError):
                os.write(self._pipe, b"\0")

    def close(self) -> None:
        """Wait no more."""
        if self._pipe >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._pipe)
            self._pipe = -1


def _opened(path: Path) -> int:
    hidden = path.with_suffix(".new")
    os.mkfifo(hidden, 0o600)
    # Both ends: without a writer of its own a pipe would be readable, at its end, for ever.
    pipe = os.open(hidden, os.O_RDWR | os.O_NONBLOCK)
    # Found from here on only: a pipe that nobody reads yet would be taken for a dead process's.
    hidden.rename(path)
    return pipe
