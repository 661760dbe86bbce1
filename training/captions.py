"""A scene in words: several ways to say the same thing, and a plain one for measuring."""

from __future__ import annotations

import numpy as np

from training.scenes import Scene, Thing

SHAPE_WORDS = {
    "sphere": ("sphere", "ball"),
    "cube": ("cube", "box"),
    "cylinder": ("cylinder", "drum"),
    "cone": ("cone",),
    "pyramid": ("pyramid",),
    "capsule": ("capsule", "pill"),
}
FLOOR_WORDS = {
    "wood": ("a wooden floor", "wood"),
    "checkered": ("a checkered floor", "a chessboard floor"),
    "tiles": ("a tiled floor", "tiles"),
    "grass": ("grass", "a meadow"),
    "sand": ("sand", "a sandy beach"),
    "snow": ("snow", "a snowy field"),
}
LIGHT_WORDS = {
    "day": ("in daylight", "on a sunny day", "bright sunlight"),
    "sunset": ("at sunset", "warm evening light", "golden hour"),
    "night": ("at night", "in moonlight"),
    "overcast": ("under an overcast sky", "on a cloudy day"),
    "studio": ("in soft studio light", "soft ambient light"),
}
WALL_WORDS = {name: f"a {name} wall" for name in ("white", "brick", "blue", "green", "yellow", "pink")}


def caption(scene: Scene, rng: np.random.Generator | None = None) -> str:
    """Tell the scene. Without `rng` the wording is the first of each list, in the fullest form."""
    things = list(scene.things)
    if rng is not None and rng.random() < 0.5:
        things.reverse()
    parts = [_things(things, rng), "on " + _pick(FLOOR_WORDS[scene.floor], rng)]
    tail = [f"with {WALL_WORDS[scene.wall]}" if scene.wall else _pick(("outdoors", "under the sky"), rng)]
    tail.append(_pick(LIGHT_WORDS[scene.light], rng))
    if rng is not None:
        tail = [words for words in tail if rng.random() < 0.85]
    return " ".join(parts) + "".join(f", {words}" if i else f" {words}" for i, words in enumerate(tail))


def _things(things: list[Thing], rng: np.random.Generator | None) -> str:
    words = [_thing(thing, rng) for thing in things]
    if len(words) == 1:
        return words[0]
    first, second = things[:2]
    told = f"{words[0]} {_relation(first, second)} {words[1]}"
    if rng is not None and rng.random() < 0.35:
        told = f"{words[0]} and {words[1]}"
    return told if len(words) == 2 else f"{told} and {words[2]}"


def _relation(first: Thing, second: Thing) -> str:
    sideways = first.x / first.z - second.x / second.z
    if abs(first.z - second.z) > 1.6 and abs(sideways) < 0.3:
        return "in front of" if first.z < second.z else "behind"
    return "left of" if sideways < 0 else "right of"


def _thing(thing: Thing, rng: np.random.Generator | None) -> str:
    shiny = "shiny " if thing.shiny else ""
    phrase = f"{shiny}{thing.colour} {_pick(SHAPE_WORDS[thing.shape], rng)}"
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def _pick(options: tuple[str, ...], rng: np.random.Generator | None) -> str:
    return options[0] if rng is None or rng.random() < 0.6 else str(rng.choice(options))
