"""A request's way to a server and its pictures' way back."""

import asyncio
import io
import logging
import secrets
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from PIL import Image
from pydantic import SecretStr

from depthwright.clients import AsyncClient, Generated, Prediction, Update
from depthwright.clients.errors import clean
from depthwright.errors import DepthwrightError

from . import adapter
from .connections import Connection
from .errors import NotFetched, StillWorking
from .hosted import HostedClient
from .waiting import interruptible

_LOG = logging.getLogger(__name__)
_PATIENCE_SECONDS = 60.0
_CANCEL_SECONDS = 10.0


@dataclass(frozen=True)
class Made:
    """The pictures of a completed prediction, and the depth map that they follow where the server tells it."""

    generated: Generated
    depth: Image.Image | None


async def generate(
    connection: Connection, key: SecretStr, fields: Mapping[str, Any], control: Image.Image | None
) -> Made:
    """Send, wait with progress, fetch. An interrupt cancels the prediction on the server.

    Raises adapter.Interrupted, StillWorking, NotFetched, and what the client raises.
    """
    async with _client(connection, key) as client:
        body = dict(fields)
        # 1. The control image, as an upload.
        if control is not None:
            body["control_image"] = await interruptible(client.upload(control))
        # 2. The request, and how it goes.
        prediction = await _completed(connection, client, body)
        # 3. The pictures.
        return await _fetched(client, prediction)


async def fetch(connection: Connection, key: SecretStr, request_id: str) -> Made:
    """The pictures of a prediction that was sent before, waited for if it has not ended. Raises as `generate`."""
    async with _client(connection, key) as client:
        prediction = await interruptible(client.get(request_id))
        ended = await interruptible(_followed(connection, client, prediction))
        return await _fetched(client, ended.completed())


def _client(connection: Connection, key: SecretStr) -> AsyncClient:
    patience = min(_PATIENCE_SECONDS, connection.timeout)
    if connection.dialect == "wavespeed":
        return HostedClient(connection.server, key, patience=patience)
    return AsyncClient(connection.server, key, patience=patience)


async def _completed(connection: Connection, client: AsyncClient, body: Mapping[str, Any]) -> Prediction:
    once = secrets.token_hex(16)
    prediction: Prediction | None = None
    try:
        prediction = await interruptible(client.submit(idempotency_key=once, **body))
        prediction = await interruptible(_followed(connection, client, prediction))
    except (adapter.Interrupted, asyncio.CancelledError):
        await _cancel(connection, client, prediction, once, body)
        raise
    for warning in prediction.warnings:
        _LOG.warning("depthwright: %s", clean(warning))
    return prediction.completed()


async def _followed(connection: Connection, client: AsyncClient, prediction: Prediction) -> Prediction:
    """The prediction when it has ended. Raises StillWorking."""
    last = prediction
    try:
        async with asyncio.timeout(connection.timeout):
            if connection.dialect == "wavespeed":
                while not last.is_ended:
                    await asyncio.sleep(connection.poll_seconds)
                    last = await client.get(prediction.id)
                return last
            async with aclosing(client.stream(prediction.id)) as told:
                async for update in told:
                    last = update.prediction
                    _show(update)
    except TimeoutError:
        raise StillWorking(clean(prediction.id), clean(last.status), connection.timeout) from None
    return last


def _show(update: Update) -> None:
    told = update.progress
    if told.steps and told.num_images:
        done = max(0, told.image - 1) * told.steps + told.step
        adapter.show_progress(done, told.num_images * told.steps, _thumbnail(update.preview))


def _thumbnail(preview: bytes | None) -> Image.Image | None:
    if preview is None:
        return None
    try:
        return Image.open(io.BytesIO(preview)).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):  # news without its thumbnail is still news
        return None


async def _fetched(client: AsyncClient, prediction: Prediction) -> Made:
    try:
        generated = await interruptible(client.pictures(prediction))
        depth = await interruptible(client.picture(prediction.control)) if prediction.control else None
    except DepthwrightError as error:
        raise NotFetched(clean(prediction.id), error) from error
    return Made(generated, depth)


async def _cancel(
    connection: Connection,
    client: AsyncClient,
    prediction: Prediction | None,
    once: str,
    body: Mapping[str, Any],
) -> None:
    if connection.dialect == "wavespeed":
        told = clean(prediction.id) if prediction else "just sent"
        _LOG.warning("depthwright: %s cannot stop the request %s: it goes on there.", connection.server, told)
        return
    try:
        async with asyncio.timeout(_CANCEL_SECONDS):
            # Without an answer yet, sending the same again tells the id of what may have been accepted.
            known = prediction or await client.submit(idempotency_key=once, **body)
            await client.cancel(known.id)
    except (DepthwrightError, TimeoutError) as error:
        _LOG.warning("depthwright: the request could not be cancelled on the server: %s", error)
