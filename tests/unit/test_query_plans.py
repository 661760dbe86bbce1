"""What a server does all day costs the same at any age of its table: SQLite's own plans say so."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from depthwright.prediction import Claim, Submission
from depthwright.service.auth import Keys
from depthwright.service.database import Database
from depthwright.service.queue_sqlite import Queue, orphans, take_back, waiting
from depthwright.service.store import Store


def insert(database: Database) -> None:
    submission = Submission("p", "key", "m", {}, 0, time.time(), idempotency_key="k")
    with database.writing() as connection:
        Store(database, most_open=5).insert(connection, submission)


CLAIM = Claim("p", 1)
DAILY: dict[str, Callable[[Database], object]] = {
    "submit": insert,
    "poll": lambda database: Store(database).get("p", "key"),
    "show": lambda database: Store(database).get("p"),
    "cancel": lambda database: Store(database).cancel("p", "key"),
    "authenticate": lambda database: Keys(database).caller("dw_x"),
    "claim": lambda database: Queue(database, "w").claim(),
    "look for work": lambda database: Queue(database, "w").any_waiting(),
    "give up": lambda database: Queue(database, "w").cancelled(CLAIM),
    "appear": lambda database: Queue(database, "w").register("ready"),
    "leave": lambda database: Queue(database, "w").leave(),
    "take back": lambda database: take_back(database, "w"),
    "find orphans": orphans,
    "measure the queue": waiting,
}


@pytest.mark.parametrize("what", DAILY)
def test_no_daily_work_reads_the_whole_table(tmp_path: Path, what: str) -> None:
    database = Database(tmp_path / "d.sqlite3")
    database.migrate()
    if what != "submit":
        insert(database)
    said: list[tuple[str, Any]] = []

    def record(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        said.append((statement, parameters))

    database = Database(database.path)
    event.listen(database._engine, "before_cursor_execute", record)
    DAILY[what](database)
    asked = [each for each in said if each[0].split()[0] in ("SELECT", "UPDATE", "INSERT", "DELETE")]
    assert asked
    with database.reading() as connection:
        for statement, parameters in asked:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            for step in (row.detail for row in plan):
                assert "SCAN predictions" not in step or "predictions_open" in step, (statement, step)
    database.close()
