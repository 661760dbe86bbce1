"""The database: how it is opened, brought up to date, and written to."""

import sqlite3
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, NullPool, create_engine, event, make_url, select
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import OperationalError

from depthwright.service.audit import Audit
from depthwright.service.notices import Listener, Notices
from depthwright.service.tables import COUNTERS

MIGRATIONS = Path(__file__).with_name("migrations")
_BUSY_MS = 30_000
_ADD = upsert(COUNTERS)
_ADD = _ADD.on_conflict_do_update(
    index_elements=["name", "label"], set_={"value": COUNTERS.c.value + _ADD.excluded.value}
)


class Database:
    """One SQLite file. Many readers, one writer at a time; a commit that returned survives a power cut.

    `keep_prompts` and `keep_pictures` are what the audit log in it keeps besides refusals.
    """

    def __init__(self, path: Path, *, keep_prompts: bool = False, keep_pictures: bool = False) -> None:
        self.path = path
        secret = path.with_name("audit.secret")
        self.audit = Audit(secret, keep_prompts=keep_prompts, keep_pictures=keep_pictures)
        self._notices = Notices(path.with_name("listeners"))
        # The library pools, begins and resets nothing: for a reader each statement stands alone, and the writer's
        # transaction is told below. Its own way costs more than most of our statements do.
        self._engine = create_engine(
            make_url("sqlite+pysqlite://").set(database=str(path)),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"check_same_thread": False, "timeout": _BUSY_MS / 1000},
        )
        event.listen(self._engine, "connect", _prepare)
        self._readers: deque[Connection] = deque()  # those that nobody reads with just now
        self._writers: deque[Connection] = deque()  # one at most
        self._writing = threading.Lock()

    def migrate(self, to: str = "head") -> None:
        """Bring the tables up to date; several processes may try at once."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with self.writing() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, to)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees what is committed; each statement sees the newest."""
        with self._lent(self._readers) as connection:
            yield connection

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[Connection]:
        """A transaction: durable when the block ends, undone when it raises.

        One that is not durable does not wait for the disk: a power cut may undo it, with no durable one after it. That
        is enough for what is of no use once this process is gone.
        """
        if not self._writing.acquire(timeout=_BUSY_MS / 1000):
            # Others of this process wait for the file already: it is as busy as if we had waited for it ourselves.
            raise OperationalError(None, None, sqlite3.OperationalError("database is locked"))
        try:
            with self._lent(self._writers) as connection:
                driver: Any = connection.connection.driver_connection
                before = driver.total_changes
                with _transaction(driver, durable=durable):
                    yield connection
                is_news = driver.total_changes != before
        finally:
            self._writing.release()
        if is_news:
            self._notices.tell()

    def changes(self) -> "Changes":
        """A watch on commits of other processes and connections."""
        return Changes(self._engine.connect(), Listener(self._notices.folder))

    def close(self) -> None:
        """Give all connections back."""
        for idle in (self._readers, self._writers):
            while idle:
                idle.pop().close()

    @contextmanager
    def _lent(self, idle: deque[Connection]) -> Iterator[Connection]:
        """A connection that is idle, or a new one; idle again afterwards, unless something went wrong with it."""
        try:
            connection = idle.pop()
        except IndexError:
            connection = self._engine.connect()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        idle.append(connection)


class Changes:
    """Tells whether anything was committed since the last look. A look costs microseconds."""

    def __init__(self, connection: Connection, listener: Listener) -> None:
        self._connection = connection
        self._listener = listener
        self._seen: int | None = None

    async def news(self) -> None:
        """Wait until it is worth a look: something was committed, or some time has passed."""
        await self._listener.wait()

    def wake(self) -> None:
        """End that wait, from any thread."""
        self._listener.wake()

    def any(self) -> bool:
        """Whether the database changed since the last call; True at the first."""
        # Straight to the driver: through the library a look would cost ten times as much.
        driver: Any = self._connection.connection.driver_connection
        version: int = driver.execute("PRAGMA data_version").fetchone()[0]
        changed: bool = version != self._seen
        self._seen = version
        return changed

    def close(self) -> None:
        """Give the connection back."""
        self._listener.close()
        self._connection.close()


def count(connection: Connection, name: str, label: str = "", by: float = 1) -> None:
    """Add to a counter, in the transaction of what is counted."""
    count_each(connection, {(name, label): by})


def count_each(connection: Connection, by: Mapping[tuple[str, str], float]) -> None:
    """Add to several counters, by name and label, in the transaction of what is counted."""
    if by:
        rows = [{"name": name, "label": label, "value": value} for (name, label), value in by.items()]
        connection.execute(_ADD, rows)


def counted(connection: Connection, name: str, label: str = "") -> int:
    """What a counter stands at."""
    found = select(COUNTERS.c.value).where(COUNTERS.c.name == name, COUNTERS.c.label == label)
    return int(connection.execute(found).scalar_one_or_none() or 0)


@contextmanager
def _transaction(driver: Any, *, durable: bool) -> Iterator[None]:
    """What the block does is done as a whole or not at all. Raises OperationalError."""
    try:
        # Within a transaction SQLite would ignore it.
        driver.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        # A deferred transaction that turns into a writing one fails when another wrote meanwhile; this one waits.
        driver.execute("BEGIN IMMEDIATE")
        try:
            yield
            driver.execute("COMMIT")
        finally:
            if driver.in_transaction:
                driver.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        raise OperationalError(None, None, error) from error


def _prepare(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_BUSY_MS}", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
