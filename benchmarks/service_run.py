"""One run: everything that is compared is up at once, and measured in turns while the others stand still."""

import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from rich.progress import Progress

from benchmarks import service_measure as measure
from benchmarks.service_client import Figures, load, request
from benchmarks.service_fill import fill
from benchmarks.service_ours import Depthwright
from benchmarks.service_peers import Peer, predictions, start
from benchmarks.service_process import Server, listening

CONNECTIONS = (1, 8, 32)
PEER_CONNECTIONS = (1, 8)
WAYS = ("poll", "sync", "events")
_IDLE_SECONDS = 2.0

Told = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How much is measured; `added` and `requests` count for each round and each thing compared."""

    stored: tuple[int, ...] = (1_000, 100_000, 1_000_000)
    rounds: int = 4
    added: int = 20
    requests: int = 200
    waiting: int = 10_000


def run(plan: Plan, folder: Path, peers: Sequence[Peer]) -> Told:
    """Start, measure, end."""
    with ExitStack() as stack, Progress(refresh_per_second=2) as progress:
        probes = _probes(plan, folder, stack)
        # 1. The same server over more and more stored predictions, each with a worker; and the peers.
        ours = _servers(plan, folder, stack, progress)
        theirs: list[Server] = []
        for peer in progress.track(peers, description="starting the peers"):
            theirs.append(start(peer, folder))
            stack.callback(theirs[-1].end)
            theirs[-1].pause()
        # 2. The whole way of a prediction, and the peers' way with nothing.
        figures = _whole(plan, ours, progress)
        figures["peers"] = _beside(plan, ours[plan.stored[0]], theirs, progress)
        figures["idle_cpu_percent"] = _idle(ours[plan.stored[0]])
        # 3. Single requests, with nobody who takes the submissions up.
        for server in ours.values():
            with server.running():
                server.rest()
        figures |= _single(plan, ours, figures.pop("whole"), progress)
        figures["behind"] = _behind(plan, ours[plan.stored[0]])
        memories = [server.memory() for server in ours.values()]
    figures["api_rss_mb"], figures["api_peak_mb"] = (
        round(max(each[n] for each in memories), 1) for n in (0, 1)
    )
    return figures | {"torch_loaded": any(memory[2] for memory in memories), **probes}


def _probes(plan: Plan, folder: Path, stack: ExitStack) -> Told:
    """What the machine gives, whoever asks."""
    floor = Server("client", [sys.executable, "-m", "benchmarks.service_client"], folder / "client.txt")
    stack.callback(floor.end)
    floor.says("listens on")
    floor.address = listening(floor.said())
    ask = [request(floor.address, "GET", "/")] * plan.requests * 5
    reached = {str(connections): load(floor.address, ask, connections).told() for connections in CONNECTIONS}
    floor.pause()
    return {"fsync_ms": measure.fsync_ms(folder), "encode_ms": measure.encode_ms(), "client": reached}


def _servers(plan: Plan, folder: Path, stack: ExitStack, progress: Progress) -> dict[int, Depthwright]:
    # One real prediction is the template of all that are stored.
    (folder / "first").mkdir()
    first = Depthwright("first", folder / "first")
    with ExitStack() as first_stack:
        first_stack.callback(first.end)
        first.work()
        measure.added(first, "sync", 1, first_seed=1, wait=(0, 0))
    bar = progress.add_task("storing predictions", total=sum(plan.stored))
    for stored in plan.stored:
        fill(first.folder, folder / str(stored), stored, lambda done: progress.advance(bar, done))
    servers = {}
    for stored in progress.track(plan.stored, description="starting our servers"):
        servers[stored] = Depthwright(str(stored), folder / str(stored), first.key)
        stack.callback(servers[stored].end)
        servers[stored].work()
        servers[stored].pause()
    return servers


def _whole(plan: Plan, servers: dict[int, Depthwright], progress: Progress) -> Told:
    """What the service adds to a prediction: by each way of seeing its end, and at each number of stored ones."""
    ways: dict[str, list[dict[str, float]]] = defaultdict(list)
    whole: dict[int, list[dict[str, float]]] = defaultdict(list)
    seeds = count(1_000, plan.added)
    for _ in progress.track(range(plan.rounds), description="whole predictions"):
        with servers[plan.stored[0]].running():
            for way in WAYS:
                ways[way] += measure.added(servers[plan.stored[0]], way, plan.added, next(seeds))
        for stored, server in servers.items():
            with server.running():
                whole[stored] += measure.added(server, "sync", plan.added, next(seeds), wait=(0, 0))
    by_way = {way: measure.told(rows) for way, rows in ways.items()}
    return {"added_ms": by_way["poll"], "added_ms_by": by_way, "whole": whole}


def _beside(plan: Plan, ours: Depthwright, peers: Sequence[Server], progress: Progress) -> Told:
    """Requests for a picture, of ours in sync mode and of the peers."""
    found: dict[str, dict[int, Figures]] = defaultdict(lambda: defaultdict(Figures))
    for _ in progress.track(range(plan.rounds), description="beside the peers"):
        for connections in PEER_CONNECTIONS:
            with ours.running():
                found["depthwright"][connections] += measure.syncs(
                    ours, connections, plan.added * connections
                )
            for peer in peers:
                with peer.running():
                    found[peer.name][connections] += predictions(peer, connections, plan.added * connections)
    return {
        name: {str(each): figures.told() for each, figures in rows.items()} for name, rows in found.items()
    }


def _single(
    plan: Plan, servers: dict[int, Depthwright], whole: dict[int, list[dict[str, float]]], progress: Progress
) -> Told:
    found: dict[int, dict[str, Figures]] = {stored: defaultdict(Figures) for stored in servers}
    processor: dict[str, list[float]] = defaultdict(list)
    for _ in progress.track(range(plan.rounds), description="single requests"):
        for stored, server in servers.items():
            rows = found[stored]
            with server.running():
                for connections in CONNECTIONS:
                    for kind, ask in (("submit", measure.submissions), ("poll", measure.polls)):
                        before = server.api.cpu_seconds()
                        figures = ask(server, connections, plan.requests)
                        spent = (server.api.cpu_seconds() - before) * 1000 / len(figures.took)
                        rows[f"{kind}_{connections}"] += figures
                        processor[kind].append(spent)
                rows["list_1"] += measure.lists(server, plan.requests // 10)
    at = {
        str(stored): {name: figures.told() for name, figures in rows.items()}
        | {"added_ms": measure.told(whole[stored])}
        for stored, rows in found.items()
    }
    return {"at": at, "cpu_ms": {kind: round(median(spent), 2) for kind, spent in processor.items()}}


def _behind(plan: Plan, server: Depthwright) -> Told:
    """Submissions while others wait, as many as the limit allows by default and many more."""
    with server.running():
        numbers = (0, 100, plan.waiting)
        return {str(each): measure.submissions_behind(server, each, plan.requests).told() for each in numbers}


def _idle(server: Depthwright) -> dict[str, float]:
    """The share of one core that an idle server and an idle worker take."""
    assert server.worker is not None
    with server.running():
        time.sleep(1)
        before = (server.api.cpu_seconds(), server.worker.cpu_seconds(), time.monotonic())
        time.sleep(_IDLE_SECONDS)
        after = (server.api.cpu_seconds(), server.worker.cpu_seconds(), time.monotonic())
    api, worker, seconds = (late - early for late, early in zip(after, before, strict=True))
    return {"api": round(100 * api / seconds, 1), "worker": round(100 * worker / seconds, 1)}
