"""What the service adds to a picture, and what it bears: an engine that does nothing, beside LitServe and BentoML.

    python -m benchmarks.service [--quick] [--no-peers] [--docs] [--folder FOLDER]

Client, servers and worker share one machine, over loopback. Whatever is compared is measured in one run, in turns, and
while one server is measured the others stand still. Linux only.
"""

import argparse
import json
import os
import platform
import resource
import signal
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import processor
from benchmarks.service_docs import write_docs
from benchmarks.service_peers import PEERS, install
from benchmarks.service_run import Plan, run
from benchmarks.service_tables import show
from benchmarks.service_verdict import verdict

QUICK = Plan(stored=(1_000, 20_000), rounds=1, added=5, requests=40, waiting=1_000)


def main() -> None:
    """Measure, tell."""
    options = _options()
    # Told to end, it ends what it started too: what stands still would stand for ever.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    peers = () if options.no_peers else PEERS
    for peer in peers:
        install(peer)
    before, started = _others(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="depthwright-benchmark-", dir=options.folder) as folder:
        figures = run(QUICK if options.quick else Plan(), Path(folder), peers)
    facts = {
        "command": " ".join(["python -m benchmarks.service", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - started),
        "hardware": processor(),
        "others_percent": round(
            100 * (_others() - before) / (time.monotonic() - started) / (os.cpu_count() or 1), 1
        ),
        "versions": {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version},
    }
    figures = {**facts, **verdict(figures), **figures}
    show(figures)
    if options.docs:
        write_docs(figures)
    print(json.dumps(figures))


def _others() -> float:
    """Seconds on the processors so far of whatever is not this run: it disturbs the figures, so it is told."""
    busy = sum(int(each) for each in Path("/proc/stat").read_text().split()[1:4]) / os.sysconf("SC_CLK_TCK")
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return busy - sum(each.ru_utime + each.ru_stime for each in spent)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run: it works, its figures say little")
    parser.add_argument("--no-peers", action="store_true", help="install and measure no other server")
    parser.add_argument("--docs", action="store_true", help="rewrite docs/service-performance.md")
    parser.add_argument("--folder", type=Path, help="where data is put meanwhile; its disk is in the figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
