"""The worker process: `python -m depthwright worker` runs it, under the server's supervisor or alone."""

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import structlog
from sqlalchemy.exc import OperationalError

from depthwright.events import Finished
from depthwright.parameters import GenerationParameters, Size
from depthwright.ports import Engine
from depthwright.provenance.marking import Marker
from depthwright.result import GenerationResult
from depthwright.service.database import Database
from depthwright.service.fetch import Fetcher
from depthwright.service.loras import Loras
from depthwright.service.outputs import Outputs
from depthwright.service.places import Places
from depthwright.service.preparing import Preparing
from depthwright.service.queue_sqlite import Queue
from depthwright.service.worker import Worker
from depthwright.settings import Settings

STARTING, READY = "starting", "ready"
_STUCK = 70
_WARM_UP = GenerationParameters(prompt="a sphere", size=Size(512, 512), num_inference_steps=2, seed=0)
log = structlog.get_logger()


def run(
    settings: Settings,
    worker_id: str,
    load: Callable[[], Engine],
    make_marker: Callable[[], Marker],
    *,
    attached: bool,
) -> None:
    """Load the model, make one real picture, then work until told to stop; `make_marker` makes what marks pictures.

    An attached worker stops when its standard input ends, as it does when the server is gone, however it went.
    """
    places = Places(settings.data_dir)
    database = Database(
        places.database, keep_prompts=settings.keep_prompts, keep_pictures=settings.audit_pictures
    )
    database.migrate()
    queue = Queue(database, worker_id)
    stop = threading.Event()
    _obey(stop, attached=attached)
    # 1. Appear, and beat from the first moment on.
    queue.register(STARTING)
    pulse = _Pulse(queue, settings)
    pulse.start()
    try:
        # 2. Load the model and make one real picture: before that nothing is promised.
        engine = load()
        made = _warm_up(engine)
        # 3. Work.
        outputs = Outputs(places.outputs, make_marker())
        preparing = Preparing(
            queue,
            lambda: Fetcher(allowed_hosts=settings.hosts),
            lambda fetcher: Loras(places, fetcher, settings),
            places.uploads,
            outputs,
            database.changes(),
        )
        worker = Worker(queue, engine, preparing, outputs, stop, free_memory=_free_memory)
        known_as = (READY, made.model_version, made.image_checker)
        pulse.watch(lambda: worker.last_step, known_as)
        queue.register(*known_as)
        log.info("ready", model=made.model_version, image_checker=made.image_checker)
        preparing.begin()
        worker.run()
        # 4. Give everything back.
        preparing.end()
    finally:
        pulse.stop()
        queue.leave()
        database.close()


def _warm_up(engine: Engine) -> GenerationResult:
    for event in engine.stream(_WARM_UP):
        if isinstance(event, Finished):
            return event.result
    raise RuntimeError("the engine ended without a result")


def _obey(stop: threading.Event, *, attached: bool) -> None:
    """Stop on SIGTERM, and on SIGINT or the end of standard input as the case may be."""
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if not attached:
        signal.signal(signal.SIGINT, lambda *_: stop.set())
        return
    # Ctrl-C reaches the whole group; the server decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait() -> None:
        sys.stdin.buffer.read()
        stop.set()

    threading.Thread(target=wait, name="parent", daemon=True).start()


class _Pulse:
    """Beats while the worker lives, and ends the process when its model is stuck: a new one starts in its place."""

    def __init__(self, queue: Queue, settings: Settings) -> None:
        self._queue = queue
        self._every = settings.lease_seconds / 5
        self._patience = settings.stall_seconds
        self._last_step: Callable[[], float] = time.monotonic
        self._known_as = (STARTING, "", "")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def watch(self, last_step: Callable[[], float], known_as: tuple[str, str, str]) -> None:
        self._last_step = last_step
        self._known_as = known_as

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._every):
            if time.monotonic() - self._last_step() > self._patience:
                log.critical("the model is stuck", seconds=self._patience)
                os._exit(_STUCK)  # what hangs in a driver hears no exception
            try:
                if not self._queue.beat():
                    log.warning("was taken for dead, appearing again")
                    self._queue.register(*self._known_as)
            except OperationalError as error:
                log.error("database not writable", error=str(error.orig))  # noqa: TRY400


def _free_memory() -> None:
    """Let go of what can be let go of; an accelerator's cache goes with it where torch is loaded."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
