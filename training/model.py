"""The embedded transformer and text encoders, and the control LoRA that is trained with them from the first step.

One network is trained in two guises: the base alone (scale 0), and base plus LoRA (scale > 0) with the depth map beside
the noise. The base learns from both, the LoRA only what depth adds, so it stays low-rank without any later truncation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from depthwright.engine.hardware import multiplies_bfloat16
from training.pointing import Pointing
from training.scenes import COLOURS, SHAPES
from training.words import CLIP_LENGTH, T5_LENGTH

TOKEN = 128
WIDTH = 256
RANK = 48


class Scale:
    """The control scale of the batch under way, shared by all layers of one network under training.

    A tensor, so that a compiled network is the same for all scales but 0, where it is another one.
    """

    def __init__(self) -> None:
        self.off, self.value = True, torch.zeros(())

    def set(self, scale: float, device: torch.device) -> None:
        """For the forward passes to come."""
        self.off, self.value = scale == 0, torch.tensor(scale, device=device)


class LoraLinear(nn.Module):
    """y = (W + s B A) x + b + s c; a wider input than W's is the control part, which the base does not see."""

    def __init__(self, base: nn.Linear, scale: Scale, extra_inputs: int = 0) -> None:
        super().__init__()
        self.base, self.scale, self.extra_inputs = base, scale, extra_inputs
        inputs = base.in_features + extra_inputs
        self.lora_A = nn.Parameter(torch.randn(RANK, inputs) / inputs**0.5)
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, RANK))
        self.lora_bias = nn.Parameter(torch.zeros(base.out_features))

    def forward(self, x: Tensor) -> Tensor:
        if self.scale.off:
            return nn.functional.linear(x, self.base.weight, self.base.bias)
        weight = nn.functional.pad(self.base.weight, (0, self.extra_inputs))
        weight = weight + self.scale.value * (self.lora_B @ self.lora_A)
        return nn.functional.linear(x, weight, self.base.bias + self.scale.value * self.lora_bias)


