"""A database with many predictions: a real one, copied by SQLite itself, each with an id, a seed and a time."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from depthwright.service.places import Places

_AT_ONCE = 50_000
_DAYS = 6  # within what the server keeps
_FINISHED = {
    "id": "copies.id",
    "seed": "copies.number",
    "created_at": "created_at - :days * 86400.0 * copies.number / :total",
    "started_at": "started_at - :days * 86400.0 * copies.number / :total",
    "finished_at": "finished_at - :days * 86400.0 * copies.number / :total",
    "outputs": "replace(outputs, template.id, copies.id)",
    "control": "replace(control, template.id, copies.id)",
}
_WAITING = {
    "id": "copies.id",
    "status": "'created'",
    "started_at": "NULL",
    "finished_at": "NULL",
    "outputs": "'[]'",
}


def fill(source: Path, target: Path, predictions: int, advance: Callable[[int], None]) -> None:
    """Copy a server's data that holds one finished prediction, and make it that many."""
    target.mkdir(parents=True)
    database = Places(target).database
    shutil.copy(Places(source).database, database)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        # Nobody else is here yet, and a copy that breaks is thrown away.
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-1000000", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")
        done = 1
        advance(1)
        while done < predictions:
            last = min(done + _AT_ONCE, predictions)
            connection.execute("BEGIN")
            _copy(connection, _FINISHED, done + 1, last, predictions)
            connection.execute("COMMIT")
            advance(last - done)
            done = last
        _count(connection)
        connection.execute("PRAGMA journal_mode=WAL")
    # What is written back later would be in the figures of whatever is measured then.
    os.sync()


def wait_in(folder: Path, number: int) -> None:
    """Put so many into the queue of a server without a worker."""
    with closing(sqlite3.connect(Places(folder).database, timeout=30)) as connection, connection:
        _copy(connection, _WAITING, 1, number, number)


def nothing_waits(folder: Path) -> None:
    """Empty the queue, so that the next measurement finds it as the one before did."""
    with closing(sqlite3.connect(Places(folder).database, timeout=30)) as connection, connection:
        connection.execute(
            "DELETE FROM predictions WHERE status IN ('created', 'processing') AND status = 'created'"
        )
        _count(connection)


def ids(folder: Path, number: int) -> list[str]:
    """So many ids from all over the table."""
    with closing(sqlite3.connect(Places(folder).database)) as connection:
        most = connection.execute("SELECT max(seq) FROM predictions").fetchone()[0]
        pick = "SELECT id FROM predictions WHERE seq > ? ORDER BY seq LIMIT 1"
        return [connection.execute(pick, (index * most // number,)).fetchone()[0] for index in range(number)]


def _count(connection: sqlite3.Connection) -> None:
    """Set the counters that the server keeps as it stores and deletes."""
    connection.execute(
        "INSERT OR REPLACE INTO counters (name, label, value) "
        "SELECT 'stored', key_id, count(*) FROM predictions GROUP BY key_id"
    )


def _copy(connection: sqlite3.Connection, own: Mapping[str, str], first: int, last: int, total: int) -> None:
    """Copies of the table's first row, with columns of their own."""
    names = [row[1] for row in connection.execute("PRAGMA table_info(predictions)") if row[1] != "seq"]
    connection.execute(
        f"""
        WITH RECURSIVE copies(number, id) AS MATERIALIZED (
            SELECT :first, lower(hex(randomblob(16)))
            UNION ALL SELECT number + 1, lower(hex(randomblob(16))) FROM copies WHERE number < :last
        )
        INSERT INTO predictions ({", ".join(names)})
        SELECT {", ".join(own.get(name, f"template.{name}") for name in names)}
        FROM copies, (SELECT * FROM predictions ORDER BY seq LIMIT 1) AS template
        """,  # noqa: S608 - the names are the table's own
        {"first": first, "last": last, "total": total, "days": _DAYS},
    )
