"""The autoencoder's decoder once more, with less to do for the same picture.

A decoder grows by doubling every pixel and convolving the result, so most products meet one value two or four times.
Summed beforehand they are a transposed convolution: 16 products for every pixel that comes in instead of 36.
"""

import copy
from typing import Any

import torch
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from depthwright.engine.acceleration.levels import Chosen, Decoding

# Which of a kernel's three rows (or columns) meet the same pixel: one line for each of the folded kernel's four.
_MEETING = torch.tensor([[0.0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])


def fast_decoders(chosen: Chosen, vae: Any) -> dict[Decoding, Any]:
    """An autoencoder for each way of decoding that a level wants; what stays as it is shares the original's memory."""
    return {each: _fast(vae, each) for each in chosen.decodings}


@torch.no_grad()
def fold_upsampling(layer: Upsample2D) -> Upsample2D:
    """Doubling and a 3 x 3 convolution as one transposed convolution: equal but for rounding, borders included."""
    conv: Any = layer.conv
    folded = Upsample2D(layer.channels, use_conv_transpose=True, out_channels=layer.out_channels)
    weight, meeting = conv.weight.float(), _MEETING.to(conv.weight.device)
    kernel = torch.einsum("ai,bj,ocij->coab", meeting, meeting, weight).to(conv.weight.dtype)
    folded.conv = nn.ConvTranspose2d(
        layer.channels, layer.out_channels, 4, stride=2, padding=1, device="meta"
    )
    folded.conv.weight = nn.Parameter(_as_laid_out(kernel, conv.weight), requires_grad=False)
    folded.conv.bias = conv.bias
    return folded.eval()


def _fast(vae: Any, decoding: Decoding) -> Any:
    shared = [*vae.parameters(), *vae.buffers()]
    fast = copy.deepcopy(vae, {} if decoding.precision else {id(tensor): tensor for tensor in shared})
    if decoding.folded:
        for block in fast.decoder.up_blocks:
            if block.upsamplers is not None:
                block.upsamplers = nn.ModuleList(fold_upsampling(layer) for layer in block.upsamplers)
    # The module's own `to`: diffusers' warns of a list of parts to keep in float32, which is empty here.
    return nn.Module.to(fast, getattr(torch, decoding.precision)) if decoding.precision else fast


def _as_laid_out(kernel: Tensor, like: Tensor) -> Tensor:
    channels_last = like.is_contiguous(memory_format=torch.channels_last)
    return kernel.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
