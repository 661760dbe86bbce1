"""The prompt becomes numbers: T5's states for every token, CLIP's one vector for the whole."""

import torch
from torch import Tensor

from depthwright.engine.components import Components, TextEmbeddings


@torch.inference_mode()
def encode_prompt(components: Components, prompt: str) -> TextEmbeddings:
    """Encode as FLUX pipelines do: both padded to their full length, what is longer is cut."""
    return TextEmbeddings(tokens=_t5(components, prompt), pooled=_clip(components, prompt))


def _clip(components: Components, prompt: str) -> Tensor:
    tokenizer = components.tokenizer
    ids = tokenizer(
        [prompt],
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    output = components.text_encoder(ids.to(components.shelf.device), output_hidden_states=False)
    pooled: Tensor = output.pooler_output.to(components.device, components.dtype)
    return pooled


def _t5(components: Components, prompt: str) -> Tensor:
    ids = components.tokenizer_2(
        [prompt],
        padding="max_length",
        max_length=components.profile.max_sequence_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    offloaded = components.profile.memory == "group_offload"
    device = components.device if offloaded else components.shelf.device
    states: Tensor = components.text_encoder_2(ids.to(device), output_hidden_states=False)[0]
    return states.to(components.device, components.dtype)
