"""Phase `text`: the T5 encoder learns what a caption's words have to do with each other, from captions alone.

FLUX gives text tokens no positions: all order in a prompt comes from T5. Left to the transformer's loss our encoder
learned none of it: after thousands of steps its attention was nearly flat, and the word `red` knew no more about the
noun behind it than a random network's would. So, as the real T5, it is trained on text first: every colour must know
the shape that it belongs to, and its object's place from the left.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm
from transformers import T5EncoderModel

from training import checkpoint
from training.captions import caption, from_left
from training.log import Log
from training.model import EmbeddedModel
from training.pointing import colour_words
from training.scenes import COLOURS, MOST_THINGS, SHAPES, random_scene
from training.shipped import load as load_shipped

CAPTIONS, BATCH, HELD_OUT = 6000, 96, 500
RATE, POSITION_RATE, DECAY = 1e-3, 2e-2, 0.4
LIKENESS_WEIGHT = 3.0


def train(folder: Path, steps: int, shipped: Path | None = None) -> None:
    """Write the encoder to the folder's `text`, where `flow` begins with it.

    With `shipped`, its states stay as near as they may to those that the shipped transformer knows.
    """
    torch.manual_seed(12)
    # 1. An encoder with fresh layers; the words keep what they mean to the shipped one.
    model = EmbeddedModel(folder / "embedded")
    encoder, known = model.text_encoder_2, None
    if shipped:
        other = EmbeddedModel(folder / "embedded")
        load_shipped(other, shipped)
        known = other.text_encoder_2.requires_grad_(False)
        encoder.shared.load_state_dict(known.shared.state_dict())
    # 2. Captions, where the colour of each object stands in them, and what is asked there.
    t5, places, shapes, ranks = examples(model, CAPTIONS)
    heads = nn.Linear(encoder.config.d_model, len(SHAPES) + MOST_THINGS)
    position = encoder.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    rest = [parameter for parameter in encoder.parameters() if parameter is not position]
    optimiser = torch.optim.AdamW(
        [{"params": [*rest, *heads.parameters()], "lr": RATE}, {"params": [position], "lr": POSITION_RATE}],
        betas=(0.9, 0.98),
        weight_decay=0.0,
    )
    falling = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / 20, max(0.03, (steps - step) / (DECAY * steps)))
    )
    log = Log(folder / "text.csv", ("step", "loss_shape", "loss_rank", "unlike"))
    for step in tqdm(range(1, steps + 1), desc="text", unit="step"):
        # 3. A step.
        rows = torch.randint(len(t5) - HELD_OUT, (BATCH,))
        states = encoder(t5[rows]).last_hidden_state
        losses = [
            *asked(heads, states, places[rows], shapes[rows], ranks[rows]),
            _unlike(known, states, t5[rows]),
        ]
        (losses[0] + losses[1] + LIKENESS_WEIGHT * losses[2]).backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        falling.step()
        if step % 50 == 0 or step == steps:
            shape, rank, unlike = (float(loss.detach()) for loss in losses)
            log.row(step=step, loss_shape=shape, loss_rank=rank, unlike=unlike)
    checkpoint.save(folder / "text", encoder=encoder.state_dict())


def examples(model: EmbeddedModel, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Token ids [N, L]; where each colour stands, what shape it belongs to and its place from the left, [N, MOST]."""
    rng = np.random.default_rng(12)
    drawn = [random_scene(rng) for _ in range(count)]
    t5, _ = model.tokenise([caption(scene, rng) for scene in drawn])
    colours, shapes, ranks = torch.full((3, count, MOST_THINGS), -1).unbind()
    for row, scene in enumerate(drawn):
        order = from_left(scene)
        for column, thing in enumerate(scene.things):
            colours[row, column] = list(COLOURS).index(thing.colour)
            shapes[row, column] = SHAPES.index(thing.shape)
            ranks[row, column] = order.index(thing)
    return t5, colour_words(t5, colours, model.colour_ids), shapes, ranks


def asked(
    heads: nn.Linear, states: Tensor, places: Tensor, shapes: Tensor, ranks: Tensor
) -> tuple[Tensor, Tensor]:
    """Cross-entropies of the shape and of the place from the left, read off the states of the colours' words."""
    index = places.clamp_min(0)[..., None].expand(-1, -1, states.shape[-1])
    logits = heads(states.gather(1, index)[places >= 0])
    shape, rank = logits.split((len(SHAPES), MOST_THINGS), 1)
    return (
        functional.cross_entropy(shape, shapes[places >= 0]),
        functional.cross_entropy(rank, ranks[places >= 0]),
    )


def _unlike(known: T5EncoderModel | None, states: Tensor, t5: Tensor) -> Tensor:
    """Mean square of what is new in the states, as a share of those that were known."""
    if known is None:
        return states.new_zeros(())
    with torch.no_grad():
        before = known(t5).last_hidden_state
    share: Tensor = (states - before).square().mean() / before.square().mean()
    return share
