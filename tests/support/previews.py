"""Previews where no image checker may hold them back."""

from PIL import Image

from depthwright.events import StepFinished


def seen(event: StepFinished) -> Image.Image:
    """The step's preview."""
    preview = event.preview()
    assert preview is not None
    return preview
