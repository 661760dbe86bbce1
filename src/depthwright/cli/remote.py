"""`depthwright generate --server`: another machine makes the pictures."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from depthwright.cli.options import ServerChoice
from depthwright.cli.progress import PER_IMAGE, TITLES, StageBars
from depthwright.cli.waiting import waiting
from depthwright.clients import Client, Generated, Prediction, Update
from depthwright.clients.errors import clean
from depthwright.errors import DepthwrightError
from depthwright.parameters import GenerationParameters
from depthwright.provenance.encoding import OutputFormat

_CANCEL_SECONDS = 10


def generated(
    choice: ServerChoice,
    parameters: GenerationParameters,
    control: Path | None,
    loras: Sequence[tuple[str, float]] = (),
    output_format: OutputFormat = "png",
) -> Generated:
    """Send the work to the server, show how it goes, fetch the pictures. Ctrl-C cancels it there as well."""
    with Client(choice.address, choice.key) as client:
        # 1. The control image, as an upload.
        fields = parameters.model_dump(mode="json", exclude_unset=True)
        if control:
            with waiting(f"Sending {control.name}"):
                fields["control_image"] = client.upload(control)
        if output_format != "png":
            fields["output_format"] = output_format
        if loras:
            fields["loras"] = [{"path": path, "scale": scale} for path, scale in loras]
        # 2. The work.
        prediction = _followed(client, fields, parameters.num_images).completed()
        # 3. The pictures.
        with waiting("Fetching the pictures"):
            result = client.pictures(prediction)
    for warning in prediction.warnings:
        click.echo(f"depthwright: {clean(warning)}", err=True)
    for number, is_flagged in enumerate(prediction.nsfw, 1):
        if is_flagged:
            click.echo(
                f"depthwright: the server took picture {number} for unsafe and blackened it.", err=True
            )
    return result


def _followed(client: Client, fields: dict[str, Any], num_images: int) -> Prediction:
    """The prediction when it has ended."""
    idempotency_key = secrets.token_hex(16)
    prediction: Prediction | None = None
    try:
        prediction = client.submit(idempotency_key=idempotency_key, **fields)
        with RemoteProgress(num_images) as progress:
            for update in client.stream(prediction.id):
                prediction = update.prediction
                progress.show(update)
    except KeyboardInterrupt:
        click.echo("depthwright: cancelling it on the server; Ctrl-C again does not wait.", err=True)
        try:
            # Without an answer yet, sending the same again tells the id of what may have been accepted.
            prediction = prediction or client.submit(
                idempotency_key=idempotency_key, timeout=_CANCEL_SECONDS, **fields
            )
            client.cancel(prediction.id, timeout=_CANCEL_SECONDS)
        except DepthwrightError as error:
            click.echo(f"depthwright: it could not be cancelled: {error}", err=True)
        raise click.Abort from None
    return prediction


class RemoteProgress(StageBars):
    """Shows updates as they come, like GenerationProgress; use it as a context manager around them.

    A server does not tell every stage it passes: what lies before the stage it tells is done.
    """

    _said = ""

    def show(self, update: Update) -> None:
        """Bring the display up to date with one update."""
        told = update.progress
        if update.prediction.status == "completed":
            for stage in TITLES:
                self._bar(stage, TITLES[stage], self._rounds(stage), self._rounds(stage), keep_total=True)
        elif update.prediction.is_ended:
            return
        elif told.stage in TITLES:
            self._show_stage(told.stage, max(1, told.image), told.step, told.steps)
        elif told.queue_position:
            place = f"Queue, place {told.queue_position}"
            self._bar("queue", place, 0, None)
            self._say(place)
        else:
            self._say("The server begins")

    def _show_stage(self, stage: str, image: int, step: int, steps: int) -> None:
        if "queue" in self._tasks:
            self._bar("queue", "Queue", 1, 1)
        order = list(TITLES)
        here = order.index(stage)
        for place, each in enumerate(order):
            # 1. The rounds that are behind: in a picture's stages, those of the pictures before it at least.
            rounds = self._rounds(each)
            before = image - 1 if each in PER_IMAGE else 0
            done = before + (1 if place < here else 0)
            if place > here and not done:
                continue
            # 2. Denoising counts steps.
            if each == "denoise" and steps:
                done = done * steps + (step if place == here else 0)
                rounds *= steps
            self._bar(each, TITLES[each], min(done, rounds), rounds)
        counted = f", picture {image} of {self._num_images}" if stage in PER_IMAGE else ""
        self._say(TITLES[stage] + (counted if self._num_images > 1 else ""))

    def _bar(self, name: str, title: str, done: int, total: int | None, *, keep_total: bool = False) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(title, total=total)
        task = self._tasks[name]
        if keep_total:
            known = next(each for each in self._progress.tasks if each.id == task)
            total = done = int(known.total or done)
        self._progress.update(task, description=title, completed=done, total=total)

    def _say(self, what: str) -> None:
        if what != self._said and not self._console.is_terminal:
            self._console.print(what, highlight=False)
        self._said = what
