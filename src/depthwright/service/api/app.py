"""The application: its parts made, its background work started, its routes mounted."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import structlog
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from depthwright import __version__
from depthwright.safety.policy import load_policy
from depthwright.service import retention
from depthwright.service.api import document, errors, files, operating, v2, v3
from depthwright.service.api.body import BoundedBodies
from depthwright.service.api.operations import Operations
from depthwright.service.auth import Keys
from depthwright.service.database import Database
from depthwright.service.deliveries import Deliveries
from depthwright.service.fetch import Fetcher
from depthwright.service.gpus import gpus, shares
from depthwright.service.health import Reaper
from depthwright.service.limits import RateLimit
from depthwright.service.outputs import Outputs
from depthwright.service.places import Places
from depthwright.service.store import Store
from depthwright.service.submissions import Submissions
from depthwright.service.supervisor import Supervisor
from depthwright.service.uploads import Uploads
from depthwright.service.watcher import Watcher
from depthwright.service.webhooks import Deliverer
from depthwright.settings import Settings

_SWEEP_SECONDS = 3600
log = structlog.get_logger()


def make(
    settings: Settings, worker_command: Sequence[str] = (), on_ready: Callable[[], None] = lambda: None
) -> FastAPI:
    """The application; with a worker command it keeps worker processes alive as long as it runs.

    `on_ready` is called once, when the first worker has made a picture.
    """
    app = FastAPIOffline(
        title="depthwright",
        version=__version__,
        summary="FLUX with a depth control LoRA: a prompt and a depth map become a picture.",
        lifespan=lambda app: _lifespan(app, settings, worker_command, on_ready),
        redoc_url=None,
        strict_content_type=False,
        separate_input_output_schemas=False,
        redirect_slashes=False,  # a redirect would lose the key in some clients
        swagger_ui_parameters={"validatorUrl": None},  # no badge from another host
    )
    errors.install(app)
    app.add_middleware(BoundedBodies)
    bounds = settings.size_bounds
    for part in (v2.router(bounds), v3.router(bounds), files.router(), operating.router()):
        app.include_router(part)
    document.install(app)
    return app


@contextlib.asynccontextmanager
async def _lifespan(
    app: FastAPI, settings: Settings, worker_command: Sequence[str], on_ready: Callable[[], None]
) -> AsyncIterator[None]:
    places = Places(settings.data_dir)
    database = Database(places.database, keep_prompts=settings.keep_prompts)
    await asyncio.to_thread(database.migrate)
    store = Store(database, settings.concurrent_predictions)
    ops = Operations(
        settings=settings,
        database=database,
        keys=Keys(database),
        limit=RateLimit(settings.requests_per_minute),
        store=store,
        submissions=Submissions(store),
        uploads=Uploads(database, places.uploads),
        outputs=Outputs(places.outputs),
        deliveries=Deliveries(database),
        fetcher=Fetcher(allowed_hosts=settings.hosts),
        loras=places.loras,
        watcher=Watcher(database),
        reaper=Reaper(database, settings.lease_seconds),
        policy=load_policy(settings.categories_off),
    )
    app.state.operations = ops
    environment = settings.environment()
    # Whoever names a device has placed the workers already.
    found = gpus(environment) if settings.device is None else ()
    supervisor = Supervisor(
        database, worker_command, [{**environment, **each} for each in shares(settings.workers, found)]
    )
    deliverer = Deliverer(ops.deliveries, ops.fetcher, ops.watcher, ops.webhook_body)
    background = [
        asyncio.create_task(_for_ever(task))
        for task in (
            ops.watcher.run,
            deliverer.run,
            _every(min(1.0, settings.lease_seconds / 5), ops.reaper.look),
            _every(
                _SWEEP_SECONDS,
                lambda: retention.sweep(database, ops.outputs, ops.uploads, settings.retention_days),
            ),
        )
    ]
    background.append(asyncio.create_task(_tell(ops.reaper, on_ready)))
    if worker_command:
        supervisor.start()
    try:
        yield
    finally:
        await supervisor.stop()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await asyncio.to_thread(ops.submissions.close)
        await asyncio.to_thread(ops.keys.flush)
        await ops.fetcher.aclose()
        database.close()


async def _tell(reaper: Reaper, on_ready: Callable[[], None]) -> None:
    while not reaper.ready():  # noqa: ASYNC110 - what it waits for is in another process
        await asyncio.sleep(0.05)
    on_ready()


def _every(seconds: float, work: Callable[[], object]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        while True:
            await asyncio.to_thread(work)
            await asyncio.sleep(seconds)

    return run


async def _for_ever(work: Callable[[], Awaitable[None]]) -> None:
    """Background work outlives its errors: it is logged and goes on a moment later."""
    while True:
        try:
            await work()
        except Exception:  # the boundary: a full disk today must not end the webhooks for ever
            log.exception("background work failed")
        await asyncio.sleep(1)
