"""What a scene is, how one is drawn at random, and how a caption tells it.

A scene is data only: shapes on a floor, a backdrop, a light and a camera. `render.py` turns it into pixels and
depth, `captions.py` into words. Lengths are metres, y is up, the camera stands at the origin's side looking along +z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

Rgb = tuple[float, float, float]

# Linear-light albedos, chosen to stay apart under every light below.
COLOURS: dict[str, Rgb] = {
    "red": (0.72, 0.04, 0.04),
    "orange": (0.90, 0.28, 0.02),
    "yellow": (0.90, 0.72, 0.03),
    "green": (0.05, 0.42, 0.07),
    "cyan": (0.05, 0.65, 0.68),
    "blue": (0.03, 0.09, 0.70),
    "purple": (0.26, 0.04, 0.48),
    "pink": (0.95, 0.38, 0.55),
    "brown": (0.20, 0.08, 0.03),
    "white": (0.92, 0.92, 0.92),
    "grey": (0.28, 0.28, 0.28),
    "black": (0.015, 0.015, 0.015),
}

SHAPES = ("sphere", "cube", "cylinder", "cone", "pyramid", "capsule")
MOST_THINGS = 4
FLOORS = ("wood", "checkered", "tiles", "grass", "sand", "snow")
WALLS: dict[str, Rgb] = {
    "white": (0.80, 0.80, 0.78),
    "brick": (0.42, 0.12, 0.07),
    "blue": (0.16, 0.28, 0.52),
    "green": (0.22, 0.40, 0.24),
    "yellow": (0.78, 0.62, 0.25),
    "pink": (0.80, 0.46, 0.50),
}
RELIEFS = ("hills", "mountains", "trees")
STYLES = ("plain", "sketch", "neon", "watercolour")


@dataclass(frozen=True)
class Light:
    """A sun and an ambient term, in linear light; `top` and `horizon` colour the sky; `haze` fades a metre's share."""

    sun: Rgb
    ambient: Rgb
    top: Rgb
    horizon: Rgb
    elevation: tuple[float, float]
    haze: float = 0.0


LIGHTS: dict[str, Light] = {
    "day": Light((1.00, 0.96, 0.88), (0.34, 0.38, 0.44), (0.12, 0.33, 0.80), (0.62, 0.78, 0.95), (35, 65)),
    "sunset": Light((1.10, 0.52, 0.20), (0.30, 0.20, 0.22), (0.26, 0.16, 0.34), (1.00, 0.42, 0.14), (14, 26)),
    "night": Light(
        (0.20, 0.26, 0.46), (0.07, 0.09, 0.18), (0.005, 0.008, 0.03), (0.03, 0.05, 0.14), (35, 60)
    ),
    "overcast": Light(
        (0.22, 0.22, 0.23), (0.56, 0.58, 0.60), (0.48, 0.52, 0.56), (0.72, 0.74, 0.76), (50, 75)
    ),
    "studio": Light((0.62, 0.60, 0.57), (0.52, 0.51, 0.50), (0.86, 0.86, 0.85), (0.62, 0.62, 0.62), (45, 70)),
    "fog": Light(
        (0.10, 0.10, 0.10), (0.52, 0.54, 0.56), (0.66, 0.68, 0.70), (0.66, 0.68, 0.70), (50, 75), 0.07
    ),
}


@dataclass(frozen=True)
class Thing:
    """An object standing on the floor at (x, 0, z); `radius` is half its width, `height` its full height."""

    shape: str
    colour: str
    shiny: bool
    x: float
    z: float
    radius: float
    height: float
    turn: float


@dataclass(frozen=True)
class Camera:
    """A pinhole at (0, height, 0), pitched down by `pitch` radians; `fov` spans the frame's shorter side."""

    height: float
    pitch: float
    fov: float


@dataclass(frozen=True)
class Scene:
    """All that renderer and captions need. `wall` None means open air; `wall_z` is the back wall's distance.

    `relief` is what stands at the horizon of an open scene; `style` is how the finished picture is drawn.
    """

    things: tuple[Thing, ...]
    floor: str
    wall: str | None
    wall_z: float
    side_walls: float | None
    light: str
    sun_azimuth: float
    sun_elevation: float
    camera: Camera
    seed: int
    relief: str | None = None
    style: str = "plain"

    def recoloured(self, index: int, colour: str) -> Scene:
        """The same scene with one object in another colour: the oracle of the colour measure."""
        things = list(self.things)
        things[index] = replace(things[index], colour=colour)
        return replace(self, things=tuple(things))

    def mirrored(self) -> Scene:
        """The scene as a mirror shows it, for the words of a mirrored picture (turns and the sun are not told)."""
        return replace(self, things=tuple(replace(thing, x=-thing.x) for thing in self.things))


