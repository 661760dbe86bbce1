"""From what an engine says of its pictures to their receipts."""

from PIL import Image

from depthwright.provenance.pixels import pixel_hash
from depthwright.provenance.receipt import Receipt, UsedAcceleration, UsedLora
from depthwright.result import Origin


def receipt_for(origin: Origin, index: int, picture: Image.Image) -> Receipt:
    """The receipt of image `index` (from 0), which is this picture, with its prompt."""
    return Receipt(
        request=origin.parameters.model_dump(mode="json"),
        image=index,
        seed=origin.seeds[index],
        control_sha256=origin.control_sha256,
        profile=origin.profile,
        model_version=origin.model_version,
        acceleration=UsedAcceleration(level=origin.parameters.acceleration, techniques=origin.techniques),
        hardware=origin.hardware,
        loras=tuple(UsedLora(name=each.name, digest=each.digest, scale=each.scale) for each in origin.loras),
        pixels_sha256=pixel_hash(picture),
    )
