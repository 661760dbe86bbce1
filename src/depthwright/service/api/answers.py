"""Answers: a prediction as a dialect tells it, and the envelope."""

import json
from base64 import b64encode
from typing import Any, Literal

from fastapi import Response

from depthwright.prediction import Prediction, Status, iso
from depthwright.service.outputs import Outputs

Dialect = Literal["v2", "v3"]
_NOT_JUDGED = {"image_checker": None, "prompt_policy": None, "refused": None}
MODEL = "wavespeed-ai/flux-control-lora-depth"


def describe(prediction: Prediction, dialect: Dialect, base_url: str, outputs: Outputs) -> dict[str, Any]:
    """A prediction as an answer's `data`.

    Clients of both dialects poll for ever on a status that they do not know, so what was cancelled is `failed` to them,
    and says `cancelled` beside it.
    """
    was_cancelled = prediction.status is Status.CANCELLED
    status = Status.FAILED if was_cancelled else prediction.status
    here = f"{base_url}/api/{dialect}/predictions/{prediction.id}"
    return {
        "id": prediction.id,
        "model": prediction.model,
        "outputs": _outputs(prediction, base_url, outputs),
        "urls": {
            "get": f"{here}/result",
            "cancel": f"{here}/cancel",
            "events": f"{here}/events",
            "webhooks": f"{here}/webhooks",
        },
        "has_nsfw_contents": list(prediction.nsfw),
        "status": str(status),
        "cancelled": was_cancelled,
        "created_at": iso(prediction.created_at),
        "error": prediction.error,
        "code": prediction.code,
        "executionTime": prediction.timings.get("inference", 0),
        "timings": {"inference": 0, **prediction.timings},
        "input": dict(prediction.input),
        "seed": prediction.seed,
        "control": file_url(base_url, prediction.control) if prediction.control else None,
        "fidelity": [dict(each) for each in prediction.fidelity],
        "progress": {"queue_position": prediction.position, **prediction.progress},
        "warnings": list(prediction.warnings),
        "model_version": prediction.model_version,
        "acceleration": dict(prediction.acceleration) or None,
        "loras": [dict(each) for each in prediction.loras],
        "safety": {**_NOT_JUDGED, **prediction.safety},
    }


def file_url(base_url: str, name: str) -> str:
    """The public address of an output."""
    return f"{base_url}/outputs/{name}"


def upload_url(base_url: str, upload_id: str) -> str:
    """The public address of an upload."""
    return f"{base_url}/uploads/{upload_id}"


def success(data: Any, status: int = 200) -> Response:
    """An answer in the envelope. Plain ASCII, so that nothing a stranger sent can break its encoding."""
    return _json({"code": 200, "message": "success", "data": data}, status)


def failure(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """An error in the envelope."""
    return _json({"code": status, "message": message}, status, headers)


def _json(content: object, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(
        json.dumps(content, allow_nan=False, separators=(",", ":")),
        status_code=status,
        headers=headers,
        media_type="application/json",
    )


def _outputs(prediction: Prediction, base_url: str, outputs: Outputs) -> list[str]:
    if not prediction.base64_output:
        return [file_url(base_url, name) for name in prediction.outputs]
    return [b64encode(outputs.read(name) or b"").decode() for name in prediction.outputs]
