"""`depthwright verify`: where a picture says it comes from, and whether it can be made again."""

from pathlib import Path

import click
from PIL import Image

from depthwright.assembly import Assembly
from depthwright.cli.options import ModelChoice, model_choice, model_options
from depthwright.cli.waiting import waiting
from depthwright.errors import InvalidImage, InvalidParameter, UserError
from depthwright.images import open_image
from depthwright.loras import LoraFile, check
from depthwright.provenance.pixels import pixel_hash
from depthwright.provenance.receipt import Receipt

_SIGNS = {"good": click.style("ok", fg="green"), "open": "--", "bad": click.style("NO", fg="red", bold=True)}


class NotGenuine(UserError):
    """Something that a picture's file says of its origin does not hold."""


@click.command(short_help="Show where a picture says it comes from, and check it.")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option(
    "--trust",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="PEM",
    help="A root certificate to trust besides this installation's own. May be repeated.",
)
@click.option(
    "--rerun", is_flag=True, help="Make the picture again from its receipt, and compare the pixels."
)
@click.option(
    "--prompt", metavar="TEXT", help="Its prompt, for --rerun, where the file keeps only a digest of it."
)
@click.option(
    "--control-image",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Its control image, for --rerun, where it had one.",
)
@click.option(
    "--lora", "loras", metavar="FILE[=SCALE]", multiple=True, help="Its LoRAs, for --rerun, in order."
)
@model_options
@click.pass_obj
def verify(
    assembly: Assembly,
    /,
    *,
    file: Path,
    trust: tuple[Path, ...],
    rerun: bool,
    prompt: str | None,
    control_image: Path | None,
    loras: tuple[str, ...],
    profile: str | None,
    device: str | None,
    weights: tuple[str, ...],
) -> None:
    """Show the content credentials, the mark and the receipt of a PNG, JPEG or WebP FILE, and what of them holds.

    Each line begins with ok, with NO for what does not hold, or with -- for what somebody says and nothing proves. The
    command ends with an error if there is a NO.
    """
    # The library that checks signatures takes a while to import; the help does without it.
    from depthwright.provenance.certificates import given_roots  # noqa: PLC0415
    from depthwright.provenance.reading import read  # noqa: PLC0415
    from depthwright.provenance.showing import lines, rerun_line  # noqa: PLC0415

    # 1. What the file says.
    found = read(file, own=assembly.settings.certificates, anchors=tuple(map(given_roots, trust)))
    told = list(lines(found))
    # 2. The picture made again, if that is wanted.
    if rerun:
        if found.receipt is None:
            raise InvalidImage(f"{file} has no receipt, so it cannot be made again.")
        chosen = model_choice(assembly, profile or found.receipt.profile, device, weights)
        control = open_image(control_image) if control_image else None
        made = _made_again(
            assembly, chosen, found.receipt, prompt, control, tuple(map(LoraFile.parse, loras))
        )
        told.append(rerun_line(found, made))
    # 3. All of it, and the verdict.
    for line in told:
        click.echo(f"{_SIGNS[line.verdict]}  {line.text}")
    if any(line.verdict == "bad" for line in told):
        raise NotGenuine(f"{file}: not everything that it says of its origin holds.")


def _made_again(
    assembly: Assembly,
    choice: ModelChoice,
    receipt: Receipt,
    prompt: str | None,
    control: Image.Image | None,
    loras: tuple[LoraFile, ...],
) -> Image.Image:
    """The receipt's picture, made on this machine. Raises InvalidParameter for what is not what it was made from."""
    from depthwright.events import Finished, Started  # noqa: PLC0415 - only now is an engine needed

    # 1. The same request, from the same files.
    parameters = receipt.parameters(prompt)
    if receipt.control_sha256 != (pixel_hash(control) if control else None):
        allowed = (
            "the one that the picture was made from" if receipt.control_sha256 else "absent: it had none"
        )
        raise InvalidParameter("control_image", "another one" if control else None, allowed)
    check(loras)
    with waiting(f"Loading {choice.profile}"):
        engine = choice.load(assembly)
    # 2. By the same model.
    for event in engine.stream(parameters, control, loras):
        if isinstance(event, Started):
            _require_same(receipt, event.origin.model_version, [each.digest for each in event.origin.loras])
        if isinstance(event, Finished):
            return event.result.images[0]
    raise RuntimeError("the engine ended without a result")


def _require_same(receipt: Receipt, model_version: str, loras: list[str]) -> None:
    if model_version != receipt.model_version:
        raise InvalidParameter(
            "profile", model_version, f"the model that made the picture, {receipt.model_version}"
        )
    if loras != [each.digest for each in receipt.loras]:
        named = ", ".join(f"{each.name}={each.scale:g}" for each in receipt.loras) or "absent: it had none"
        raise InvalidParameter("lora", f"{len(loras)} others" if loras else None, named)
