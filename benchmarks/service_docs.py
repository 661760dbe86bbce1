"""`docs/service-performance.md`, from one run."""

from pathlib import Path
from textwrap import fill
from typing import Any

from benchmarks.service_measure import HOLD_MS
from benchmarks.service_tables import Rows, goals, tables

PAGE = Path(__file__).parents[1] / "docs" / "service-performance.md"

TEXT = """# What the service adds, and what it bears

Measured by `{command}` on {hardware}, Python {versions[python]}, SQLite {versions[sqlite]}, in {seconds} s, while
other work took {others_percent}% of the machine's processors. Client, servers and workers share that machine, over
loopback. The engine does nothing: it yields a black picture of 512*512 and a black depth map, so that all the time
here is the service's own. Other work lengthens every time on this page; ratios, measured in turns within the run,
suffer less.

| goal | reached | |
|---|---|---|
{goals}

## Added to a prediction

Milliseconds, one prediction at a time on an idle server with {fewest} stored; median and 95th percentile.

{added}

*Submit to start* is from the first byte of the request to the moment the engine is entered: HTTP, checks, the
submission's commit, then the worker's claim and start, which do not wait for the disk. *While it runs* is what
reporting the progress costs the engine's loop, its own time taken off. *Finish to visible* is from the engine's last
event to the moment the client has read `completed`: the last commit, and the way to the client. Pictures are encoded
and made durable while the engine goes on: the depth map from the start, each picture from the moment that it is there.
So this engine, as ours does, has its picture {after} ms before its end, the time in which ours would measure the
picture's depth (0.04 s at 512*512, see [latency](latency.md)). An engine that ended with its picture would have the
client wait for the encoding too ({encode_ms} ms for both files by themselves): the whole predictions below, which hold
nothing, take {strict} ms from finish to visible in sync mode. This disk makes 4 KiB durable in {fsync_ms[p50]} ms (95th
percentile {fsync_ms[p95]} ms), and a prediction's own
commits wait for that twice.

The first goal counts submit to start and finish to visible, by the row that polls. A client that polls without a
pause takes processor time from the server that it waits for; sync mode does not.

## Requests

Requests a second by one client over 1, 8 and 32 connections, and milliseconds at one connection. Submissions are
answered after their commit (`synchronous=FULL`); no worker runs meanwhile, and the queue is emptied between the
rounds. All stored predictions belong to the key that asks, which is the worst case for the list.

{requests}

The most stored over {fewest}, by medians: {ratios}. The list's total is a counter; one that is narrowed, by status say,
counts rows, which takes longer the more there are. The database fits into the machine's memory here.

A submission's answer tells its place in the queue, which is counted too (median, one connection): {behind}.

One API process is one Python interpreter: a submission takes {cpu_ms[submit]} ms of its processor time and a look-up
{cpu_ms[poll]} ms (median of the rounds), and that, not the disk, bounds how many there are in a second.

The client itself reaches {client[1][per_s]:.0f}, {client[8][per_s]:.0f} and {client[32][per_s]:.0f} requests a second
over 1, 8 and 32 connections with a server that does nothing at all, so what is measured is the server.

## Beside other servers of models

{peers}

The same client asks for the same picture, which comes back as base64 in JSON; the servers are measured in turns in
one run, and stand still while another is measured. LitServe 0.2.19 and BentoML 1.4.40 run with one worker, as their
first steps show it, in environments of their own; LitServe brings uvloop and httptools. Ours is sync mode with one
worker.

They do less. Neither has a durable queue: what waits or runs is gone with the process, and an answer is lost when its
client goes away. Neither writes a picture to disk, keeps it, or makes a depth map beside it. The figures say what
those promises cost, not that one server does the same work faster.

## Memory, and idle

The API process had {api_rss_mb} MB of resident memory after the whole run, and at most {api_peak_mb} MB; torch was
{torch} in it. With nothing to do the API takes {idle_cpu_percent[api]}% of a core and a worker
{idle_cpu_percent[worker]}%: commits wake them, and they look for news four times a second besides.

## Again

`python -m benchmarks.service --docs` installs the two peers at first use, measures, and writes this page. `--quick`
is a smoke run of less than a minute, whose figures say little; `--folder` names another disk.
"""


def write_docs(figures: dict[str, Any]) -> None:
    """Write the page."""
    ratios = (
        f"{name.removesuffix('_1').replace('_', ' ')} {each:.2f}" for name, each in figures["ratios"].items()
    )
    behind = (f"{row['p50_ms']:.1f} ms behind {int(waiting):,}" for waiting, row in figures["behind"].items())
    texts = {
        "fewest": f"{int(next(iter(figures['at']))):,}",
        "after": HOLD_MS[1],
        "strict": next(iter(figures["at"].values()))["added_ms"]["finish_to_visible"]["p50"],
        "torch": "loaded" if figures["torch_loaded"] else "not loaded",
        "ratios": ", ".join(ratios),
        "behind": ", ".join(behind),
        "client": {int(connections): row for connections, row in figures["client"].items()},
        **{title.partition(" ")[0].lower(): _markdown(rows) for title, rows in tables(figures).items()},
        "goals": "\n".join(_markdown(goals(figures)).splitlines()[2:]),
    }
    PAGE.write_text(_folded(TEXT.format(**figures | texts)), encoding="utf-8")


def _folded(text: str) -> str:
    """Paragraphs folded again, once the figures are in them."""
    paragraphs = text.strip().split("\n\n")
    return (
        "\n\n".join(
            each if each[0] in "#|" else fill(each, 118, break_long_words=False, break_on_hyphens=False)
            for each in paragraphs
        )
        + "\n"
    )


def _markdown(rows: Rows) -> str:
    head, *body = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])