class LoraNorm(nn.Module):
    """An RMS norm whose gain the LoRA replaces as a whole, whatever the scale, as the real depth LoRA does."""

    def __init__(self, base: nn.RMSNorm, scale: Scale) -> None:
        super().__init__()
        self.base, self.scale = base, scale
        self.lora_weight = nn.Parameter(base.weight.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        weight = self.base.weight if self.scale.off else self.lora_weight
        return nn.functional.rms_norm(x, list(weight.shape), weight.to(x.dtype), self.base.eps)


class Naming(nn.Module):
    """Names the colour and shape that each picture token shows, from the states of the last block. Never shipped.

    Velocity alone teaches slowly which word belongs to which shape: a wrong colour costs little beside texture. This
    head asks for it outright, so the blocks before it learn to bind words to places (as representation alignment does).
    """

    def __init__(self, transformer: FluxTransformer2DModel) -> None:
        super().__init__()
        self.heads = nn.Linear(WIDTH, len(COLOURS) + len(SHAPES))
        self.states: Tensor | None = None
        transformer.norm_out.register_forward_pre_hook(self._keep)

    def _keep(self, _norm: nn.Module, inputs: tuple[Tensor, Tensor]) -> None:
        self.states = inputs[0]

    def loss(self, colours: Tensor, shapes: Tensor) -> Tensor:
        """Mean cross-entropy over the tokens that show a thing; targets [B, N] are -1 where none does."""
        states, self.states = self.states, None
        assert states is not None, "the transformer has not run"
        logits = self.heads(nn.functional.layer_norm(states.float(), (WIDTH,))).flatten(0, 1)
        parts = logits.split((len(COLOURS), len(SHAPES)), 1)
        losses = [
            nn.functional.cross_entropy(part, target.flatten(), ignore_index=-1, reduction="sum")
            for part, target in zip(parts, (colours, shapes), strict=True)
        ]
        return (losses[0] + 0.3 * losses[1]) / (colours >= 0).sum().clamp_min(1)


class EmbeddedModel(nn.Module):
    """Transformer, CLIP and T5 encoders, and the LoRA layers wrapped around the transformer's."""

    colour_ids: Tensor

    def __init__(self, tokenizers: Path) -> None:
        super().__init__()
        self.tokenizer = AutoTokenizer.from_pretrained(tokenizers / "tokenizer")
        self.tokenizer_2 = AutoTokenizer.from_pretrained(tokenizers / "tokenizer_2")
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(self.tokenizer),
                hidden_size=128,
                intermediate_size=384,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=CLIP_LENGTH,
                projection_dim=128,
                bos_token_id=self.tokenizer.bos_token_id,
                eos_token_id=self.tokenizer.eos_token_id,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        )
        self.text_encoder_2 = T5EncoderModel(
            T5Config(
                vocab_size=len(self.tokenizer_2),
                d_model=128,
                d_kv=32,
                d_ff=384,
                num_layers=3,
                num_heads=4,
                feed_forward_proj="gated-gelu",
                dropout_rate=0.0,
                use_cache=False,
            )
        )
        _look_around(self.text_encoder_2)
        self.transformer = FluxTransformer2DModel(
            in_channels=TOKEN,
            num_layers=2,
            num_single_layers=4,
            attention_head_dim=32,
            num_attention_heads=WIDTH // 32,
            joint_attention_dim=128,
            pooled_projection_dim=128,
            guidance_embeds=True,
            axes_dims_rope=(4, 14, 14),
        )
        _zero_init(self.transformer)
        self.scale = Scale()
        _wrap(self.transformer, self.scale)
        self.naming = Naming(self.transformer)
        self.pointing = Pointing(self.transformer)
        ids = [self.tokenizer_2(colour).input_ids[0] for colour in COLOURS]
        self.register_buffer("colour_ids", torch.tensor(ids), persistent=False)

    def tokenise(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Captions -> token ids of T5 [B, 40] and CLIP [B, 48], padded as FLUX pipelines do: T5 sees its padding."""
        t5, clip = (
            tokenizer(
                list(captions), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
            ).input_ids
            for tokenizer, length in ((self.tokenizer_2, T5_LENGTH), (self.tokenizer, CLIP_LENGTH))
        )
        return t5, clip

    def encode(self, t5: Tensor, clip: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids -> (T5 states [B, 40, 128], CLIP pooled [B, 128])."""
        return self.text_encoder_2(t5).last_hidden_state, self.text_encoder(clip).pooler_output

    def text(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Captions -> (T5 states, CLIP pooled)."""
        device = self.text_encoder.device
        t5, clip = self.tokenise(captions)
        return self.encode(t5.to(device), clip.to(device))

    def forward(
        self,
        tokens: Tensor,
        control: Tensor | None,
        t: Tensor,
        text: tuple[Tensor, Tensor],
        guidance: Tensor,
        grid: tuple[int, int],
        scale: float,
    ) -> Tensor:
        """Velocity [B, N, 128] at time t (1 = noise); control tokens are needed where scale > 0."""
        self.scale.set(scale, tokens.device)
        if scale > 0:
            assert control is not None
            tokens = torch.cat((tokens, control), 2)
        rows, columns = grid
        ids = torch.zeros(rows, columns, 3, device=tokens.device)
        ids[..., 1] = torch.arange(rows, device=tokens.device)[:, None]
        ids[..., 2] = torch.arange(columns, device=tokens.device)[None]
        velocity: Tensor = self.transformer(
            hidden_states=tokens,
            timestep=t,
            guidance=guidance,
            encoder_hidden_states=text[0],
            pooled_projections=text[1],
            img_ids=ids.view(-1, 3),
            txt_ids=torch.zeros(text[0].shape[1], 3, device=tokens.device),
            return_dict=False,
        )[0]
        return velocity

    def velocity(
        self,
        noisy: Tensor,
        control: Tensor | None,
        t: Tensor,
        words: tuple[Tensor, Tensor],
        guidance: Tensor,
        grid: tuple[int, int],
        scale: float,
    ) -> Tensor:
        """From token ids to velocity in float32, as training asks for it: in bfloat16 inside where that is faster."""
        with _narrow(noisy.device):
            velocity: Tensor = self(noisy, control, t, self.encode(*words), guidance, grid, scale)
        return velocity.float()

    def save(self, folder: Path) -> None:
        """Write diffusers folders and the LoRA, keyed as FLUX.1-Depth-dev-lora's diffusers form is."""
        base: dict[str, Tensor] = {}
        lora: dict[str, Tensor] = {}
        for name, value in self.transformer.state_dict().items():
            held = value.detach().cpu().contiguous()
            if ".lora_A" in name or ".lora_B" in name:
                lora[f"transformer.{name}.weight"] = held
            elif name.endswith(".lora_bias"):
                lora[f"transformer.{name.removesuffix('.lora_bias')}.lora_B.bias"] = held
            elif name.endswith(".lora_weight"):
                lora[f"transformer.{name.removesuffix('.lora_weight')}.weight"] = held
            else:
                base[name.replace(".base.", ".")] = held
        plain = FluxTransformer2DModel.from_config(self.transformer.config)
        plain.load_state_dict(base)
        plain.save_pretrained(folder / "transformer")
        self.text_encoder.save_pretrained(folder / "text_encoder")
        self.text_encoder_2.save_pretrained(folder / "text_encoder_2")
        save_file(lora, folder / "control_lora.safetensors", metadata={"format": "pt"})


@contextmanager
def _narrow(device: torch.device) -> Iterator[None]:
    """Products in bfloat16 on devices that have units for it. On CPUs without the fused attention, whose way back is
    slow in bfloat16: 0.68 seconds for 16 samples there and back with plain products, 0.78 with it, 0.98 in float32
    (one core of an AMD EPYC with avx512_bf16).
    """
    with torch.autocast(device.type, torch.bfloat16, enabled=multiplies_bfloat16(device)):
        if device.type == "cpu":
            with sdpa_kernel(SDPBackend.MATH):
                yield
        else:
            yield


@torch.no_grad()
def _look_around(encoder: T5EncoderModel) -> None:
    """Heads that begin with the next word, the last one, all before and all after.

    T5's biases begin near zero and would take thousands of steps to single a neighbour out; Muon never sees them.
    """
    bias = encoder.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    bias.zero_()
    # Buckets [32, heads]: 0 to 15 for what stands before (1: the word just before), 16 to 31 for what follows.
    bias[17, 0] = bias[1, 1] = 5.0
    bias[1:16, 2] = bias[17:32, 3] = 4.0


def _zero_init(transformer: FluxTransformer2DModel) -> None:
    for name, module in transformer.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
            if (".norm" in name and name.endswith(".linear")) or name in ("norm_out.linear", "proj_out"):
                nn.init.zeros_(module.weight)


def _wrap(transformer: FluxTransformer2DModel, scale: Scale) -> None:
    for name, module in list(transformer.named_modules()):
        parent = transformer.get_submodule(name.rpartition(".")[0])
        leaf = name.rpartition(".")[2]
        if isinstance(module, nn.Linear):
            setattr(parent, leaf, LoraLinear(module, scale, TOKEN if name == "x_embedder" else 0))
        elif leaf in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
            setattr(parent, leaf, LoraNorm(module, scale))
