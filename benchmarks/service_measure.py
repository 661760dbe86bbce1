"""What is measured of our service, one question a function."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.service_client import LONGEST_SECONDS, Connection, Figures, data_of, load, percentile
from benchmarks.service_fill import ids, nothing_waits, wait_in
from benchmarks.service_ours import Depthwright
from benchmarks.service_picture import SIDE, black_png

_SUBMIT = "/api/v3/wavespeed-ai/flux-control-lora-depth"
HOLD_MS = (80, 20)
_MS = 1_000_000  # nanoseconds
PARTS = ("submit_to_start", "running", "finish_to_visible", "total")

Moments = dict[int, tuple[int, int]]


def submission(server: Depthwright, seed: int = 0, wait: tuple[int, int] = (0, 0), **more: object) -> bytes:
    """A request for one picture with the default control image, which takes so long before it and after it."""
    prompt = "nothing for {} ms and for {} ms".format(*wait)
    return server.request("POST", _SUBMIT, {"prompt": prompt, "size": f"{SIDE}*{SIDE}", "seed": seed, **more})


def added(
    server: Depthwright, way: str, number: int, first_seed: int, wait: tuple[int, int] = HOLD_MS
) -> list[dict[str, float]]:
    """Milliseconds that the service adds to each of so many predictions, one after another on an idle server.

    After a few seconds no more of them are sent.
    """
    seen = asyncio.run(_seen(server, way, range(first_seed, first_seed + number), wait))
    moments = _moments(server.log)
    rows = []
    for seed, (sent, visible) in seen.items():
        entered, left = moments[seed]
        held = sum(wait) * _MS
        parts = (entered - sent, left - entered - held, visible - left, visible - sent - held)
        rows.append({name: value / _MS for name, value in zip(PARTS, parts, strict=True)})
    return rows


def told(rows: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Median and 95th percentile of each part."""
    return {
        name: {
            f"p{share}": round(percentile([row[name] for row in rows], share / 100), 2) for share in (50, 95)
        }
        for name in PARTS
    }


def submissions(server: Depthwright, connections: int, number: int) -> Figures:
    """Submissions with nobody to take them up; the queue is empty before and after."""
    nothing_waits(server.folder)
    figures = load(server.api.address, [submission(server)] * number, connections)
    nothing_waits(server.folder)
    return figures


def polls(server: Depthwright, connections: int, number: int) -> Figures:
    """Look-ups of finished predictions from all over the table."""
    wanted = [
        server.request("GET", f"/api/v3/predictions/{each}/result") for each in ids(server.folder, number)
    ]
    return load(server.api.address, wanted, connections)


def lists(server: Depthwright, number: int) -> Figures:
    """The first page of the list, of a key that owns the whole table."""
    return load(server.api.address, [server.request("POST", "/api/v3/predictions", {"page": 1})] * number, 1)


def submissions_behind(server: Depthwright, waiting: int, number: int) -> Figures:
    """Submissions, one at a time, while so many wait already."""
    nothing_waits(server.folder)
    wait_in(server.folder, waiting)
    figures = load(server.api.address, [submission(server)] * number, 1)
    nothing_waits(server.folder)
    return figures


def syncs(server: Depthwright, connections: int, number: int) -> Figures:
    """Sync mode with the picture in the answer as base64: a request and a response, as the peers have it."""
    ask = submission(server, enable_sync_mode=True, enable_base64_output=True)
    return load(server.api.address, [ask] * number, connections)


def fsync_ms(folder: Path, number: int = 60) -> dict[str, float]:
    """How long this disk takes to make 4 KiB durable."""
    took = []
    with (folder / "probe").open("wb") as file:
        for _ in range(number):
            file.write(b"\0" * 4096)
            file.flush()
            took.append(_timed(lambda: os.fsync(file.fileno())))
    return {"p50": round(percentile(took, 0.5), 2), "p95": round(percentile(took, 0.95), 2)}


def encode_ms(number: int = 20) -> float:
    """How long the two pictures of one prediction take to encode."""
    return round(percentile([_timed(lambda: (black_png(), black_png("L"))) for _ in range(number)], 0.5), 2)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


async def _seen(
    server: Depthwright, way: str, seeds: Sequence[int], wait: tuple[int, int]
) -> dict[int, tuple[int, int]]:
    """When each was sent, and when its end was seen, in nanoseconds of the clock that the engine uses."""
    seen = {}
    async with asyncio.timeout(60 + len(seeds)):
        stop = time.perf_counter() + 2 * LONGEST_SECONDS
        for seed in seeds:
            if time.perf_counter() > stop:
                break
            connection = await Connection.to(server.api.address)
            ask = submission(server, seed, wait, enable_sync_mode=way == "sync")
            sent = time.perf_counter_ns()
            data = data_of(await connection.ask(ask))
            if way == "poll":
                await _poll(server, connection, data)
            elif way == "events":
                ask = server.request("GET", f"/api/v3/predictions/{data['id']}/events")
                await connection.follow(ask, b"event: end")
            seen[seed] = (sent, time.perf_counter_ns())
            connection.close()
    return seen


async def _poll(server: Depthwright, connection: Connection, data: dict[str, Any]) -> None:
    """Ask again at once, until it is completed: visible within the time of one poll."""
    ask = server.request("GET", f"/api/v3/predictions/{data['id']}/result")
    while data["status"] != "completed":
        data = data_of(await connection.ask(ask))


def _moments(log: Path) -> Moments:
    rows = (line.split() for line in log.read_text().splitlines())
    return {int(seed): (int(entered), int(left)) for seed, entered, left in rows}
