"""Load Engine: which model the local nodes use."""

from pathlib import Path
from typing import Any

from depthwright.assembly import require_engine
from depthwright.engine.profiles import load_profile, profile_names
from depthwright.errors import WeightsMissing, echo

from .. import adapter
from ..checkpoints import require_plain
from ..engines import EngineHolder, Recipe

KIND = "DEPTHWRIGHT_ENGINE"
_OWN = "the profile's own"
_AUTO = "auto"
_DEVICES = (_AUTO, "cpu", "cuda", "mps")
# What a folder in diffusers' form may hold; other parts stay the profile's own.
_PARTS = ("transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")


def load_engine_node(holder: EngineHolder) -> type[adapter.Node]:
    """The node, bound to the one holder of weights."""

    class LoadEngineNode(adapter.Node):
        """Judges a model without reading it; it is loaded when a node first needs it."""

        @classmethod
        def define_schema(cls) -> Any:
            """Its widgets and outputs; the files of ComfyUI's folders as they are now."""
            return adapter.schema(
                "DepthwrightLoadEngine",
                "Depthwright Load Engine",
                "Which model works in ComfyUI's own process. It is loaded when it is first needed, after ComfyUI's own "
                "models have left the device, and stays until it is unloaded or this node is changed.",
                inputs=_inputs(),
                outputs=[adapter.gives(KIND, "engine", "What the local nodes take.")],
            )

        @classmethod
        def execute(
            cls,
            profile: str = "embedded",
            model: str = _OWN,
            depth_lora: str = _OWN,
            path: str = "",
            device: str = _AUTO,
        ) -> Any:
            """Judge, and hand on."""
            require_engine()
            # 1. What is taken from this machine.
            chosen, overrides = _from_path(profile, path.strip())
            overrides |= _from_folders(model, depth_lora)
            # 2. Whether it fits, and is there.
            if "transformer" in overrides:
                require_plain(overrides["transformer"])
            _require_weights(chosen, overrides)
            # 3. The handle.
            where = adapter.device() if device == _AUTO else device
            return adapter.Output(holder.handle(Recipe(chosen, where, overrides)))

    return LoadEngineNode


def _inputs() -> list[Any]:
    names = profile_names()
    return [
        adapter.choice(
            "profile",
            "A model and how it lives in memory. embedded comes with the package and runs anywhere; the others are "
            "FLUX.1-dev, fetched by `depthwright models pull NAME`.",
            names,
            names[0],
        ),
        adapter.choice(
            "model",
            "A plain FLUX.1-dev transformer of ComfyUI's folder diffusion_models, in the profile's place.",
            (_OWN, *adapter.model_files("diffusion_models")),
            _OWN,
        ),
        adapter.choice(
            "depth_lora",
            "FLUX.1-Depth-dev-lora in ComfyUI's folder loras, in the place of the profile's.",
            (_OWN, *adapter.model_files("loras")),
            _OWN,
        ),
        adapter.text(
            "path",
            "A profile of your own (a TOML file), or a folder of FLUX.1-dev in diffusers' form; mostly empty.",
        ),
        adapter.choice("device", "Where it runs; auto is where ComfyUI runs.", _DEVICES, _AUTO),
    ]


def _from_path(profile: str, path: str) -> tuple[str, dict[str, Path]]:
    if not path:
        return profile, {}
    place = Path(path).expanduser()
    if place.suffix == ".toml":
        return str(place), {}
    if not place.exists():
        raise WeightsMissing(f"There is nothing at {echo(path)}, which the node Load Engine names.")
    parts = {part: place / part for part in _PARTS if (place / part).is_dir()}
    return profile, parts or {"transformer": place}


def _from_folders(model: str, depth_lora: str) -> dict[str, Path]:
    wanted = (("transformer", "diffusion_models", model), ("control_lora", "loras", depth_lora))
    found: dict[str, Path] = {}
    for part, folder, name in wanted:
        if name == _OWN:
            continue
        place = adapter.model_file(folder, name)
        if place is None:
            raise WeightsMissing(f"There is no {echo(name)} in ComfyUI's folder {folder}.")
        found[part] = place
    return found


def _require_weights(profile: str, overrides: dict[str, Path]) -> None:
    """Raises WeightsMissing, with the steps that get them, for the first part that is not on this machine."""
    from depthwright.engine.sources import locate  # noqa: PLC0415 - the engine's libraries may be missing

    chosen = load_profile(profile).with_overrides(overrides)
    for part in chosen.parts:
        locate(chosen, part)
