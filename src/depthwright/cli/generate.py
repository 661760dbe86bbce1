"""`depthwright generate`: a prompt and a depth map become a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import click
from PIL import Image

from depthwright.assembly import Assembly
from depthwright.cli.interrupt import until_interrupted
from depthwright.cli.options import (
    ModelChoice,
    ServerChoice,
    model_choice,
    model_options,
    parameter_options,
    server_choice,
    server_options,
)
from depthwright.cli.waiting import waiting
from depthwright.images import FORMATS, Encode, check_output, open_image, save_images
from depthwright.loras import MOST, SCALE_MAX, LoraFile, check, parted
from depthwright.parameters import GenerationParameters, SizeBounds
from depthwright.provenance.encoding import OutputFormat, encode, format_of
from depthwright.result import Fidelity, GenerationResult

# A server has bounds of its own, and tells them.
_ANY_SIZE = SizeBounds(1, 99_999)


class _Made(Protocol):
    """What is told of pictures, whoever made them."""

    @property
    def images(self) -> tuple[Image.Image, ...]: ...

    @property
    def seeds(self) -> Sequence[int | None]: ...

    @property
    def fidelity(self) -> Sequence[Fidelity | None]: ...

    @property
    def seconds(self) -> Mapping[str, float]: ...

    @property
    def model_version(self) -> str: ...


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
@click.option(
    "--lora",
    "loras",
    metavar="FILE[=SCALE]",
    multiple=True,
    help="A LoRA for FLUX, of a style or a subject, that acts beside the depth LoRA: a .safetensors file, and how "
    f"strongly, from 0 to {SCALE_MAX}. With --server: its URL, its repository on the hub, or its name there.  "
    f"[default scale: 1; may be repeated, {MOST} at most]",
)
@model_options
@server_options
@click.pass_obj
def generate(
    assembly: Assembly,
    /,
    *,
    control_image: Path | None,
    output: Path,
    loras: tuple[str, ...],
    profile: str | None,
    device: str | None,
    weights: tuple[str, ...],
    server: str | None,
    key: str | None,
    **fields: object,
) -> None:
    """Make pictures that show the prompt and follow the depth of the control image.

    They are made on this machine, or by the server that --server names.
    """
    # 1. Judge everything that can be judged before a model is loaded or a server asked.
    elsewhere = server_choice(
        assembly,
        server,
        key,
        {"--profile": profile, "--device": device, "--weights": weights},
    )
    bounds = _ANY_SIZE if elsewhere else assembly.settings.size_bounds
    parameters = GenerationParameters.from_user(size_bounds=bounds, **fields)
    check_output(output, parameters.num_images)
    control = open_image(control_image) if control_image else None
    files = () if elsewhere else tuple(map(LoraFile.parse, loras))
    check(files)
    # 2. Generate.
    made: _Made
    if elsewhere:
        made, packed = _from_server(elsewhere, parameters, control_image, loras, output)
    else:
        chosen = model_choice(assembly, profile, device, weights)
        made, packed = _generated(assembly, chosen, parameters, control, files)
    # 3. Write the pictures, marked as what they are, all or none.
    written = save_images(made.images, output, packed)
    # 4. Tell what was done.
    _report(written, made)


def _from_server(
    choice: ServerChoice,
    parameters: GenerationParameters,
    control: Path | None,
    loras: Sequence[str],
    output: Path,
) -> tuple[_Made, Encode]:
    from depthwright.cli.remote import generated  # noqa: PLC0415 - the help needs neither client nor bars

    wanted = FORMATS[output.suffix.lower()]
    made = generated(choice, parameters, control, [parted(each) for each in loras], wanted)

    def packed(index: int, output_format: OutputFormat) -> bytes:
        # As the server sent it, with its credentials; a server that sent another format knows none.
        file = made.files[index]
        return file if format_of(file) == output_format else encode(made.images[index], output_format)

    return made, packed


def _generated(
    assembly: Assembly,
    choice: ModelChoice,
    parameters: GenerationParameters,
    control: Image.Image | None,
    loras: tuple[LoraFile, ...],
) -> tuple[_Made, Encode]:
    with waiting(f"Loading {choice.profile}"):
        marker = assembly.make_marker(assembly.settings)
        engine = choice.load(assembly)
    # Only now is it known that the engine's libraries are there.
    from depthwright.cli.progress import GenerationProgress  # noqa: PLC0415
    from depthwright.events import Finished  # noqa: PLC0415
    from depthwright.provenance.receipts import receipt_for  # noqa: PLC0415

    result: GenerationResult | None = None
    with GenerationProgress(parameters.num_images) as progress:
        for event in until_interrupted(engine.stream(parameters, control, loras)):
            progress.show(event)
            if isinstance(event, Finished):
                result = event.result
    if result is None:
        raise RuntimeError("the engine ended without a result")
    for warning in result.warnings:
        click.echo(f"depthwright: {warning}", err=True)
    for number, is_flagged in enumerate(result.flagged, 1):
        if is_flagged:
            click.echo(
                f"depthwright: the image checker took picture {number} for unsafe: it is black.", err=True
            )
    images, origin = result.images, result.origin
    return result, lambda index, output_format: marker.encode(
        images[index], output_format, receipt_for(origin, index, images[index])
    )


def _report(files: Sequence[Path], made: _Made) -> None:
    for file, image, seed, fidelity in zip(files, made.images, made.seeds, made.fidelity, strict=True):
        told = [str(file), f"{image.width}x{image.height}"]
        if seed is not None:
            told.append(f"seed {seed}")
        if fidelity is not None:
            correlation = fidelity.residual_correlation
            follows = "" if correlation is None else f", residual correlation {correlation:.2f}"
            told.append(f"depth RMSE {fidelity.rmse:.1f} of 255{follows}")
        click.echo("  ".join(told))
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in made.seconds.items())
    click.echo(f"Seconds: {stages}; {sum(made.seconds.values()):.1f} in all ({made.model_version})")
