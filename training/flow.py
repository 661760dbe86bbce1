"""Phase `flow`: the rectified-flow transformer, its text encoders and the control LoRA, trained together."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from training import checkpoint, parallel
from training.autoencoder import load_codec
from training.flow_data import FlowData
from training.flow_loss import Loss, binding_loss, channel_weights, velocity_loss
from training.log import Log
from training.model import EmbeddedModel
from training.muon import Muon, split
from training.sheet import draw_sheet
from training.shipped import load as load_shipped

WEIGHT_DECAY = 0.01
AVERAGED = 0.998


@dataclass(frozen=True)
class Plan:
    """How long, and how: the rate decays over the last `decay` of all `steps`, so a longer plan can go on from it.

    `control_share` of a batch is under control, the rest is the base alone. The first `binding` steps ask for names
    alone. A checkpoint and a sheet are written every `save_every` seconds.
    """

    steps: int = 6000
    decay: int = 2000
    batch: int = 40
    rate: float = 1.0
    control_share: float = 0.5
    binding: int = 0
    shipped: Path | None = None
    compiled: bool = False
    device: str = "cpu"
    save_every: float = 300.0


@dataclass
class State:
    """What a checkpoint holds."""

    model: EmbeddedModel
    average: dict[str, Tensor]
    optimisers: list[torch.optim.Optimizer]
    step: int = 0
    seconds: float = 0.0
    recent: list[tuple[Loss, Loss]] = field(default_factory=list)


def train(folder: Path, plan: Plan) -> None:
    """Train up to `plan.steps`, on from the last checkpoint; SIGTERM and SIGINT keep what there is and end it."""
    # 1. What is trained, on what, and how far it has come.
    state = begin(folder, plan)
    codec = load_codec(folder / "codec.safetensors").to(plan.device)
    data = FlowData(folder / "scenes", state.model.tokenise, plan.device)
    weights = channel_weights(codec)
    common, rng = parallel.seeded(2, state.step)
    log = Log(
        folder / "flow.csv",
        ("seconds", "step", "loss_control", "loss_base", "loss_colour", "loss_naming", "loss_pointing"),
    )
    saved = time.monotonic()
    started = saved - state.seconds
    bar = tqdm(total=plan.steps, initial=state.step, desc="flow", unit="step", disable=parallel.rank() > 0)
    with parallel.stoppable() as stopped:
        while state.step < plan.steps and not stopped():
            # 2. One batch under control, one of the base alone.
            losses = []
            for share, scale in ((plan.control_share, draw_scale(common)), (1 - plan.control_share, 0.0)):
                batch = data.draw(max(1, round(plan.batch * share)), rng)
                if state.step < plan.binding:
                    loss = binding_loss(state.model, codec, batch, rng)
                else:
                    loss = velocity_loss(state.model, codec, batch, weights, scale, rng)
                (loss.total * share).backward()
                losses.append(loss)
            state.recent.append((losses[0], losses[1]))
            # 3. A step; the running average is what ships.
            descend(state, plan)
            state.seconds = time.monotonic() - started
            # 4. Tell, keep, show.
            bar.update()
            if parallel.rank() == 0 and time.monotonic() - saved > plan.save_every:
                save(folder, state)
                saved = time.monotonic()
            if state.step % 50 == 0:
                _tell(state, log, bar)
                data.refresh()
        if parallel.rank() == 0:
            save(folder, state)


def begin(folder: Path, plan: Plan, name: str = "flow", average_of: str | None = None) -> State:
    """A model on its device: from its checkpoint, else from another's running average, from what ships, or new."""
    model = EmbeddedModel(folder / "embedded")
    kept = checkpoint.load(folder / name, plan.device)
    if average_of and not kept:
        model.load_state_dict(checkpoint.load(folder / average_of)["average"])
    elif plan.shipped and not kept:
        load_shipped(model, plan.shipped)
    if not kept and not average_of and (words := checkpoint.load(folder / "text")):
        model.text_encoder_2.load_state_dict(words["encoder"])
    model = model.to(plan.device)
    matrices, rest = split(
        model, exclude=("lora_", "norm", "embed", "shared", "relative", "proj_out", "position", "naming")
    )
    state = State(
        model,
        {name: value.detach().clone() for name, value in model.state_dict().items()},
        [
            Muon(matrices, lr=2e-3, weight_decay=WEIGHT_DECAY),
            torch.optim.AdamW(rest, lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.0, foreach=True),
        ],
    )
    if kept:
        _resume(kept, state)
    if plan.compiled:
        model.transformer.compile_repeated_blocks(dynamic=True)
    return state


def draw_scale(rng: np.random.Generator) -> float:
    """The control scale of a batch."""
    return 1.0 if rng.random() < 0.6 else float(rng.uniform(0.5, 2.0))


def descend(state: State, plan: Plan) -> None:
    """A step at a rate that warms up and, at the plan's end, decays."""
    left = plan.steps - state.step
    rate = plan.rate * min(1.0, (state.step + 1) / 100) * min(1.0, max(0.03, left / max(1, plan.decay)))
    parallel.average_gradients(list(state.model.parameters()))
    torch.nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
    for optimiser in state.optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * rate
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    state.step += 1
    kept = min(AVERAGED, (state.step + 1) / (state.step + 20))
    current = state.model.state_dict()
    with torch.no_grad():
        torch._foreach_lerp_(
            list(state.average.values()), [current[name] for name in state.average], 1 - kept
        )


def _tell(state: State, log: Log, bar: tqdm) -> None:
    figures = [
        [float(one) for one in (c.plain, b.plain, c.colour, c.naming, c.pointing)] for c, b in state.recent
    ]
    control, base, colour, naming, pointing = np.mean(figures, axis=0)
    state.recent.clear()
    if parallel.rank() > 0:
        return
    log.row(
        seconds=round(state.seconds),
        step=state.step,
        loss_control=control,
        loss_base=base,
        loss_colour=colour,
        loss_naming=naming,
        loss_pointing=pointing,
    )
    bar.set_postfix(
        control=f"{control:.3f}", colour=f"{colour:.3f}", naming=f"{naming:.3f}", pointing=f"{pointing:.3f}"
    )


def _resume(kept: dict[str, checkpoint.Tensors], state: State) -> None:
    state.model.load_state_dict(kept["model"])
    for name, value in kept["average"].items():
        state.average[name].copy_(value)
    checkpoint.fill_optimisers(state.optimisers, kept.get("optimisers", {}))
    state.step, state.seconds = int(kept["progress"]["step"]), float(kept["progress"]["seconds"])


def save(folder: Path, state: State, name: str = "flow") -> None:
    """Write the checkpoint, the parts that ship, and a sheet of samples."""
    checkpoint.save(
        folder / name,
        model=state.model.state_dict(),
        average=state.average,
        optimisers=checkpoint.optimiser_tensors(state.optimisers),
        progress={"step": torch.tensor(state.step), "seconds": torch.tensor(state.seconds)},
    )
    current = {name: value.detach().clone() for name, value in state.model.state_dict().items()}
    state.model.load_state_dict(state.average)
    state.model.save(folder / "embedded")
    # Compiling the network once more, for a few pictures, would take longer than the pictures.
    with torch.compiler.set_stance("force_eager"):
        draw_sheet(state.model, folder, folder / "sheets" / f"{name}-{state.step:06d}.png")
    state.model.load_state_dict(current)
