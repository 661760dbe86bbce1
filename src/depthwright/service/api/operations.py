"""What the API does, whatever the dialect: the one set of operations."""

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi.concurrency import run_in_threadpool

from depthwright.errors import InvalidParameter, echo
from depthwright.loras import ALLOWED
from depthwright.prediction import Code, Fault, Prediction, Submission
from depthwright.request import PredictionRequest
from depthwright.safety.policy import Policy
from depthwright.service.api.answers import MODEL, Dialect, describe, upload_url
from depthwright.service.api.errors import NotFound
from depthwright.service.api.strict import read_json
from depthwright.service.auth import Caller, Keys
from depthwright.service.database import Database
from depthwright.service.deliveries import Deliveries
from depthwright.service.fetch import Fetcher
from depthwright.service.health import Reaper
from depthwright.service.images import parse_inline
from depthwright.service.limits import RateLimit
from depthwright.service.loras import refusal as lora_refusal
from depthwright.service.outputs import Outputs
from depthwright.service.store import Store
from depthwright.service.submissions import Submissions
from depthwright.service.uploads import Uploads
from depthwright.service.watcher import Watcher
from depthwright.settings import Settings

Source = Mapping[str, str] | None
_SMALL = 2_048
_ENFORCED = "enable_safety_checker: false was not followed: this server checks every picture."


@dataclass(frozen=True)
class Call:
    """Who calls, and how: the key's owner, the dialect, and this server's address as the caller knows it."""

    ops: "Operations"
    caller: Caller
    dialect: Dialect
    base_url: str


