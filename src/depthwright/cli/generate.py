"""`depthwright generate`: a prompt and a depth map become a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from PIL import Image

from depthwright.assembly import Assembly
from depthwright.cli.interrupt import until_interrupted
from depthwright.cli.options import ModelChoice, model_choice, model_options, parameter_options
from depthwright.cli.waiting import waiting
from depthwright.images import check_output, open_image, save_images
from depthwright.parameters import GenerationParameters

if TYPE_CHECKING:
    from depthwright.engine.result import GenerationResult


@click.command(short_help="Make pictures from a prompt and a control image.")
@parameter_options
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    default="out.png",
    show_default=True,
    help="Where the picture goes: a .png, .jpg or .webp file. Several become out-1.png, out-2.png, ...",
)
@model_options
@click.pass_obj
def generate(
    assembly: Assembly,
    /,
    *,
    control_image: Path | None,
    output: Path,
    profile: str | None,
    device: str | None,
    weights: tuple[str, ...],
    **fields: object,
) -> None:
    """Make pictures that show the prompt and follow the depth of the control image."""
    # 1. Judge everything that can be judged before a model is loaded.
    parameters = GenerationParameters.from_user(size_bounds=assembly.settings.size_bounds, **fields)
    check_output(output, parameters.num_images)
    control = open_image(control_image) if control_image else None
    choice = model_choice(assembly, profile, device, weights)
    # 2. Generate.
    result = _generated(assembly, choice, parameters, control)
    # 3. Write the pictures, all or none.
    files = save_images(result.images, output)
    # 4. Tell what was done.
    _report(files, result)


def _generated(
    assembly: Assembly, choice: ModelChoice, parameters: GenerationParameters, control: Image.Image | None
) -> "GenerationResult":
    with waiting(f"Loading {choice.profile}"):
        engine = choice.load(assembly)
    # Only now is it known that the engine's libraries are there.
    from depthwright.cli.progress import GenerationProgress  # noqa: PLC0415
    from depthwright.engine.events import Finished  # noqa: PLC0415

    with GenerationProgress(parameters.num_images) as progress:
        for event in until_interrupted(engine.stream(parameters, control)):
            progress.show(event)
            if isinstance(event, Finished):
                return event.result
    raise RuntimeError("the engine ended without a result")


def _report(files: Sequence[Path], result: "GenerationResult") -> None:
    for file, image, seed, fidelity in zip(files, result.images, result.seeds, result.fidelity, strict=True):
        correlation = fidelity.residual_correlation
        follows = "" if correlation is None else f", residual correlation {correlation:.2f}"
        size = f"{image.width}x{image.height}"
        click.echo(f"{file}  {size}  seed {seed}  depth RMSE {fidelity.rmse:.1f} of 255{follows}")
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in result.seconds.items())
    click.echo(f"Seconds: {stages}; {sum(result.seconds.values()):.1f} in all ({result.model_version})")
