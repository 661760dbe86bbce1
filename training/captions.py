"""A scene in words: several ways to say the same thing, and a plain one for measuring.

Words and depth map together always tell which object has which colour: objects in a row are named from left to right,
and where a relation names them in another order, the relation or their shapes tell them apart.
"""

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
    "fog": ("in fog", "in mist"),
}
WALL_WORDS = {name: f"a {name} wall" for name in ("white", "brick", "blue", "green", "yellow", "pink")}
RELIEF_WORDS = {
    "hills": ("hills behind", "distant hills"),
    "mountains": ("mountains behind", "a mountain range"),
    "trees": ("trees behind", "a forest"),
}
# How a style is said: before the scene, or after it.
STYLE_WORDS: dict[str, tuple[tuple[str, str], ...]] = {
    "plain": (("", ""),),
    "sketch": (("a sketch of ", ""), ("", ", pencil sketch"), ("", ", sketch style")),
    "neon": (("", ", neon lights"), ("", ", neon style"), ("neon ", "")),
    "watercolour": (("a watercolour of ", ""), ("", ", watercolour style"), ("", ", watercolor painting")),
}


def caption(scene: Scene, rng: np.random.Generator | None = None) -> str:
    """Tell the scene. Without `rng` the wording is the first of each list, in the fullest form."""
    # 1. The objects and what they stand on.
    text = f"{_things(from_left(scene), rng)} on {_pick(FLOOR_WORDS[scene.floor], rng)}"
    # 2. What is behind them, and the light: either may go unsaid.
    if scene.wall:
        behind = f"with {WALL_WORDS[scene.wall]}"
    elif scene.relief:
        behind = f"with {_pick(RELIEF_WORDS[scene.relief], rng)}"
    else:
        behind = _pick(("outdoors", "under the sky"), rng)
    tail = [
        words
        for words in (behind, _pick(LIGHT_WORDS[scene.light], rng))
        if rng is None or rng.random() < 0.85
    ]
    text += "".join(f", {words}" if index else f" {words}" for index, words in enumerate(tail))
    # 3. The style, always said: a picture without a word for it is plain.
    options = STYLE_WORDS[scene.style]
    before, after = options[0 if rng is None else int(rng.integers(len(options)))]
    return before + text + after


def from_left(scene: Scene) -> list[Thing]:
    """Objects in the order in which the picture shows them."""
    return sorted(scene.things, key=lambda thing: thing.x / thing.z)


def _things(row: list[Thing], rng: np.random.Generator | None) -> str:
    words = [_thing(thing, rng) for thing in row]
    chance = 1.0 if rng is None else rng.random()
    all_differ = len({thing.shape for thing in row}) == len(row)
    if len(row) == 2 and not chance < 0.35:
        return _related(row, words, rng)
    if len(row) == 3 and chance < 0.25:
        return f"{words[1]} between {words[0]} and {words[2]}"
    if len(row) == 3 and all_differ and chance < 0.5:
        return f"{_related(row[:2], words[:2], rng)} and {words[2]}"
    if len(row) == 4 and all_differ and chance < 0.5:
        return f"{_related(row[::2], words[::2], rng)}, {_related(row[1::2], words[1::2], rng)}"
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def _related(pair: list[Thing], words: list[str], rng: np.random.Generator | None) -> str:
    """Two objects and how the first stands to the second, in either order."""
    first, second = (0, 1) if rng is None or rng.random() < 0.5 else (1, 0)
    return f"{words[first]} {_relation(pair[first], pair[second])} {words[second]}"


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
