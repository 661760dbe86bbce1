"""The story of a request: a control image and a prompt become pictures.

`run` is a generator of events. Closing it stops the work where it stands; nothing of a request stays on the models.
"""

from collections.abc import Generator, Sequence
from functools import partial

from PIL import Image
from torch import Tensor

from depthwright.engine.acceleration.once import digest
from depthwright.engine.components import Components, TextEmbeddings
from depthwright.engine.control import control_latents
from depthwright.engine.decode import decode
from depthwright.engine.denoise import Step, denoise
from depthwright.engine.depth import extend, prepare_depth, to_picture
from depthwright.engine.determinism import same_bytes
from depthwright.engine.enlarge import enlarge
from depthwright.engine.fidelity import DepthMap, measure
from depthwright.engine.framing import Frame, frame
from depthwright.engine.hardware import hardware
from depthwright.engine.memory import memory_guard
from depthwright.engine.safety import ImageChecker, blacked
from depthwright.engine.shelf import in_less_memory
from depthwright.engine.text import encode_prompt
from depthwright.engine.user_lora import Applied
from depthwright.engine.work import Work
from depthwright.errors import Refused
from depthwright.events import (
    DepthFinished,
    Event,
    Finished,
    ImageFinished,
    StageStarted,
    Started,
    StepFinished,
)
from depthwright.parameters import GenerationParameters, Level
from depthwright.result import IMAGE, OFF_BY_REQUEST, Acceleration, Fidelity, GenerationResult, Origin

Events = Generator[Event, None, None]
_OBJECTED = "The image checker takes the control image for one that must not be shown: send another one."


def run(
    components: Components,
    parameters: GenerationParameters,
    control_image: Image.Image,
    loras: Sequence[Applied] = (),
    *,
    checked: bool = True,
    policy: str = "",
    control_sha256: str | None = None,
) -> Events:
    """Generate `parameters.num_images` pictures. Raises DepthwrightError; OutOfMemory and Refused among them.

    Where the model has an image checker and the pictures are to be `checked`, what it objects to never leaves here.
    `policy` is the version of the policy that the prompt was judged by; `control_sha256` is told with the pictures.
    """
    checker = components.checker if checked else None
    work = Work(components.device)
    framed = frame(parameters.size, components.multiple, components.profile.native)
    seed = parameters.resolved_seed()
    seeds = tuple(seed + index for index in range(parameters.num_images))
    pictures: list[Image.Image] = []
    forecast = 0
    fidelity: list[Fidelity] = []
    flagged: list[bool] = []
    origin = _origin(components, parameters, seeds, loras, control_sha256)
    yield Started(origin)
    with memory_guard(f"a picture of {parameters.size}"):
        # 1. What must not be seen is not followed either.
        if checker is not None and (yield from _objects(checker, control_image, work)):
            raise Refused(IMAGE, _OBJECTED)

        # 2. The depth map, at exactly the size that was asked for, then extended to what is rendered.
        yield StageStarted("depth")
        with work.on("depth"):
            shown = (digest(control_image), parameters.preprocess_depth, parameters.size)
            depth = components.depths.get(
                shown,
                lambda: prepare_depth(
                    control_image, parameters.preprocess_depth, parameters.size, components.depth_estimator
                ),
            )
            canvas_depth = extend(depth, framed)
        yield work.finished("depth")
        shown_depth = to_picture(depth)
        yield DepthFinished(shown_depth)

        # 3. The prompt.
        yield StageStarted("text")
        with work.on("text"):
            text = components.prompts.get(
                parameters.prompt, lambda: encode_prompt(components, parameters.prompt)
            )
        yield work.finished("text")

        # 4. The control latents; at scale 0 there are none, and the model is the plain base.
        yield StageStarted("control")
        with work.on("control"):
            follows = parameters.control_scale > 0
            control = (
                components.controls.get(
                    shown, lambda: control_latents(components, canvas_depth, framed.render)
                )
                if follows
                else None
            )
        yield work.finished("control")

        for index, image_seed in enumerate(seeds):
            # 5. Denoise, from this image's own noise.
            yield StageStarted("denoise")
            last = yield from _denoised(
                components, parameters, text, control, framed, index, image_seed, work, loras, checker
            )
            forecast += last.forecast
            yield work.finished("denoise")

            # 6. Decode, and bring to exactly the size that was asked for.
            yield StageStarted("decode")
            with work.on("decode"):
                rendered = decode(components, last.latents, framed.render, parameters.acceleration)
                pictures.append(_exact(rendered, canvas_depth if follows else None, framed))
            yield work.finished("decode")

            # 7. What must not be seen is black from here on.
            if checker is not None:
                flagged.append((yield from _objects(checker, pictures[-1], work)))
                pictures[-1] = blacked(pictures[-1]) if flagged[-1] else pictures[-1]
            yield ImageFinished(index, pictures[-1], flagged[-1] if flagged else None)

            # 8. Look at the picture's own depth.
            yield StageStarted("fidelity")
            with work.on("fidelity"):
                fidelity.append(measure(depth, components.depth_estimator.estimate(pictures[-1])))
            yield work.finished("fidelity")

    # 9. The whole result.
    yield Finished(
        GenerationResult(
            images=tuple(pictures),
            depth=shown_depth,
            seed=seed,
            seeds=seeds,
            seconds=work.seconds,
            fidelity=tuple(fidelity),
            parameters=parameters,
            profile=components.profile.name,
            model_version=components.model_version,
            origin=origin,
            acceleration=Acceleration(
                level=parameters.acceleration,
                techniques=origin.techniques,
                steps_forecast=forecast,
            ),
            loras=origin.loras,
            warnings=tuple(applied.warning for applied in loras if applied.warning),
            flagged=tuple(flagged),
            image_checker=components.checking if checked or not components.checker else OFF_BY_REQUEST,
            prompt_policy=policy,
        )
    )