@dataclass(frozen=True)
class Operations:
    """Everything that endpoints work with."""

    settings: Settings
    database: Database
    keys: Keys
    limit: RateLimit
    store: Store
    submissions: Submissions
    uploads: Uploads
    outputs: Outputs
    deliveries: Deliveries
    fetcher: Fetcher
    loras: Path
    watcher: Watcher
    reaper: Reaper
    policy: Policy

    async def submit(
        self, call: Call, body: bytes, webhook: str | None = None, idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """Accept a request: on return it is on the disk, or, in sync mode, it has ended."""
        self.limit.spend(call.caller.key_id)
        # 1. Check all of it. What is small and names no picture is done before a thread would have begun with it.
        checked = partial(self._checked, call, body, webhook, idempotency_key)
        is_small = len(body) < _SMALL and b"control_image" not in body
        submission, request = checked() if is_small else await run_in_threadpool(checked)
        # 2. Into the queue.
        accepted = await asyncio.wrap_future(self.submissions.submit(submission))
        # 3. Answer, after the pictures in sync mode.
        if request.enable_sync_mode:
            return await self._wait(call, accepted.id)
        if accepted.is_new:
            return self.described(call, submission.as_prediction(accepted.position))
        return await run_in_threadpool(self.show, call, accepted.id)

    def show(self, call: Call, prediction_id: str) -> dict[str, Any]:
        """A prediction as the caller sees it. Raises NotFound."""
        return self.described(call, self.find(call, prediction_id))

    def find(self, call: Call, prediction_id: str) -> Prediction:
        """A prediction of this key. Raises NotFound."""
        prediction = self.store.get(prediction_id, call.caller.key_id)
        if prediction is None:
            raise NotFound(
                f"There is no prediction {echo(prediction_id)}; it may have been deleted or swept."
            )
        return prediction

    def described(self, call: Call, prediction: Prediction) -> dict[str, Any]:
        """A prediction's data in the caller's dialect."""
        return describe(prediction, call.dialect, call.base_url, self.outputs)

    async def answer(self, call: Call, prediction: Prediction) -> dict[str, Any]:
        """The same from the event loop, which reads no pictures."""
        if prediction.base64_output and prediction.outputs:
            return await run_in_threadpool(self.described, call, prediction)
        return self.described(call, prediction)

    def cancel(self, call: Call, prediction_id: str) -> dict[str, Any]:
        """Cancel a prediction; one that ended stays as it is. Raises NotFound."""
        self.store.cancel(prediction_id, call.caller.key_id)
        return self.show(call, prediction_id)

    def delete(self, call: Call, ids: list[str]) -> int:
        """Forget predictions and remove their pictures; how many there were."""
        gone = self.store.delete(ids, call.caller.key_id)
        for prediction_id in gone:
            self.outputs.remove(prediction_id)
        return len(gone)

    def webhook_body(self, prediction_id: str) -> bytes | None:
        """What a webhook says: the bare prediction. None if it is gone."""
        prediction = self.store.get(prediction_id)
        if prediction is None:
            return None
        data = describe(prediction, "v3", prediction.base_url, self.outputs)
        return json.dumps(data, separators=(",", ":")).encode()

    async def _wait(self, call: Call, prediction_id: str) -> dict[str, Any]:
        until = time.monotonic() + self.settings.sync_seconds
        while True:
            mark = self.watcher.mark()
            prediction = await run_in_threadpool(self.find, call, prediction_id)
            left = until - time.monotonic()
            if prediction.status.is_terminal or left <= 0:
                break
            await self.watcher.after(mark, left)
        data = await self.answer(call, prediction)
        if not prediction.status.is_terminal:
            waited, address = f"{self.settings.sync_seconds:g}", data["urls"]["get"]
            data |= {
                "status": "processing",
                "code": int(Code.SYNC_TIMEOUT),
                "error": f"Sync mode timed out after {waited} seconds: the prediction goes on, ask {address}.",
            }
        return data

    def _checked(
        self, call: Call, body: bytes, webhook: str | None, idempotency_key: str | None
    ) -> tuple[Submission, PredictionRequest]:
        # 1. JSON, of which NaN and lone surrogates are no part.
        raw = read_json(body)
        if isinstance(raw, dict) and webhook:
            raw["webhook_url"] = webhook
        digest = hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()
        # 2. The fields.
        request, warnings = PredictionRequest.read(raw, self.settings.size_bounds)
        if request.webhook_url and (why := self.fetcher.refusal(request.webhook_url)):
            raise InvalidParameter("webhook_url", request.webhook_url, f"an https URL: {why}")
        # 3. The control image: a stranger's address, or bytes that we keep from here on.
        shown, source = self._source(call, request.control_image)
        # 4. The LoRAs, as far as they can be judged from here.
        for each in request.loras:
            if why := lora_refusal(each.path, self.loras, self.fetcher):
                raise InvalidParameter("loras", each.path, f"{ALLOWED}: {why}")
        if request.loras and source is None:
            source = {}
        wanted = request.model_dump(mode="json") | {"control_image": shown}
        # 5. What the operator asks for, whatever the request says.
        if self.settings.enforce_checker and not request.enable_safety_checker:
            wanted["enable_safety_checker"] = True
            warnings = (*warnings, _ENFORCED)
        # 6. The prompt by the rules. What is refused is not kept.
        refusal = self.policy.judge(request.prompt)
        safety = {"prompt_policy": self.policy.version, "refused": refusal.category if refusal else None}
        if refusal:
            wanted["prompt"] = ""
        return (
            Submission(
                id=secrets.token_hex(16),
                key_id=call.caller.key_id,
                model=MODEL,
                input=wanted,
                seed=request.resolved_seed(),
                created_at=time.time(),
                source=source,
                base_url=call.base_url,
                warnings=warnings,
                webhook_url=request.webhook_url,
                base64_output=request.enable_base64_output,
                idempotency_key=idempotency_key,
                digest=digest if idempotency_key or not refusal else "",
                safety=safety,
                refused=Fault(Code.MODERATED, refusal.message, refusal.category) if refusal else None,
                prompt=request.prompt if refusal else "",
            ),
            request,
        )

    def _source(self, call: Call, control_image: str | None) -> tuple[str | None, Source]:
        """How the answer shows the control image, and where the worker finds it."""
        if control_image is None:
            return None, None
        data = parse_inline(control_image)
        if data is not None:
            upload = self.uploads.add(call.caller.key_id, data)
            return upload_url(call.base_url, upload.id), {"upload": upload.id}
        own = self._own(call, control_image)
        if own is not None:
            return control_image, own
        if refusal := self.fetcher.refusal(control_image):
            raise InvalidParameter("control_image", control_image, f"an https URL: {refusal}")
        return control_image, {"url": control_image}

    def _own(self, call: Call, url: str) -> Source:
        """An address of our own uploads or outputs: read from the disk, never asked for over the network."""
        bases = {call.base_url, self.settings.public_url or call.base_url}
        base = next((base for base in bases if url.startswith(f"{base.rstrip('/')}/")), None)
        if base is None:
            return None
        kind, _, name = urlsplit(url[len(base.rstrip("/")) + 1 :]).path.partition("/")
        if kind == "uploads" and self.uploads.find(name):
            return {"upload": name}
        if kind == "outputs" and self.store.publishes(name.partition("/")[0], name):
            return {"output": name}
        raise InvalidParameter("control_image", url, "an upload or a picture that is still on this server")
