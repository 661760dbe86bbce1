"""Control images are fetched and decoded ahead, several at once, so that the model never waits for a host."""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
from PIL import Image
from sqlalchemy.exc import OperationalError

from depthwright.errors import DepthwrightError, InvalidImage
from depthwright.loras import LoraFile
from depthwright.ports import OutputStore, Queue
from depthwright.prediction import Claim, Code, Fault, Lost, Work
from depthwright.service.database import Changes
from depthwright.service.fetch import Fetcher
from depthwright.service.images import decode_async
from depthwright.service.loras import Loras

MOST_AT_ONCE = 4
_WISH_SECONDS = 0.25
_DECODERS = 2
log = structlog.get_logger()


@dataclass(frozen=True)
class Prepared:
    """A prediction whose control image (None: the default one) and LoRAs are there; `seconds` is what that took."""

    work: Work
    image: Image.Image | None
    seconds: float
    loras: tuple[LoraFile, ...] = ()


class Preparing:
    """Claims and prepares in a thread of its own: one prediction waits ready, and up to four are fetched for that."""

    def __init__(
        self,
        queue_: Queue,
        fetcher: Callable[[], Fetcher],
        loras: Callable[[Fetcher], Loras],
        uploads: Path,
        outputs: OutputStore,
        changes: Changes,
    ) -> None:
        self._queue = queue_
        self._make_fetcher = fetcher
        self._make_loras = loras
        self._uploads = uploads
        self._outputs = outputs
        self._changes = changes
        self._is_idle = False
        self._ready: queue.Queue[Prepared] = queue.Queue()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run()), name="preparing", daemon=True
        )

    def begin(self) -> None:
        """Start to claim."""
        self._thread.start()

    def take(self, seconds: float) -> Prepared | None:
        """The next prediction that is ready; None if none was in that time."""
        self._is_idle = True
        try:
            prepared = self._ready.get(timeout=seconds)
        except queue.Empty:
            return None
        finally:
            self._is_idle = False
        self._changes.wake()  # there is room for the next one
        return prepared

    def end(self) -> None:
        """Claim nothing more, and drop what is under way: the worker's `leave` hands it back."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    async def _run(self) -> None:
        fetcher = self._make_fetcher()
        loras = self._make_loras(fetcher)
        decoders = asyncio.Semaphore(_DECODERS)
        under_way: set[asyncio.Task[None]] = set()
        maybe_waiting = True
        while not self._stop.is_set():
            try:
                maybe_waiting = self._changes.any() or maybe_waiting
                if maybe_waiting and self._ready.empty() and len(under_way) < MOST_AT_ONCE:
                    work = await self._claim(alone=not under_way)
                    maybe_waiting = work is not None
                    if work is not None and work.source is None:
                        self._ready.put(Prepared(work, None, 0.0))
                    elif work is not None:
                        task = asyncio.create_task(self._prepare(work, fetcher, loras, decoders))
                        under_way.add(task)
                        task.add_done_callback(under_way.discard)
                        task.add_done_callback(lambda _: self._changes.wake())
                    if work is not None:
                        continue
            except OperationalError as error:
                log.error("database not writable", error=str(error.orig))  # noqa: TRY400
                await asyncio.sleep(1)
            await self._changes.news()
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await fetcher.aclose()

    async def _claim(self, *, alone: bool) -> Work | None:
        """While nothing is under way nobody suffers from waiting for the database here, and no thread need be woken."""
        idle = self._is_idle and alone
        return self._queue.claim(idle=idle) if alone else await asyncio.to_thread(self._queue.claim)

    async def _prepare(self, work: Work, fetcher: Fetcher, loras: Loras, decoders: asyncio.Semaphore) -> None:
        started = time.perf_counter()

        async def get() -> tuple[Image.Image | None, tuple[LoraFile, ...]]:
            image = await self._image(work.source, fetcher, decoders)
            return image, tuple([await loras.get(each) for each in work.input.get("loras", ())])

        getting = asyncio.create_task(get())
        try:
            while not (await asyncio.wait({getting}, timeout=_WISH_SECONDS))[0]:
                await asyncio.to_thread(self._heed, work.claim)
            image, files = await getting
        except Lost:
            await asyncio.to_thread(self._queue.cancelled, work.claim)
        except DepthwrightError as error:
            fault = Fault(Code.MEDIA, str(error))
            if await self._persist(lambda: self._queue.fail(work.claim, fault)):
                log.warning("failed", prediction=work.claim.id, code=int(fault.code), error=fault.message)
        except Exception:  # the boundary: one broken prediction must not end the worker
            log.exception("broken", prediction=work.claim.id)
            fault = Fault(Code.INTERNAL, "The server could not prepare what the request brings.")
            await self._persist(lambda: self._queue.fail(work.claim, fault))
        else:
            self._ready.put(Prepared(work, image, time.perf_counter() - started, files))
        finally:
            getting.cancel()

    async def _image(
        self, source: Mapping[str, str] | None, fetcher: Fetcher, decoders: asyncio.Semaphore
    ) -> Image.Image | None:
        # 1. Get the bytes: from the address that was named, or from our own disk.
        match source:
            case _ if not source:
                return None
            case {"url": url}:
                data = await fetcher.fetch(url)
            case {"upload": name}:
                data = await asyncio.to_thread(_read, self._uploads / name)
            case {"output": name}:
                data = await asyncio.to_thread(_read, self._outputs.path(name))
            case _:
                raise ValueError(f"unknown source {source}")
        # 2. Decode them in a process that can die alone.
        async with decoders:
            return await decode_async(data)

    def _heed(self, claim: Claim) -> None:
        with contextlib.suppress(OperationalError):
            if self._queue.wishes(claim)[0]:
                raise Lost

    async def _persist(self, write: Callable[[], bool]) -> bool:
        while True:
            try:
                return await asyncio.to_thread(write)
            except OperationalError as error:
                log.error("database not writable", error=str(error.orig))  # noqa: TRY400
                await asyncio.sleep(1)


def _read(path: Path | None) -> bytes:
    try:
        if path is not None:
            return path.read_bytes()
    except FileNotFoundError:
        pass
    raise InvalidImage("The control image is no longer on this server: upload it again.")
