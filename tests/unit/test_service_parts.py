"""The service's smaller parts, each on a real database."""

import asyncio
import errno
import hashlib
import hmac
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import update

from depthwright.errors import DiskFull, InvalidImage
from depthwright.events import StageStarted, StepFinished
from depthwright.prediction import Claim, Lost, Outcome, Status, Submission
from depthwright.service import deliveries, retention
from depthwright.service.auth import Keys, UnknownKey
from depthwright.service.database import Database
from depthwright.service.deliveries import Deliveries
from depthwright.service.fetch import DeliveryFailed
from depthwright.service.limits import RateLimit, TooManyRequests
from depthwright.service.outputs import Outputs
from depthwright.service.queue_sqlite import Queue
from depthwright.service.reporting import Report
from depthwright.service.store import Query, Store, TooManyOpen
from depthwright.service.submissions import Submissions
from depthwright.service.tables import PREDICTIONS
from depthwright.service.uploads import TicketInvalid, Uploads
from depthwright.service.watcher import Watcher
from depthwright.service.webhooks import Deliverer

PNG = b"\x89PNG\r\n\x1a\n" + bytes(32)
CLAIM = Claim("p", 1)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "d.sqlite3")
    database.migrate()
    yield database
    database.close()


def submission(prediction_id: str, key_id: str = "key", webhook_url: str | None = None) -> Submission:
    return Submission(prediction_id, key_id, "m", {}, 0, time.time(), webhook_url=webhook_url)


def finished(database: Database, prediction_id: str, key_id: str, webhook_url: str | None = None) -> None:
    with database.writing() as connection:
        Store(database).insert(connection, submission(prediction_id, key_id, webhook_url))
    queue = Queue(database, "w")
    queue.register("ready")
    work = queue.claim()
    assert work is not None
    assert queue.finish(
        work.claim, Outcome((f"{prediction_id}/1/x.png",), "c", (), (), {"inference": 1}, "v")
    )


def test_a_key_opens_until_it_is_revoked_and_is_kept_as_a_digest_alone(
    database: Database, tmp_path: Path
) -> None:
    keys = Keys(database)
    key = keys.create("me")
    assert keys.caller(key) is not None
    assert keys.caller(key + "x") is None
    [row] = keys.all()
    assert row.last_used_at is not None
    keys.revoke("me")
    assert keys.caller(key) is None
    with pytest.raises(UnknownKey, match="no valid key"):
        keys.revoke("me")
    assert all(key.encode() not in file.read_bytes() for file in tmp_path.iterdir())


def test_a_list_counts_what_is_there_through_submissions_deletions_and_sweeps(
    database: Database, tmp_path: Path
) -> None:
    store = Store(database)
    for number in range(5):
        finished(database, f"p{number}", "key")
    finished(database, "other", "another")
    store.delete(["p0", "p1", "nothing"], "key")
    assert store.page("key", Query())[0] == 3
    assert store.page("key", Query(status=Status.COMPLETED))[0] == 3
    retention.sweep(database, Outputs(tmp_path / "o"), Uploads(database, tmp_path / "u"), days=-1)
    assert store.page("key", Query()) == (0, [])
    assert store.page("another", Query()) == (0, [])


def test_tables_of_the_first_version_are_brought_up_to_date_with_what_they_hold(tmp_path: Path) -> None:
    database = Database(tmp_path / "d.sqlite3")
    database.migrate(to="0001")
    with database.writing() as connection:
        connection.exec_driver_sql(
            "INSERT INTO predictions (id, key_id, model, status, input, seed, created_at) "
            "VALUES ('p', 'key', 'm', 'created', '{}', 1, 2.0)"
        )
    database.migrate()
    total, [held] = Store(database).page("key", Query())
    assert (total, held.id, dict(held.acceleration)) == (1, "p", {})
    database.close()


def test_a_minute_has_so_many_requests_for_each_key() -> None:
    limit = RateLimit(2)
    for _ in range(2):
        limit.spend("a")
    with pytest.raises(TooManyRequests) as refused:
        limit.spend("a")
    assert 1 <= refused.value.seconds <= 61
    limit.spend("b")
    for _ in range(100):
        RateLimit(0).spend("a")


def test_submissions_of_one_commit_are_refused_one_by_one(database: Database) -> None:
    submissions = Submissions(Store(database, most_open=3))
    answers = [submissions.submit(submission(f"p{number}")) for number in range(5)]
    submissions.close()
    assert [answer.result().id for answer in answers[:3]] == ["p0", "p1", "p2"]
    for answer in answers[3:]:
        with pytest.raises(TooManyOpen):
            answer.result()
    assert Store(database).get("p4") is None


def publish(store: Outputs, claim: Claim) -> tuple[str, ...]:
    with store.stage(claim) as staging:
        staging.add(Image.new("RGB", (8, 8)), "png")
        paths = staging.settle()
        staging.keep()
    return paths


def test_a_full_disk_is_told_and_leaves_nothing_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = Outputs(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with store.stage(CLAIM) as staging:
        for _ in range(3):
            staging.add(Image.new("RGB", (8, 8)), "png")
        with pytest.raises(DiskFull, match="disk is full"):
            staging.settle()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["../d.sqlite3", "p/1/../../d.sqlite3", "/etc/passwd", "p/1", "p/.1/x.png", ""]
)
def test_no_name_leads_out_of_the_store(tmp_path: Path, name: str) -> None:
    (tmp_path / "d.sqlite3").touch()
    store = Outputs(tmp_path / "outputs")
    publish(store, CLAIM)
    assert store.path(name) is None


