import io
import re

import pytest
from rich.console import Console

from depthwright.cli.progress import GenerationProgress
from depthwright.parameters import GenerationParameters
from tests.support.fake_engine import FakeEngine


@pytest.mark.parametrize("num_images", [1, 3])
def test_on_a_terminal_every_stage_ends_with_a_full_bar_of_its_rounds_or_steps(num_images: int) -> None:
    file = io.StringIO()
    parameters = GenerationParameters(prompt="x", num_images=num_images, num_inference_steps=5)
    with GenerationProgress(num_images, Console(file=file, force_terminal=True, width=100)) as progress:
        for event in FakeEngine().stream(parameters):
            progress.show(event)
    last_frame = file.getvalue().split("\x1b[2K")[-1]
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", last_frame)
    counts = dict(re.findall(r"^(\w+(?: \w+)?) +━+ +(\d+/\d+)", shown, re.MULTILINE))
    assert counts == {
        "Depth map": "1/1",
        "Prompt": "1/1",
        "Control latents": "1/1",
        "Denoising": f"{5 * num_images}/{5 * num_images}",
        "Decoding": f"{num_images}/{num_images}",
        "Fidelity": f"{num_images}/{num_images}",
    }
