"""`depthwright depth`: the depth map of a photo."""

from pathlib import Path

import click

from depthwright.assembly import Assembly
from depthwright.cli.options import model_choice, model_options
from depthwright.cli.waiting import waiting
from depthwright.images import check_output, open_image, save_images


@click.command(short_help="Estimate the depth map of a photo.")
@click.argument("photo", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where the depth map goes.  [default: PHOTO-depth.png]",
)
@model_options
@click.pass_obj
def depth(
    assembly: Assembly,
    /,
    *,
    photo: Path,
    output: Path | None,
    profile: str | None,
    device: str | None,
    weights: tuple[str, ...],
) -> None:
    """Estimate the depth map of PHOTO: grey, near bright, of the photo's size."""
    image = open_image(photo)
    target = output or photo.with_name(f"{photo.stem}-depth.png")
    check_output(target)
    choice = model_choice(assembly, profile, device, weights)
    with waiting(f"Loading the depth estimator of {choice.profile}"):
        mapper = choice.load_mapper(assembly)
    with waiting("Estimating depth"):
        depth_map = mapper.depth(image)
    save_images([depth_map], target)
    click.echo(f"{target}  {depth_map.width}x{depth_map.height}")
