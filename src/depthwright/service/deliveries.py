"""The database's side of webhooks: a delivery is written down in the transaction that ends its prediction."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from depthwright.service.database import Database, count
from depthwright.service.tables import DELIVERIES, KEYS, PREDICTIONS

D = DELIVERIES.c
# Seconds before each further try; after the last the delivery is given up.
RETRIES = (5, 30, 120, 600, 3600, 4 * 3600, 12 * 3600)
PENDING, DELIVERED, GIVEN_UP = "pending", "delivered", "given_up"


@dataclass(frozen=True)
class Delivery:
    """A webhook that is due. `id` is the same at every try, so that a receiver can tell repeats."""

    id: str
    prediction_id: str
    url: str
    secret: str
    tries: int


def announce(connection: Connection, prediction_id: str) -> None:
    """Put the webhook of a prediction that ended, if it has one, into the transaction that ended it."""
    row = connection.execute(
        select(PREDICTIONS.c.key_id, PREDICTIONS.c.webhook_url).where(PREDICTIONS.c.id == prediction_id)
    ).one()
    owe(connection, prediction_id, row.key_id, row.webhook_url)


def owe(connection: Connection, prediction_id: str, key_id: str, url: str | None) -> None:
    """The same, for who knows the webhook's address."""
    if url is None:
        return
    now = time.time()
    connection.execute(
        insert(DELIVERIES).values(
            id=f"msg_{secrets.token_hex(12)}",
            prediction_id=prediction_id,
            key_id=key_id,
            url=url,
            state=PENDING,
            next_at=now,
            created_at=now,
        )
    )


class Deliveries:
    """The webhooks that are owed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, now: float, most: int) -> list[Delivery]:
        """What is to be tried now, the oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(D.id, D.prediction_id, D.url, D.tries, KEYS.c.webhook_secret.label("secret"))
                .join(KEYS, KEYS.c.id == D.key_id)
                .where(D.state == PENDING, D.next_at <= now)
                .order_by(D.next_at)
                .limit(most)
            ).all()
        return [Delivery(row.id, row.prediction_id, row.url, row.secret, row.tries) for row in rows]

    def next_at(self) -> float | None:
        """When the next try is due, in seconds since 1970; None if nothing is owed."""
        with self._database.reading() as connection:
            due: float | None = connection.execute(
                select(func.min(D.next_at)).where(D.state == PENDING)
            ).scalar_one()
        return due

    def record(self, delivery: Delivery, *, answer: int | None, error: str, permanent: bool = False) -> str:
        """Write down how a try went: its state afterwards. An answer of 2xx is a delivery."""
        delivered = answer is not None and 200 <= answer < 300
        over = permanent or delivery.tries >= len(RETRIES)
        state = DELIVERED if delivered else GIVEN_UP if over else PENDING
        now = time.time()
        with self._database.writing() as connection:
            log = connection.execute(select(D.log).where(D.id == delivery.id)).scalar_one_or_none()
            if log is None:  # the prediction was deleted meanwhile, and this with it
                return GIVEN_UP
            wait = RETRIES[delivery.tries] if state == PENDING else 0
            connection.execute(
                update(DELIVERIES)
                .where(D.id == delivery.id)
                .values(
                    state=state,
                    tries=delivery.tries + 1,
                    next_at=now + wait,
                    log=[*log, {"at": now, "answer": answer, "error": error}],
                )
            )
            count(connection, "webhooks", "delivered" if delivered else "failed")
        return state

    def log(self, prediction_id: str) -> list[Mapping[str, Any]]:
        """Every webhook of a prediction and how each try went."""
        with self._database.reading() as connection:
            rows = (
                connection.execute(
                    select(D.id, D.url, D.state, D.tries, D.next_at, D.log)
                    .where(D.prediction_id == prediction_id)
                    .order_by(D.created_at)
                )
                .mappings()
                .all()
            )
        return [dict(row) for row in rows]
