"""The database: how it is opened, brought up to date, and written to."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, make_url, select
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from depthwright.service.tables import COUNTERS

MIGRATIONS = Path(__file__).with_name("migrations")
_BUSY_MS = 30_000
_ADD = upsert(COUNTERS)
_ADD = _ADD.on_conflict_do_update(
    index_elements=["name", "label"], set_={"value": COUNTERS.c.value + _ADD.excluded.value}
)


class Database:
    """One SQLite file. Many readers, one writer at a time; a commit that returned survives a power cut."""

    def __init__(self, path: Path) -> None:
        self.path = path
        url = make_url("sqlite+pysqlite://").set(database=str(path))
        options: dict[str, Any] = {"connect_args": {"check_same_thread": False, "timeout": _BUSY_MS / 1000}}
        self._readers = create_engine(url, poolclass=QueuePool, pool_size=8, max_overflow=32, **options)
        self._writers = create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0, **options)
        for engine in (self._readers, self._writers):
            event.listen(engine, "connect", _prepare)
        # A deferred transaction that turns into a writing one fails when another wrote meanwhile; this one waits.
        event.listen(self._writers, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))

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
        with _connection(self._readers) as connection:
            yield connection

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[Connection]:
        """A transaction: durable when the block ends, undone when it raises.

        One that is not durable does not wait for the disk: a power cut may undo it, with no durable one after it. That
        is enough for what is of no use once this process is gone.
        """
        with _connection(self._writers) as connection:
            raw = connection.connection.dbapi_connection
            assert raw is not None
            # Not through the library, which would begin the transaction; within one SQLite ignores it.
            raw.cursor().execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            with connection.begin():
                yield connection

    def changes(self) -> "Changes":
        """A watch on commits of other processes and connections."""
        return Changes(self._readers.connect())

    def close(self) -> None:
        """Give all connections back."""
        self._readers.dispose()
        self._writers.dispose()


class Changes:
    """Tells whether anything was committed since the last look. A look costs microseconds."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._seen: int | None = None

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
        self._connection.close()


def count(connection: Connection, name: str, label: str = "", by: float = 1) -> None:
    """Add to a counter, in the transaction of what is counted."""
    count_each(connection, name, {label: by})


def count_each(connection: Connection, name: str, by_label: Mapping[str, float]) -> None:
    """Add to several counters of one name, in the transaction of what is counted."""
    if by_label:
        rows = [{"name": name, "label": label, "value": by} for label, by in by_label.items()]
        connection.execute(_ADD, rows)


def counted(connection: Connection, name: str, label: str = "") -> int:
    """What a counter stands at."""
    found = select(COUNTERS.c.value).where(COUNTERS.c.name == name, COUNTERS.c.label == label)
    return int(connection.execute(found).scalar_one_or_none() or 0)


def _connection(engine: Engine) -> Connection:
    try:
        return engine.connect()
    except PoolTimeout as error:
        # Others of this process wait for the file already: it is as busy as if we had waited for it ourselves.
        raise OperationalError(None, None, error) from error


def _prepare(connection: Any, _record: object) -> None:
    # None: the driver begins nothing by itself, so that "begin" above decides how.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_BUSY_MS}", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
