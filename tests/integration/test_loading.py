"""Every format that FLUX comes in loads by the one path, and what is wrong with a file is said in words."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from depthwright.engine.components import Components
from depthwright.engine.engine import Engine
from depthwright.engine.loading import load_components
from depthwright.engine.profiles import Part, Profile, Source, load_profile
from depthwright.errors import InvalidParameter, OutOfMemory, WeightsInvalid, WeightsMissing
from tests.support.tiny import Tiny


def with_sources(profile: Profile, changed: Mapping[Part, Source]) -> Profile:
    return profile.model_copy(update={"sources": {**profile.sources, **changed}})


def small(tiny: Tiny, **changes: Any) -> Profile:
    """Pictures of 64 x 64, enlarged to what is asked for: a profile's native size saves the time of large ones."""
    return tiny.profile(native=((64, 64),), **changes)


def drawn(components: Components) -> bytes:
    result = Engine(components).generate(
        prompt="a red cube on sand", num_inference_steps=2, size="512*512", seed=1, control_scale=0.7
    )
    return result.images[0].tobytes()


@pytest.fixture(scope="module")
def expected(tiny: Tiny) -> bytes:
    """The picture that diffusers folders and a diffusers-keyed LoRA give."""
    return drawn(load_components(small(tiny)))


def test_bfl_files_give_the_picture_that_diffusers_folders_give(tiny: Tiny, expected: bytes) -> None:
    single: dict[Part, Source] = {
        "transformer": Source(path=tiny.bfl_transformer, config=tiny.folder / "transformer"),
        "vae": Source(path=tiny.single_vae, config=tiny.folder / "vae"),
        "control_lora": Source(path=tiny.bfl_lora),
    }
    assert drawn(load_components(with_sources(small(tiny), single))) == expected


def test_a_lora_may_be_named_by_its_folder(tiny: Tiny, tmp_path: Path, expected: bytes) -> None:
    shutil.copy(tiny.lora, tmp_path)
    assert drawn(load_components(small(tiny), overrides={"control_lora": tmp_path})) == expected


@pytest.mark.parametrize("memory", ["fp8", "group_offload"])
def test_a_profile_for_less_memory_still_follows_the_scale(memory: str, tiny: Tiny) -> None:
    components = load_components(small(tiny, memory=memory, dtype="bfloat16"))
    stored = components.transformer.transformer_blocks[0].ff.net[2].weight.dtype
    assert stored == (torch.float8_e4m3fn if memory == "fp8" else torch.bfloat16)
    engine = Engine(components)
    pictures = {
        scale: engine.generate(
            prompt="a cube", control_scale=scale, num_inference_steps=1, size="512*512", seed=2
        ).images[0].tobytes()
        for scale in (0.0, 1.0)
    }  # fmt: skip
    assert pictures[0.0] != pictures[1.0]


def test_the_version_changes_with_any_weight_and_only_then(tiny: Tiny, tmp_path: Path) -> None:
    lora = load_file(tiny.lora)
    changed = tmp_path / "control_lora.safetensors"
    save_file(lora, changed)
    same = load_components(small(tiny), overrides={"control_lora": changed}).model_version
    assert same == load_components(small(tiny)).model_version
    lora["transformer.x_embedder.lora_B.bias"] += 1
    save_file(lora, changed)
    assert load_components(small(tiny), overrides={"control_lora": changed}).model_version != same


def test_digests_are_remembered_until_a_file_changes(tiny: Tiny, tmp_path: Path) -> None:
    version = load_components(small(tiny), cache_dir=tmp_path).model_version
    known = json.loads((tmp_path / "digests.json").read_text())
    lora = next(key for key in known if "control_lora" in key)
    assert known[lora] == hashlib.sha256(tiny.lora.read_bytes()).hexdigest()
    assert load_components(small(tiny), cache_dir=tmp_path).model_version == version


def test_a_missing_part_is_named_with_the_step_to_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsMissing, match="depthwright models pull flux-dev"):
        load_components(load_profile("flux-dev"))


