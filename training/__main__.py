"""`python -m training PHASE`: scenes, words, autoencoder, flow, depth, judge, export; `all` runs them in this order.

Every phase goes on from what its folder already holds, on a CPU or a GPU; `--minutes` is what it may take.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

OUT = Path(__file__).parent / "out"
EMBEDDED = Path(__file__).parents[1] / "src" / "depthwright" / "engine" / "embedded"
MINUTES = {"autoencoder": 40.0, "flow": 90.0, "depth": 20.0, "judge": 12.0}
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
    parser.add_argument("--shards", type=int, default=120, help="shards of 128 scenes to render")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for phase in PHASES if options.phase == "all" else [options.phase]:
        PHASES[phase](options)


def scenes(options: argparse.Namespace) -> None:
    """Render the training scenes, and a few that no phase ever trains on."""
    from training.dataset import render_shards

    render_shards(options.folder / "scenes", 0, options.shards, options.device)
    render_shards(options.folder / "heldout", HELD_OUT, 6, options.device)


def words(options: argparse.Namespace) -> None:
    """Build the tokenizers."""
    from training.words import build

    build(options.folder / "embedded")


def autoencoder(options: argparse.Namespace) -> None:
    """Fit the encoder, train the decoder."""
    from training.autoencoder import train

    train(options.folder, options.minutes or MINUTES["autoencoder"], options.device)


def flow(options: argparse.Namespace) -> None:
    """Train transformer, text encoders and control LoRA."""
    from training.flow import train

    train(options.folder, options.minutes or MINUTES["flow"], options.device)


def depth(options: argparse.Namespace) -> None:
    """Train the depth estimator."""
    from training.depth_estimator import train

    train(options.folder, options.minutes or MINUTES["depth"], options.device)


def judge(options: argparse.Namespace) -> None:
    """Train the network that the fidelity benchmark measures with."""
    from training.judge import train

    train(
        options.folder,
        JUDGE if options.target == EMBEDDED else options.target / JUDGE.name,
        options.minutes or MINUTES["judge"],
    )


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
    "flow": flow,
    "depth": depth,
    "judge": judge,
    "export": export,
}

if __name__ == "__main__":
    main()
