"""The model that ships: what it draws, byte for byte and at a glance."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from depthwright.engine.depth import to_array
from depthwright.engine.engine import DEFAULT_CONTROL, Engine
from depthwright.engine.fidelity import measure
from tests.support.golden import FOLDER, PROMPTS, draw

SCRIPT = """
import hashlib
from depthwright import Engine
image = Engine.load("embedded").generate(prompt={prompt!r}, seed=7).images[0]
assert image.size == (864, 1636)
print(hashlib.sha256(image.tobytes()).hexdigest())
"""


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load("embedded")


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_threads_in_any_process(engine: Engine) -> None:
    """At the served size, after other requests here, and in fresh processes there."""
    draw(engine, control_scale=0.4, seed=1)
    here = engine.generate(prompt=PROMPTS["room"], seed=7).images[0]
    digests = {hashlib.sha256(here.tobytes()).hexdigest()}
    for threads in ("1", "2", "5"):
        script = SCRIPT.format(prompt=PROMPTS["room"])
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        answer = subprocess.run(
            [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True
        )
        digests.add(answer.stdout.strip())
    assert len(digests) == 1


@pytest.mark.parametrize("name", PROMPTS)
def test_the_golden_pictures_are_drawn_again(name: str, engine: Engine) -> None:
    """Other processors may differ in last bits, which denoising carries on: a threshold, not equality."""
    golden = np.asarray(Image.open(FOLDER / f"{name}.png"), dtype=float)
    picture = np.asarray(draw(engine, prompt=PROMPTS[name]), dtype=float)
    assert picture.shape == golden.shape
    error = float(np.sqrt(((picture - golden) ** 2).mean()))
    assert error < 4, f"{name} is {error:.1f} of 255 away from its golden picture"


def test_golden_pictures_of_other_prompts_would_not_pass(engine: Engine) -> None:
    beach = np.asarray(draw(engine, prompt=PROMPTS["beach"]), dtype=float)
    room = np.asarray(Image.open(FOLDER / "room.png"), dtype=float)
    assert np.sqrt(((beach - room) ** 2).mean()) > 20


def test_the_picture_follows_the_depth_map_under_control_and_not_without(engine: Engine) -> None:
    control = engine.generate(prompt=PROMPTS["room"], size="512*768", seed=7).fidelity[0]
    base = engine.generate(prompt=PROMPTS["room"], size="512*768", seed=7, control_scale=0).fidelity[0]
    assert control.residual_correlation is not None
    assert base.residual_correlation is not None
    assert control.residual_correlation > 0.5
    assert control.residual_correlation > base.residual_correlation + 0.3
    assert control.rmse < base.rmse


def test_at_scale_0_the_depth_map_leaves_no_trace_not_even_of_enlarging(engine: Engine) -> None:
    other = Image.radial_gradient("L").resize((512, 512))
    first, second = (
        engine.generate(prompt=PROMPTS["room"], size="512*512", seed=7, control_scale=0, control_image=image)
        for image in (None, other)
    )
    assert first.images[0].tobytes() == second.images[0].tobytes()


def test_a_colour_word_colours_what_the_depth_map_shows(engine: Engine) -> None:
    """The sphere on the left of the default control image."""
    for channel, colour in enumerate(("red", "green", "blue")):
        prompt = f"a {colour} sphere on a wooden floor with a white wall, in soft studio light"
        sphere = draw(engine, prompt=prompt, size="864*1636", seed=8).crop((150, 800, 380, 1000))
        mean = np.asarray(sphere, dtype=float).mean((0, 1))
        assert mean[channel] > 1.5 * max(np.delete(mean, channel)), f"{colour}: {mean}"


def test_the_depth_estimator_sees_what_the_default_control_image_shows(engine: Engine) -> None:
    """A true picture of that scene would do better; the model's own is what there is."""
    picture = draw(engine, size="864*1636")
    seen = to_array(engine.depth(picture))
    correlation = measure(to_array(Image.open(DEFAULT_CONTROL)), seen).residual_correlation
    assert correlation is not None
    assert correlation > 0.4


def test_guidance_acts_and_beyond_what_pictures_bear_it_gives_what_they_bear_most(engine: Engine) -> None:
    """A request may ask for 30; 8 is where more no longer weighs more."""
    plain, most, beyond = (
        np.asarray(draw(engine, guidance_scale=told, size="512*512"), dtype=float) for told in (1, 8, 30)
    )
    away, apart = (np.mean((one - most) ** 2) for one in (plain, beyond))
    assert away > 30
    assert apart < away
    assert apart < 130, "27 dB: nearly the same picture, where noise would be another"