def _origin(
    components: Components,
    parameters: GenerationParameters,
    seeds: tuple[int, ...],
    loras: Sequence[Applied],
    control_sha256: str | None,
) -> Origin:
    return Origin(
        parameters=parameters,
        seeds=seeds,
        profile=components.profile.name,
        model_version=components.model_version,
        hardware=hardware(components.device),
        techniques=components.chosen.levels[parameters.acceleration].names,
        loras=tuple(applied.told for applied in loras),
        control_sha256=control_sha256,
    )


def _objects(checker: ImageChecker, image: Image.Image, work: Work) -> Generator[Event, None, bool]:
    """Whether the image checker objects, with the events of its stage."""
    yield StageStarted("safety")
    with work.on("safety"):
        objects = checker.objects(image)
    yield work.finished("safety")
    return objects


def _denoised(
    components: Components,
    parameters: GenerationParameters,
    text: TextEmbeddings,
    control: Tensor | None,
    framed: Frame,
    index: int,
    seed: int,
    work: Work,
    loras: Sequence[Applied],
    checker: ImageChecker | None,
) -> Generator[Event, None, Step]:
    """One image's last step, with an event after every step."""
    begin = partial(
        denoise,
        components,
        text,
        control,
        framed.render,
        control_scale=parameters.control_scale,
        seed=seed,
        steps=parameters.num_inference_steps,
        guidance_scale=parameters.guidance_scale,
        acceleration=parameters.acceleration,
        loras=loras,
    )
    steps = in_less_memory(components.shelf, components.forget, begin)
    for step in work.each("denoise", steps):
        yield StepFinished(
            index,
            parameters.num_images,
            step.index,
            parameters.num_inference_steps,
            preview=partial(_preview, components, step.estimate, framed, parameters.acceleration, checker),
        )
    return step


def _preview(
    components: Components, estimate: Tensor, framed: Frame, level: Level, checker: ImageChecker | None
) -> Image.Image | None:
    """The estimate at the render's own size, cut as the picture will be; None where the checker objects to it."""
    with memory_guard("a preview"), same_bytes(components.device):
        shown = decode(components, estimate, framed.render, level).crop(framed.render_box)
        return None if checker is not None and checker.objects(shown) else shown


def _exact(rendered: Image.Image, guide: DepthMap | None, framed: Frame) -> Image.Image:
    """The picture at the size asked for; without a map that it follows, enlarged as pictures are."""
    if framed.canvas != framed.render:
        rendered = (
            rendered.resize(framed.canvas, Image.Resampling.LANCZOS)
            if guide is None
            else enlarge(rendered, guide, framed.canvas)
        )
    return rendered.crop(framed.box)
