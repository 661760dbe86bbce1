"""The receipt of a picture that nobody drew."""

from typing import Any

from depthwright.provenance.receipt import Receipt, UsedAcceleration, UsedLora


def made_up(request: dict[str, Any], pixels_sha256: str, **changes: Any) -> Receipt:
    """The second picture of a request of two with seed 7, unless changed."""
    facts: dict[str, Any] = {
        "image": 1,
        "seed": 8,
        "profile": "embedded",
        "model_version": "2-0123abcd",
        "acceleration": UsedAcceleration(level="regular", techniques=("step cache",)),
        "hardware": "cpu x86_64",
        "loras": (UsedLora(name="ink", digest="ef" * 32, scale=0.8),),
    }
    return Receipt(**({"request": request, "pixels_sha256": pixels_sha256} | facts | changes))