@pytest.mark.parametrize("name", ["lora.bin", "lora.pt", "lora.ckpt"])
def test_pickles_are_never_read(name: str, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(WeightsInvalid, match="pickle"):
        load_components(small(tiny), overrides={"control_lora": tmp_path / name})


def test_a_truncated_file_is_told(tiny: Tiny, tmp_path: Path) -> None:
    broken = tmp_path / "lora.safetensors"
    broken.write_bytes(tiny.lora.read_bytes()[:2000])
    with pytest.raises(WeightsInvalid, match="cannot be read as safetensors"):
        load_components(small(tiny), overrides={"control_lora": broken})


def test_a_single_file_that_lacks_a_tensor_is_told(tiny: Tiny, tmp_path: Path) -> None:
    tensors = load_file(tiny.bfl_transformer)
    del tensors["txt_in.bias"]
    save_file(tensors, tmp_path / "partial.safetensors")
    source = Source(path=tmp_path / "partial.safetensors", config=tiny.folder / "transformer")
    with pytest.raises(WeightsInvalid, match=r"context_embedder\.bias"):
        load_components(with_sources(small(tiny), {"transformer": source}))


def test_a_part_that_does_not_exist_cannot_be_overridden(tiny: Tiny) -> None:
    with pytest.raises(InvalidParameter, match="control_lora"):
        load_components(small(tiny), overrides={"lora": tiny.lora})


def test_a_device_that_is_not_here_is_refused(tiny: Tiny) -> None:
    with pytest.raises(InvalidParameter, match="torch device"):
        load_components(small(tiny), device="cuda:99")


def test_running_out_of_memory_while_loading_is_one_clear_error(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_args: object, **_options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 24 GiB")

    monkeypatch.setattr("depthwright.engine.loading.read_lora", exhausted)
    with pytest.raises(OutOfMemory, match="profile that needs less"):
        load_components(small(tiny))


def test_a_model_that_lacks_a_weight_is_refused_not_filled_with_noise(tiny: Tiny, tmp_path: Path) -> None:
    """The library would draw the missing weight at random, and say so in a log line that nobody reads."""
    shutil.copytree(tiny.folder / "text_encoder", tmp_path / "text_encoder")
    file = tmp_path / "text_encoder" / "model.safetensors"
    weights = load_file(file)
    lost = next(name for name in weights if name.endswith("q_proj.weight"))
    del weights[lost]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(WeightsInvalid, match=r"not whole: it lacks .*q_proj\.weight"):
        load_components(small(tiny), overrides={"text_encoder": tmp_path / "text_encoder"})


def test_a_folder_of_another_part_is_refused(tiny: Tiny) -> None:
    with pytest.raises((WeightsInvalid, WeightsMissing), match="vae of tiny"):
        load_components(small(tiny), overrides={"vae": tiny.folder / "transformer"})


def test_a_single_file_of_another_model_is_refused(tiny: Tiny) -> None:
    with pytest.raises(WeightsInvalid, match=r"no FLUX transformer|alone does not tell"):
        load_components(small(tiny), overrides={"transformer": tiny.single_vae}, unchecked="tiny")


def test_a_lora_in_the_place_of_the_transformer_is_refused(tiny: Tiny) -> None:
    with pytest.raises(WeightsInvalid, match="no whole FLUX transformer"):
        load_components(small(tiny), overrides={"transformer": tiny.bfl_lora}, unchecked="tiny")


def test_a_single_file_in_diffusers_keys_asks_for_its_folder(tiny: Tiny) -> None:
    file = tiny.folder / "transformer" / "diffusion_pytorch_model.safetensors"
    with pytest.raises(WeightsInvalid, match=r"beside its config\.json"):
        load_components(small(tiny), overrides={"transformer": file}, unchecked="tiny")


def test_changing_the_scale_never_writes_to_the_files(tiny: Tiny) -> None:
    """A file may be mapped into memory, and merging writes in place."""
    before = tiny.bfl_transformer.read_bytes()
    source = Source(path=tiny.bfl_transformer, config=tiny.folder / "transformer")
    components = load_components(with_sources(small(tiny), {"transformer": source}))
    components.adapter.set_scale(1.5)
    assert tiny.bfl_transformer.read_bytes() == before


def test_memory_running_out_inside_a_library_s_loader_is_told_as_such(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not pass for a broken file."""

    def exhausted(*_args: object, **_options: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 47 GB")

    monkeypatch.setattr("depthwright.engine.reading.FluxTransformer2DModel.from_pretrained", exhausted)
    with pytest.raises(OutOfMemory, match="loading tiny"):
        load_components(small(tiny))