def random_scene(rng: np.random.Generator, aspect: float = 1.0, seed: int = 0) -> Scene:
    """Draw a scene for a frame of the given width / height; objects fit the view and do not overlap."""
    camera = Camera(
        height=float(rng.uniform(1.0, 2.1)),
        pitch=float(rng.uniform(0.10, 0.32)),
        fov=float(rng.uniform(0.72, 0.98)),
    )
    indoors = bool(rng.random() < 0.5)
    lights = (
        ("day", "sunset", "night", "studio") if indoors else ("day", "sunset", "night", "overcast", "fog")
    )
    light = str(rng.choice(lights, p=(0.25, 0.2, 0.2, 0.35) if indoors else (0.3, 0.22, 0.16, 0.16, 0.16)))
    floors: tuple[str, ...] = ("wood", "checkered", "tiles") if indoors else ("grass", "sand", "snow")
    if rng.random() < 0.25:
        floors = FLOORS
    things = _random_things(rng, camera, aspect, count=int(rng.choice((1, 2, 3, 4), p=(0.3, 0.3, 0.2, 0.2))))
    low, high = LIGHTS[light].elevation
    return Scene(
        things=things,
        floor=str(rng.choice(floors)),
        wall=str(rng.choice(list(WALLS))) if indoors else None,
        wall_z=float(max(t.z + t.radius for t in things) + rng.uniform(0.6, 3.0)),
        side_walls=float(rng.uniform(2.2, 3.6)) if indoors and rng.random() < 0.4 else None,
        light=light,
        sun_azimuth=float(rng.uniform(-math.pi * 0.85, math.pi * 0.85)),
        sun_elevation=math.radians(float(rng.uniform(low, high))),
        camera=camera,
        seed=seed,
        relief=None if indoors or rng.random() < 0.4 else str(rng.choice(RELIEFS)),
        style=str(rng.choice(STYLES, p=(0.58, 0.14, 0.14, 0.14))),
    )


def _random_things(rng: np.random.Generator, camera: Camera, aspect: float, count: int) -> tuple[Thing, ...]:
    things: list[Thing] = []
    colours = rng.permutation(list(COLOURS))
    half_width = math.tan(camera.fov / 2) * max(1.0, aspect)
    # The more there are, the smaller they are drawn; what finds no free place is left out.
    shrink = (1.0, 0.85, 0.75, 0.65)[count - 1]
    for _ in range(300):
        if len(things) == count:
            break
        z = float(rng.uniform(3.0, 5.0 if count == 1 else 6.0))
        reach = half_width * z
        radius = float(rng.uniform(0.45, 0.95)) * shrink * min(1.0, 0.55 + aspect / 2)
        reach -= radius * 0.8
        x = float(rng.uniform(-reach, reach)) if reach > 0 else 0.0
        shape = str(rng.choice(SHAPES))
        height = _height(rng, shape, radius)
        crowded = any(math.hypot(t.x - x, t.z - z) < 1.15 * (t.radius + radius) for t in things)
        hidden = any(abs(t.x / t.z - x / z) < 0.55 * (t.radius / t.z + radius / z) for t in things)
        if crowded or hidden:
            continue
        turn = float(rng.uniform(0, math.pi / 2))
        things.append(
            Thing(shape, str(colours[len(things)]), bool(rng.random() < 0.3), x, z, radius, height, turn)
        )
    return tuple(things)


def _height(rng: np.random.Generator, shape: str, radius: float) -> float:
    if shape == "sphere":
        return 2 * radius
    if shape == "cube":
        return 1.6 * radius
    stretch = {"cylinder": (1.3, 2.4), "cone": (1.6, 2.6), "pyramid": (1.4, 2.2), "capsule": (2.6, 3.4)}[
        shape
    ]
    return float(radius * rng.uniform(*stretch))