def test_a_ticket_is_good_once_and_for_a_picture_only(database: Database, tmp_path: Path) -> None:
    uploads = Uploads(database, tmp_path / "uploads")
    upload, ticket = uploads.ticket("key", "a.png", "application/octet-stream", 40)
    assert uploads.owner(ticket) == "key"
    assert uploads.find(upload.id) is None
    with pytest.raises(InvalidImage):
        uploads.redeem(ticket, b"no picture")
    assert uploads.redeem(ticket, PNG).content_type == "image/png"
    with pytest.raises(TicketInvalid):
        uploads.redeem(ticket, PNG)
    assert uploads.path(upload.id).read_bytes() == PNG
    assert uploads.sweep(time.time() + 1) == 1
    assert not uploads.path(upload.id).exists()


def test_what_is_older_than_it_is_kept_goes_with_its_files_and_nothing_else_does(
    database: Database, tmp_path: Path
) -> None:
    store, files = Store(database), Outputs(tmp_path / "outputs")
    uploads = Uploads(database, tmp_path / "uploads")
    for prediction_id in ("old", "new"):
        finished(database, prediction_id, "key")
        publish(files, Claim(prediction_id, 1))
    with database.writing() as connection:
        store.insert(connection, submission("waiting"))
        old = time.time() - 8 * 86400
        connection.execute(update(PREDICTIONS).where(PREDICTIONS.c.id == "old").values(finished_at=old))
        connection.execute(update(PREDICTIONS).where(PREDICTIONS.c.id == "waiting").values(created_at=old))
    assert retention.sweep(database, files, uploads, days=7) == 1
    assert (store.get("old"), (files.folder / "old").exists()) == (None, False)
    assert store.get("waiting") is not None
    assert (files.folder / "new").exists()


def test_progress_is_written_four_times_a_second_at_most(database: Database) -> None:
    with database.writing() as connection:
        Store(database).insert(connection, submission("p"))
    queue, now = Queue(database, "w"), 0.0
    queue.register("ready")
    work = queue.claim()
    assert work is not None
    writes: list[dict[str, object]] = []
    previews = 0

    def preview() -> Image.Image:
        nonlocal previews
        previews += 1
        return Image.new("RGB", (512, 512))

    class Counting(Queue):
        def progress(self, claim: Claim, progress: object, preview: bytes | None = None) -> None:
            writes.append(dict(progress))  # type: ignore[call-overload]
            super().progress(claim, progress, preview)  # type: ignore[arg-type]

    report = Report(Counting(database, "w"), work.claim, clock=lambda: now)
    report.show(StageStarted("denoise"))
    for step in range(200):  # two seconds
        now += 0.01
        report.show(StepFinished(0, 1, step, 200, preview))
    assert len(writes) <= 9
    assert previews == 0, "nobody watched"
    Store(database).want_preview("p")
    now += 5
    report.show(StepFinished(0, 1, 199, 200, preview))
    assert previews == 1
    assert (Store(database).preview("p") or b"").startswith(b"\xff\xd8")
    Store(database).cancel("p", "key")
    with pytest.raises(Lost):
        report.show(StageStarted("decode"))


class Receiver:
    """In the place of the fetcher: answers as told, keeps what came."""

    def __init__(self, *answers: int | None) -> None:
        self.answers = list(answers)
        self.came: list[tuple[str, bytes, dict[str, str]]] = []

    async def post(self, url: str, content: bytes, headers: dict[str, str]) -> int:
        self.came.append((url, content, headers))
        if (answer := self.answers.pop(0)) is None:
            raise DeliveryFailed("nobody answers")
        return answer

    def refusal(self, _url: str) -> str | None:
        return None


def test_a_webhook_is_signed_and_tried_again_under_the_same_id_until_it_is_taken(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "RETRIES", (0.0, 0.0, 0.0))
    caller = Keys(database).caller(Keys(database).create())
    assert caller is not None
    finished(database, "p", caller.key_id, "https://example.org/hook")
    receiver = Receiver(None, 503, 200)

    async def deliver() -> None:
        watcher = Watcher(database)
        deliverer = Deliverer(Deliveries(database), receiver, watcher, lambda _id: b'{"id":"p"}')  # type: ignore[arg-type]
        tasks = [asyncio.create_task(watcher.run()), asyncio.create_task(deliverer.run())]
        async with asyncio.timeout(30):
            while Deliveries(database).log("p")[0]["state"] == "pending":  # noqa: ASYNC110 - a database is asked
                await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(deliver())
    [entry] = Deliveries(database).log("p")
    assert (entry["state"], entry["tries"], len(entry["log"])) == ("delivered", 3, 3)
    assert len({headers["webhook-id"] for _, _, headers in receiver.came}) == 1
    for url, body, headers in receiver.came:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        key = caller.webhook_secret.removeprefix("whsec_").encode()
        expected = "v3," + hmac.new(key, signed, hashlib.sha256).hexdigest()
        assert (url, headers["webhook-signature"]) == ("https://example.org/hook", expected)


def test_a_webhook_that_nobody_ever_takes_is_given_up(database: Database) -> None:
    finished(database, "p", Keys(database).caller(Keys(database).create()).key_id, "https://example.org/")  # type: ignore[union-attr]
    owed = Deliveries(database)
    for tried in range(len(deliveries.RETRIES) + 1):
        [due] = owed.due(time.time() + 10**6, 10)
        assert due.tries == tried
        owed.record(due, answer=500, error="")
    assert owed.due(time.time() + 10**6, 10) == []
    assert owed.log("p")[0]["state"] == "given_up"
    assert Store(database).get("p").status is Status.COMPLETED  # type: ignore[union-attr]
