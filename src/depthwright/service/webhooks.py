"""Webhooks: signed, sent, tried again. A receiver that is down delays its own news and nobody else's."""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from sqlalchemy.exc import OperationalError

from depthwright.service.deliveries import Deliveries, Delivery
from depthwright.service.fetch import DeliveryFailed, Fetcher
from depthwright.service.watcher import Watcher

_AT_ONCE = 8
_IDLE_SECONDS, _LEAST_SECONDS = 1.0, 0.05
# Answers that no further try will change: the receiver is gone for good.
_GONE = 410
log = structlog.get_logger()


def signature(secret: str, webhook_id: str, timestamp: int, body: bytes) -> str:
    """`v3,` and the hex HMAC-SHA256 of `{id}.{timestamp}.{body}`, keyed with the secret after its prefix."""
    signed = b".".join((webhook_id.encode(), str(timestamp).encode(), body))
    return "v3," + hmac.new(secret.removeprefix("whsec_").encode(), signed, hashlib.sha256).hexdigest()


class Deliverer:
    """Sends what is owed. `body` gives what a prediction's webhook says, None if the prediction is gone."""

    def __init__(
        self,
        deliveries: Deliveries,
        fetcher: Fetcher,
        watcher: Watcher,
        body: Callable[[str], bytes | None],
    ) -> None:
        self._deliveries = deliveries
        self._fetcher = fetcher
        self._watcher = watcher
        self._body = body
        self._under_way: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Deliver until cancelled."""
        under_way = self._under_way
        while True:
            mark = self._watcher.mark()
            due = await asyncio.to_thread(self._deliveries.due, time.time(), 2 * _AT_ONCE)
            for delivery in due:
                if delivery.id not in under_way and len(under_way) < _AT_ONCE:
                    task = asyncio.create_task(self._deliver(delivery))
                    under_way[delivery.id] = task
                    task.add_done_callback(partial(_forget, under_way, delivery.id))
            await self._watcher.after(mark, _IDLE_SECONDS)
            # Most commits owe nothing to anybody: a burst of them is looked at once.
            await asyncio.sleep(_LEAST_SECONDS)

    async def _deliver(self, delivery: Delivery) -> None:
        answer, error, permanent = None, "", False
        # 1. What it says is what the prediction is now.
        body = await asyncio.to_thread(self._body, delivery.prediction_id)
        if body is None:
            return
        # 2. Send it, signed for this moment.
        now = int(time.time())
        headers = {
            "content-type": "application/json",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(delivery.secret, delivery.id, now, body),
        }
        try:
            answer = await self._fetcher.post(delivery.url, body, headers)
        except DeliveryFailed as failure:
            error, permanent = str(failure), self._fetcher.refusal(delivery.url) is not None
        # 3. Write down how it went.
        permanent = permanent or answer == _GONE
        state = await self._record(delivery, answer=answer, error=error, permanent=permanent)
        log.info(
            "webhook",
            prediction=delivery.prediction_id,
            state=state,
            answer=answer,
            error=error,
            tries=delivery.tries + 1,
        )

    async def _record(self, delivery: Delivery, **how: Any) -> str:
        """Until it is written down it counts as under way: a full disk here is no reason to send it once more."""
        while True:
            try:
                return await asyncio.to_thread(partial(self._deliveries.record, delivery, **how))
            except OperationalError as error:
                log.error("database not writable", error=str(error.orig))  # noqa: TRY400
                await asyncio.sleep(_IDLE_SECONDS)


def _forget(under_way: dict[str, asyncio.Task[None]], delivery_id: str, _ended: asyncio.Task[None]) -> None:
    del under_way[delivery_id]
