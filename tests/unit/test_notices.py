"""Who waits for news of the database is woken by every commit, in this process or another."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from depthwright.service.database import Database, count
from depthwright.service.notices import Listener, Notices

LONG = 60.0


def woken(listener: Listener, by: str = "") -> bool:
    """Whether a wait that would take a minute ends at once, after an action in another process."""

    async def wait() -> float:
        if by:
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", by)
            await process.wait()
        started = time.monotonic()
        await listener.wait(LONG)
        return time.monotonic() - started

    return asyncio.run(wait()) < LONG / 2


def test_a_commit_of_another_process_wakes_who_waits_and_one_that_is_undone_does_not(tmp_path: Path) -> None:
    path = tmp_path / "d.sqlite3"
    database = Database(path)
    database.migrate()
    listener = Listener(tmp_path / "listeners")
    commit = (
        "import pathlib\n"
        "from depthwright.service.database import Database, count\n"
        f"with Database(pathlib.Path({str(path)!r})).writing() as connection: count(connection, 'x')\n"
    )
    assert woken(listener, commit)
    with suppress(OperationalError), database.writing() as connection:
        count(connection, "x")
        connection.exec_driver_sql("no such statement")
    started = time.monotonic()
    asyncio.run(listener.wait(0.2))
    assert time.monotonic() - started >= 0.19
    listener.close()


def test_news_that_came_before_the_wait_are_not_missed_and_are_told_once(tmp_path: Path) -> None:
    listener = Listener(tmp_path)
    for _ in range(70_000):  # more than a pipe holds
        Notices(tmp_path).tell()
    assert woken(listener)
    started = time.monotonic()
    asyncio.run(listener.wait(0.1))
    assert time.monotonic() - started >= 0.09
    threading.Timer(0.05, listener.wake).start()
    assert woken(listener)
    listener.close()


def test_the_pipe_of_a_process_that_was_killed_goes_with_the_next_commit(tmp_path: Path) -> None:
    die = (
        "import os, pathlib\n"
        "from depthwright.service.notices import Listener\n"
        f"Listener(pathlib.Path({str(tmp_path)!r}))\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", die], check=True)
    mine = Listener(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    Notices(tmp_path).tell()
    assert len(list(tmp_path.iterdir())) == 1
    assert woken(mine)
    mine.close()
    assert not list(tmp_path.iterdir())


def test_without_named_pipes_it_looks_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_pipes(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "mkfifo", no_pipes)
    listener = Listener(tmp_path)
    Notices(tmp_path).tell()
    assert woken(listener)
    listener.wake()
    listener.close()
