"""The audit log: it tells what was refused, keeps no words, and shows whoever touches it."""

import json
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from depthwright.assembly import Assembly
from depthwright.cli.app import run
from depthwright.prediction import Code, Fault, Outcome, Status, Submission
from depthwright.result import IMAGE, OFF_BY_REQUEST
from depthwright.service.audit import Entry, exported
from depthwright.service.database import Database, counted
from depthwright.service.places import Places
from depthwright.service.queue_sqlite import Queue
from depthwright.service.store import Store
from depthwright.service.tables import AUDIT
from depthwright.settings import Settings

WORDS = "words that nobody keeps"
ENTRY = Entry("key", "p", "prompt", "harassment", "refused", WORDS)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "d.sqlite3")
    made.migrate()
    yield made
    made.close()


def record(database: Database, *entries: Entry) -> None:
    with database.writing() as connection:
        for entry in entries:
            database.audit.record(connection, entry)


def rows(database: Database, after: int = 0) -> list[tuple[int, bool]]:
    with database.reading() as connection:
        return [(row.told["number"], row.is_whole) for row in exported(connection, after)]


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file())


def submission(prediction_id: str, refused: Fault | None = None, webhook: str | None = None) -> Submission:
    return Submission(
        prediction_id,
        "key",
        "m",
        {"prompt": "" if refused else WORDS},
        1,
        time.time(),
        refused=refused,
        prompt=WORDS if refused else "",
        webhook_url=webhook,
    )


def test_a_row_tells_whose_prediction_was_refused_for_what_and_not_its_words(
    database: Database, tmp_path: Path
) -> None:
    before = time.time()
    record(database, ENTRY)
    with database.reading() as connection:
        [row] = exported(connection)
    assert before <= row.told["at"] <= time.time()
    told = [row.told[name] for name in ("key_id", "prediction_id", "subject", "category", "decision")]
    assert told == ["key", "p", "prompt", "harassment", "refused"]
    assert row.told["prompt"].startswith("hmac-sha256:")
    assert WORDS.encode() not in everything(tmp_path)


def test_the_same_words_have_the_same_digest_here_and_another_one_elsewhere(
    database: Database, tmp_path: Path
) -> None:
    record(database, ENTRY, ENTRY)
    other = Database(tmp_path / "other" / "d.sqlite3")
    other.migrate()
    record(other, ENTRY)
    with database.reading() as here, other.reading() as there:
        first, second = (row.told["prompt"] for row in exported(here))
        [elsewhere] = (row.told["prompt"] for row in exported(there))
    other.close()
    assert first == second != elsewhere
    assert stat.S_IMODE((tmp_path / "audit.secret").stat().st_mode) == 0o600


def test_an_operator_may_keep_the_words(tmp_path: Path) -> None:
    database = Database(tmp_path / "d.sqlite3", keep_prompts=True)
    database.migrate()
    record(database, ENTRY)
    with database.reading() as connection:
        assert [row.told["prompt"] for row in exported(connection)] == [WORDS]
    database.close()


@pytest.mark.parametrize("change", ["UPDATE audit SET category = 'none'", "DELETE FROM audit"])
def test_the_log_only_grows(database: Database, change: str) -> None:
    record(database, ENTRY)
    with (
        sqlite3.connect(database.path) as connection,
        pytest.raises(sqlite3.IntegrityError, match="only grows"),
    ):
        connection.execute(change)
    assert rows(database) == [(1, True)]


def test_who_edits_the_file_all_the_same_breaks_the_chain_there_and_only_there(database: Database) -> None:
    record(database, *[ENTRY] * 4)
    with sqlite3.connect(database.path) as connection:
        connection.execute("DROP TRIGGER audit_refuses_update")
        connection.execute("UPDATE audit SET category = 'none' WHERE number = 2")
    assert rows(database) == [(1, True), (2, False), (3, True), (4, True)]


def test_a_row_that_was_taken_out_shows_in_the_next_one(database: Database) -> None:
    record(database, *[ENTRY] * 3)
    with sqlite3.connect(database.path) as connection:
        connection.execute("DROP TRIGGER audit_refuses_delete")
        connection.execute("DELETE FROM audit WHERE number = 2")
    assert rows(database) == [(1, True), (3, False)]


def test_an_export_may_begin_in_the_middle(database: Database) -> None:
    record(database, *[ENTRY] * 5)
    assert rows(database, after=3) == [(4, True), (5, True)]


