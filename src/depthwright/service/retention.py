"""What is older than the operator keeps things goes: predictions, their pictures, uploads, leftovers."""

import time
from collections import Counter

import structlog
from sqlalchemy import delete, select

from depthwright.service.database import Database, count_each
from depthwright.service.outputs import Outputs
from depthwright.service.store import STORED
from depthwright.service.tables import DELIVERIES, PREDICTIONS
from depthwright.service.uploads import Uploads

P = PREDICTIONS.c
_BATCH = 500
# A folder may be older than the row that will name it, never by so much.
_LEFTOVER_SECONDS = 24 * 3600
log = structlog.get_logger()


def sweep(database: Database, outputs: Outputs, uploads: Uploads, days: float) -> int:
    """Remove all that ended more than `days` ago; how many predictions. What waits or runs is never touched."""
    before = time.time() - days * 86400
    removed = 0
    while ids := _finished(database, before):
        # The row goes first: a file without a row is a leftover, a row without its file would be a broken promise.
        with database.writing() as connection:
            connection.execute(delete(DELIVERIES).where(DELIVERIES.c.prediction_id.in_(ids)))
            gone = connection.execute(delete(PREDICTIONS).where(P.id.in_(ids)).returning(P.key_id)).scalars()
            count_each(connection, {(STORED, key_id): -number for key_id, number in Counter(gone).items()})
        for prediction_id in ids:
            outputs.remove(prediction_id)
        removed += len(ids)
    swept = uploads.sweep(before)
    leftovers = outputs.sweep(_LEFTOVER_SECONDS, _Known(database))
    if removed or swept or leftovers:
        log.info("swept", predictions=removed, uploads=swept, leftovers=leftovers)
    return removed


class _Known:
    """The ids of all predictions, asked one by one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __contains__(self, prediction_id: object) -> bool:
        with self._database.reading() as connection:
            return connection.execute(select(P.seq).where(P.id == prediction_id)).one_or_none() is not None


def _finished(database: Database, before: float) -> list[str]:
    with database.reading() as connection:
        return list(
            connection.execute(select(P.id).where(P.finished_at < before).limit(_BATCH)).scalars().all()
        )
