"""`python -m training PHASE`: scenes, words, autoencoder, text, flow, guide, depth, judge, plot, export; or all.

Every phase goes on from what its folder already holds, on a CPU or a GPU. `text`, `flow` and `guide` end by steps,
which are the same on a slow machine, the others by `--minutes`. `--from-shipped` begins with the model that ships.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from training.flow import Plan

OUT = Path(__file__).parent / "out"
EMBEDDED = Path(__file__).parents[1] / "src" / "depthwright" / "engine" / "embedded"
MINUTES = {"autoencoder": 100.0, "depth": 20.0, "judge": 12.0}
STEPS = {"text": 800, "flow": 6000, "guide": 600}
BINDING = 150
BATCH = {"autoencoder": 8, "flow": 40, "guide": 40, "depth": 8, "judge": 16}
JUDGE = Path(__file__).parents[1] / "benchmarks" / "judge.safetensors"
HELD_OUT = 90_000


def main() -> None:
    """Parse the command line and run the phases asked for."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__.splitlines()[0])
    parser.add_argument("phase", nargs="?", default="all", choices=[*PHASES, "all"])
    parser.add_argument(
        "--folder", type=Path, default=OUT, help="where everything is kept (default: training/out)"
    )
    parser.add_argument("--target", type=Path, default=EMBEDDED, help="where `export` writes the model")
    parser.add_argument("--minutes", type=float, help="time for a training phase")
    parser.add_argument(
        "--steps", type=int, help="where `text`, `flow` or `guide` ends, earlier runs counted"
    )
    parser.add_argument(
        "--decay", type=int, help="steps at the end over which the rate falls (default: a third)"
    )
    parser.add_argument("--batch", type=int, help="samples a step, in each process")
    parser.add_argument(
        "--rate", type=float, default=1.0, help="factor on the learning rates of `flow` and `guide`"
    )
    parser.add_argument(
        "--control-share",
        type=float,
        default=0.5,
        help="of a batch of `flow` or `guide`, under depth control",
    )
    parser.add_argument(
        "--binding",
        type=int,
        help=f"first steps of `flow` that ask for names alone (default: {BINDING}, 0 with --from-shipped)",
    )
    parser.add_argument(
        "--compile", action="store_true", help="compile the transformer's blocks (needs a C++ compiler)"
    )
    parser.add_argument("--from-shipped", action="store_true", help="begin with the model that ships")
    parser.add_argument("--shards", type=int, default=120, help="shards of 128 scenes to render")
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        help="processes of one thread that render, or train `flow` or `guide` as one",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision("high")
    if options.from_shipped:
        from training.shipped import unpack

        unpack(EMBEDDED, options.folder)
    for phase in PHASES if options.phase == "all" else [options.phase]:
        PHASES[phase](options)


def scenes(options: argparse.Namespace) -> None:
    """Render the training scenes, and a few that no phase ever trains on."""
    from training.dataset import render_shards

    render_shards(options.folder / "scenes", 0, options.shards, options.device, options.workers)
    render_shards(options.folder / "heldout", HELD_OUT, 6, options.device, options.workers)


def words(options: argparse.Namespace) -> None:
    """Build the tokenizers; those of a run under way stay, since its weights know them."""
    from training.words import build

    if not (options.folder / "embedded" / "tokenizer").exists():
        build(options.folder / "embedded")


def autoencoder(options: argparse.Namespace) -> None:
    """Fit the encoder, train the decoder."""
    from training.autoencoder import train

    minutes = options.minutes or MINUTES["autoencoder"]
    train(options.folder, minutes, options.device, _batch(options, "autoencoder"))


def text(options: argparse.Namespace) -> None:
    """Train the T5 encoder on captions."""
    from training.text import train

    train(options.folder, options.steps or STEPS["text"], EMBEDDED if options.from_shipped else None)


def flow(options: argparse.Namespace) -> None:
    """Train transformer, text encoders and control LoRA."""
    from training.flow import train
    from training.parallel import launch

    launch(train, options.workers, options.folder, _plan(options, "flow"))


def guide(options: argparse.Namespace) -> None:
    """Distil classifier-free guidance into the guidance that the model is told."""
    from training.guide import train
    from training.parallel import launch

    launch(train, options.workers, options.folder, _plan(options, "guide"))


def _batch(options: argparse.Namespace, phase: str) -> int:
    return int(options.batch or BATCH[phase])


def _plan(options: argparse.Namespace, phase: str) -> Plan:
    from training.flow import Plan

    steps = options.steps or STEPS[phase]
    return Plan(
        steps=steps,
        decay=options.decay or steps // 3,
        batch=_batch(options, phase),
        rate=options.rate,
        control_share=options.control_share,
        binding=_binding(options) if phase == "flow" else 0,
        shipped=EMBEDDED if options.from_shipped else None,
        compiled=options.compile,
        device=options.device,
    )


def _binding(options: argparse.Namespace) -> int:
    """What ships knows its names already."""
    if options.binding is None:
        return 0 if options.from_shipped else BINDING
    return int(options.binding)


def depth(options: argparse.Namespace) -> None:
    """Train the depth estimator."""
    from training.depth_estimator import train

    train(options.folder, options.minutes or MINUTES["depth"], options.device, _batch(options, "depth"))


def judge(options: argparse.Namespace) -> None:
    """Train the network that the fidelity benchmark measures with."""
    from training.judge import train

    train(
        options.folder,
        JUDGE if options.target == EMBEDDED else options.target / JUDGE.name,
        options.minutes or MINUTES["judge"],
        options.device,
        _batch(options, "judge"),
    )


def plot(options: argparse.Namespace) -> None:
    """Draw the losses of all phases."""
    from training.plot import draw

    draw(options.folder, options.folder / "losses.png")


def export(options: argparse.Namespace) -> None:
    """Write the files that ship."""
    from training.export import default_control
    from training.export import export as write

    write(options.folder, options.target)
    default_control(options.target.parent / "default_control.png")


PHASES: dict[str, Callable[[argparse.Namespace], None]] = {
    "scenes": scenes,
    "words": words,
    "autoencoder": autoencoder,
    "text": text,
    "flow": flow,
    "guide": guide,
    "depth": depth,
    "judge": judge,
    "plot": plot,
    "export": export,
}

if __name__ == "__main__":
    main()
