"""The golden pictures of the embedded model; `python -m tests.support.golden` draws them anew for new weights."""

from pathlib import Path

from PIL import Image

from depthwright.engine.engine import Engine

FOLDER = Path(__file__).parents[1] / "golden"
_ROOM = "on a wooden floor with a white wall, in soft studio light"
PROMPTS = {
    "room": f"a red sphere left of a blue cube and a yellow cone {_ROOM}",
    "beach": "a green sphere left of a white cube on sand outdoors, at sunset",
    "night": "a yellow sphere left of a pink cube on a checkered floor with a blue wall, at night",
}


def draw(engine: Engine, **changes: object) -> Image.Image:
    """One picture, as the golden ones are drawn unless changed."""
    asked = {"prompt": PROMPTS["room"], "size": "512*768", "seed": 7, "acceleration": "none", **changes}
    return engine.generate(**asked).images[0]  # type: ignore[arg-type]


def main() -> None:
    """Draw them all."""
    engine = Engine.load("embedded")
    FOLDER.mkdir(exist_ok=True)
    for name, prompt in PROMPTS.items():
        draw(engine, prompt=prompt).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
