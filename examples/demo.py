"""The demo: one prompt, one depth map, four control scales.

Writes demo/output.png, demo/depth.png and demo/sheet.png, and tells how long each stage took.
`make demo` runs it; `make demo ARGS="photo.jpg --prompt '...'"` takes a picture of your own.
"""

import argparse
import sys
import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from depthwright import Engine
from depthwright.engine.events import Finished, StageStarted, StepFinished
from depthwright.engine.quiet import silence
from depthwright.engine.result import GenerationResult
from depthwright.errors import DepthwrightError
from depthwright.images import open_image, save_images
from depthwright.parameters import GenerationParameters

PROMPT = "a red sphere left of a blue cube and a yellow cone on a wooden floor outdoors, in daylight"
SCALES = (0.0, 0.5, 1.0, 2.0)
SERVED = 1.0  # the scale of output.png
SEED = 7
PANEL_WIDTH, GAP, CAPTION = 288, 12, 34


def main() -> None:
    """Generate, write, tell."""
    options = _options()
    options.folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    # 1. Load the model.
    print(f"Loading the profile {options.profile} ...", flush=True)
    silence()
    engine = Engine.load(options.profile)
    loaded = time.perf_counter() - started
    # 2. Generate the same seed at every control scale.
    control = open_image(options.control_image) if options.control_image else None
    results = {scale: _generate(engine, options.prompt, control, scale) for scale in SCALES}
    # 3. Write the picture, its depth map and the sheet.
    served = results[SERVED]
    files = [
        *save_images([served.images[0]], options.folder / "output.png"),
        *save_images([served.depth], options.folder / "depth.png"),
        *save_images([_sheet(results)], options.folder / "sheet.png"),
    ]
    # 4. Tell what was done.
    _report(options.prompt, results, files, loaded, time.perf_counter() - started)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="One prompt, one depth map, four control scales.")
    parser.add_argument(
        "control_image", type=Path, nargs="?", help="a photo or a depth map (default: our own)"
    )
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--profile", default="embedded")
    parser.add_argument("--folder", type=Path, default=Path("demo"))
    return parser.parse_args()


def _generate(engine: Engine, prompt: str, control: Image.Image | None, scale: float) -> GenerationResult:
    """One picture, its progress on one line; without that, `engine.generate(...)` is all it takes."""
    parameters = GenerationParameters.from_user(prompt=prompt, control_scale=scale, seed=SEED)
    for event in engine.stream(parameters, control):
        match event:
            case StageStarted(stage):
                _progress(scale, stage)
            case StepFinished(step=step, steps=steps):
                _progress(scale, f"denoise, step {step + 1} of {steps}")
            case Finished(result):
                _progress(scale, f"{sum(result.seconds.values()):.1f} s", end="\n")
                return result
    raise RuntimeError("the engine ended without a result")


def _progress(scale: float, what: str, end: str = "") -> None:
    if end or sys.stdout.isatty():
        print(f"\rControl scale {scale:g}: {what:<28}", end=end, flush=True)


def _sheet(results: dict[float, GenerationResult]) -> Image.Image:
    """The depth map and the outputs side by side, each with its label."""
    panels = [("depth map", results[SERVED].depth)]
    panels += [(f"control scale {scale:g}", result.images[0]) for scale, result in results.items()]
    height = round(PANEL_WIDTH * panels[0][1].height / panels[0][1].width)
    width = GAP + len(panels) * (PANEL_WIDTH + GAP)
    sheet = Image.new("RGB", (width, height + CAPTION + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (label, picture) in enumerate(panels):
        left = GAP + number * (PANEL_WIDTH + GAP)
        draw.text(
            (left + PANEL_WIDTH / 2, CAPTION / 2), label, "black", ImageFont.load_default(18), anchor="mm"
        )
        small = picture.convert("RGB").resize((PANEL_WIDTH, height), Image.Resampling.LANCZOS)
        sheet.paste(small, (left, CAPTION))
    return sheet


def _report(
    prompt: str, results: dict[float, GenerationResult], files: list[Path], loaded: float, total: float
) -> None:
    served = results[SERVED]
    print(f'\n"{prompt}"')
    print(f"Model {served.model_version}, seed {served.seed}, size {served.parameters.size}. By scale:\n")
    stages = list(served.seconds)
    print("scale" + "".join(f"{stage:>10}" for stage in [*stages, "seconds"]) + "      RMSE  correlation")
    for scale, result in results.items():
        seconds = [result.seconds[stage] for stage in stages]
        correlation = result.fidelity[0].residual_correlation
        follows = "-" if correlation is None else f"{correlation:.2f}"
        row = "".join(f"{number:10.2f}" for number in [*seconds, sum(seconds), result.fidelity[0].rmse])
        print(f"{scale:5g}{row}{follows:>13}")
    print("\nRMSE (0-255) and residual correlation compare the depth seen in a picture with the depth map.")
    print(f"Loading took {loaded:.1f} s, everything {total:.1f} s. Written:")
    for file in files:
        print(f"  {file}")


if __name__ == "__main__":
    try:
        main()
    except DepthwrightError as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
