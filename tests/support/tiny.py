"""A FLUX of toy size with random weights, in every file format that the real one comes in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    DPTImageProcessorPil,
    GLPNConfig,
    GLPNForDepthEstimation,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from depthwright.engine.profiles import PARTS, Part, Profile, Source
from tests.support.bfl_writer import transformer_as_bfl, vae_as_bfl

LATENTS, HEADS, HEAD, JOINT, POOLED, RANK, LENGTH = 4, 2, 16, 24, 20, 3, 12
DOUBLE, SINGLE, LEVELS = 2, 2, 4
WIDTH, TOKEN = HEADS * HEAD, 4 * LATENTS
UNKNOWN = "<unk>"
WORDS = ("<pad>", "</s>", UNKNOWN, "a", "red", "blue", "cube", "sphere", "on", "sand")


@dataclass(frozen=True)
class Tiny:
    """Where the tiny model lies: `folder` holds diffusers folders and, beside them, single files."""

    folder: Path

    @property
    def lora(self) -> Path:
        """The control LoRA under diffusers' keys."""
        return self.folder / "control_lora.safetensors"

    @property
    def bfl_lora(self) -> Path:
        """The same LoRA under Black Forest Labs' keys."""
        return self.folder / "bfl_lora.safetensors"

    @property
    def bfl_transformer(self) -> Path:
        """The same transformer as one file under Black Forest Labs' keys."""
        return self.folder / "bfl_transformer.safetensors"

    @property
    def single_vae(self) -> Path:
        """The same autoencoder as one file under its original keys."""
        return self.folder / "ae.safetensors"

    def profile(self, **changes: Any) -> Profile:
        """A profile of the folders, in float32 and resident unless changed."""
        sources: dict[Part, Source] = {part: Source(path=self.folder, subfolder=part) for part in PARTS}
        sources["control_lora"] = Source(path=self.folder, filename="control_lora.safetensors")
        facts: dict[str, Any] = {
            "name": "tiny",
            "title": "Tiny",
            "description": "Random weights.",
            "dtype": "float32",
            "max_sequence_length": LENGTH,
            "depicts_people": False,
            "sources": sources,
        }
        return Profile(**{**facts, **changes})


def save_tiny(folder: Path) -> Tiny:
    """Draw the weights and write them in every format."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = _transformer()
        transformer.save_pretrained(folder / "transformer")
        vae = _vae()
        vae.save_pretrained(folder / "vae")
        _text_encoders(folder)
        _depth_estimator().save_pretrained(folder / "depth_estimator")
        lora = _lora(transformer)
    DPTImageProcessorPil(
        size={"height": 64, "width": 64}, keep_aspect_ratio=True, ensure_multiple_of=32, resample=2
    ).save_pretrained(folder / "depth_estimator")
    FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True).save_pretrained(folder / "scheduler")
    _tokenizer().save_pretrained(folder / "tokenizer")
    _tokenizer().save_pretrained(folder / "tokenizer_2")
    tiny = Tiny(folder)
    save_file(lora, tiny.lora)
    plain = {name.removeprefix("transformer."): value for name, value in lora.items()}
    save_file(transformer_as_bfl(plain, DOUBLE, SINGLE), tiny.bfl_lora)
    save_file(transformer_as_bfl(transformer.state_dict(), DOUBLE, SINGLE), tiny.bfl_transformer)
    save_file(vae_as_bfl(vae.state_dict(), LEVELS), tiny.single_vae)
    return tiny


def _transformer() -> FluxTransformer2DModel:
    model = FluxTransformer2DModel(
        in_channels=TOKEN,
        num_layers=DOUBLE,
        num_single_layers=SINGLE,
        attention_head_dim=HEAD,
        num_attention_heads=HEADS,
        joint_attention_dim=JOINT,
        pooled_projection_dim=POOLED,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return model


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * LEVELS,
        up_block_types=("UpDecoderBlock2D",) * LEVELS,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        latent_channels=LATENTS,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def _text_encoders(folder: Path) -> None:
    CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(WORDS),
            hidden_size=POOLED,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=LENGTH,
            bos_token_id=3,
            eos_token_id=1,
            pad_token_id=0,
        )
    ).save_pretrained(folder / "text_encoder")
    T5EncoderModel(
        T5Config(
            vocab_size=len(WORDS), d_model=JOINT, d_kv=8, d_ff=32, num_layers=1, num_heads=2, use_cache=False
        )
    ).save_pretrained(folder / "text_encoder_2")


def _depth_estimator() -> GLPNForDepthEstimation:
    return GLPNForDepthEstimation(
        GLPNConfig(
            hidden_sizes=[8, 8, 16, 16],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 1, 2, 2],
            sr_ratios=[8, 4, 2, 1],
            decoder_hidden_size=8,
            max_depth=1,
            drop_path_rate=0.0,
        )
    )


def _tokenizer() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    words = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": UNKNOWN}
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=LENGTH, **words)


def _lora(transformer: FluxTransformer2DModel) -> dict[str, Tensor]:
    """Every linear with a biased lora_B, fused ones sharing their lora_A; every norm replaced."""
    tensors: dict[str, Tensor] = {}
    shared: dict[str, Tensor] = {}
    for name, module in transformer.named_modules():
        if isinstance(module, torch.nn.Linear):
            inputs = 2 * TOKEN if name == "x_embedder" else module.in_features
            parent, _, leaf = name.rpartition(".")
            family = leaf if leaf not in ("to_q", "to_k", "to_v", "proj_mlp") else "qkv"
            family = "added" if leaf.startswith("add_") else family
            block = parent.removesuffix(".attn") if "single" in name else parent
            down = shared.setdefault(f"{block}.{family}", torch.randn(RANK, inputs) * 0.2)
            tensors[f"transformer.{name}.lora_A.weight"] = down.clone()
            tensors[f"transformer.{name}.lora_B.weight"] = torch.randn(module.out_features, RANK) * 0.2
            tensors[f"transformer.{name}.lora_B.bias"] = torch.randn(module.out_features) * 0.1
        elif name.rpartition(".")[2] in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
            tensors[f"transformer.{name}.weight"] = 1 + torch.randn(HEAD) * 0.3
    return tensors