def test_a_refused_submission_has_ended_with_its_row_its_count_and_its_webhook(database: Database) -> None:
    store = Store(database)
    refused = submission("p", Fault(Code.MODERATED, "No.", "harassment"), "https://example.org/hook")
    with database.writing() as connection:
        assert store.insert(connection, refused) == ("p", True)
    found = store.get("p")
    assert found is not None
    assert (found.status, found.code, found.error) == (Status.FAILED, Code.MODERATED, "No.")
    assert found.finished_at is not None
    assert Queue(database, "w").claim() is None
    with database.reading() as connection:
        assert counted(connection, "refusals", "harassment") == 1
        assert counted(connection, "finished", Status.FAILED) == 1
        assert connection.exec_driver_sql("SELECT count(*) FROM deliveries").scalar_one() == 1
    assert rows(database) == [(1, True)]


def test_pictures_that_were_blacked_are_told_with_the_prediction_that_they_belong_to(
    database: Database,
) -> None:
    store, queue = Store(database), Queue(database, "w")
    queue.register("ready")
    for prediction_id, flags, checker in (
        ("a", (False, True, True), "some/checker"),
        ("b", (False,), "some/checker"),
        ("c", (), OFF_BY_REQUEST),
    ):
        with database.writing() as connection:
            store.insert(connection, submission(prediction_id))
        work = queue.claim()
        assert work is not None
        safety = {"image_checker": checker}
        assert queue.finish(work.claim, Outcome(("x",), "c", flags, (), {"inference": 1}, "v", safety=safety))
    with database.reading() as connection:
        told = [
            (row.prediction_id, row.subject, row.category, row.decision)
            for row in connection.execute(select(AUDIT))
        ]
        assert counted(connection, "refusals", IMAGE) == 2
    assert told == [("a", "image", IMAGE, "blacked"), ("c", "image", IMAGE, "unchecked")]


def test_an_operator_may_keep_who_had_which_picture_made(tmp_path: Path) -> None:
    database = Database(tmp_path / "d.sqlite3", keep_pictures=True)
    database.migrate()
    store, queue = Store(database), Queue(database, "w")
    queue.register("ready")
    with database.writing() as connection:
        store.insert(connection, submission("p"))
    work = queue.claim()
    assert work is not None
    made = Outcome(("x",), "c", (), (), {"inference": 1}, "v", pixels=("a" * 64,))
    assert queue.finish(work.claim, made)
    with database.reading() as connection:
        [row] = exported(connection)
    told = {name: row.told[name] for name in ("prediction_id", "key_id", "decision", "pixels")}
    assert told == {"prediction_id": "p", "key_id": "key", "decision": "made", "pixels": ["a" * 64]}
    database.close()


def test_a_refusal_by_the_worker_is_told_as_one_by_the_api(database: Database) -> None:
    store, queue = Store(database), Queue(database, "w")
    queue.register("ready")
    with database.writing() as connection:
        store.insert(connection, submission("p"))
    work = queue.claim()
    assert work is not None
    assert queue.fail(work.claim, Fault(Code.MODERATED, "No.", IMAGE))
    found = store.get("p")
    assert found is not None
    assert (found.code, found.safety) == (Code.MODERATED, {"refused": IMAGE})
    with database.reading() as connection:
        [row] = exported(connection)
    assert (row.told["subject"], row.told["category"], row.told["decision"]) == ("image", IMAGE, "refused")
    assert json.dumps(row.told)


def test_a_prompt_that_the_engine_refuses_is_kept_no_more_than_one_that_the_api_did(
    database: Database,
) -> None:
    store, queue = Store(database), Queue(database, "w")
    queue.register("ready")
    with database.writing() as connection:
        store.insert(connection, submission("p"))
    work = queue.claim()
    assert work is not None
    assert work.input["prompt"] == WORDS
    assert queue.fail(work.claim, Fault(Code.MODERATED, "No.", "harassment"))
    found = store.get("p")
    assert found is not None
    assert found.input["prompt"] == ""
    with database.reading() as connection:
        [row] = exported(connection)
    assert (row.told["subject"], row.told["category"]) == ("prompt", "harassment")


def test_the_command_exports_the_log_and_ends_with_an_error_where_it_was_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = Database(Places(tmp_path).database)
    database.migrate()
    record(database, *[ENTRY] * 3)
    assembly = Assembly(Settings(data_dir=tmp_path))
    assert run(["audit", "--after", "1"], assembly) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["number"], line["category"]) for line in lines] == [(2, "harassment"), (3, "harassment")]
    assert lines[0]["at"].endswith("Z")
    with sqlite3.connect(database.path) as connection:
        connection.execute("DROP TRIGGER audit_refuses_update")
        connection.execute("UPDATE audit SET key_id = 'another' WHERE number = 3")
    database.close()
    assert run(["audit"], assembly) == 1
    assert "row 3 does not follow from the one before it" in capsys.readouterr().err
