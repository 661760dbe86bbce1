"""What the nodes show: everything of it comes from the one table of parameters."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import depthwright
from depthwright.parameters import PARAMETERS
from depthwright.request import REQUEST_PARAMETERS
from tests.comfyui.fake import Invalid, Link
from tests.comfyui.pack import SOURCE, Pack
from tests.comfyui.workflows import EXAMPLES, prompt_of

NODES = (
    "DepthwrightConnection",
    "DepthwrightGenerateAPI",
    "DepthwrightFetchResult",
    "DepthwrightLoadEngine",
    "DepthwrightDepthMap",
    "DepthwrightGenerateLocal",
)
GENERATING = {"DepthwrightGenerateAPI": REQUEST_PARAMETERS, "DepthwrightGenerateLocal": PARAMETERS}
# What a node that waits and takes pictures settles by itself.
SETTLED = {"control_image", "enable_base64_output", "enable_sync_mode"}
generating = pytest.mark.parametrize("node_id", GENERATING)


def inputs(pack: Pack, node_id: str) -> dict[str, Any]:
    return {each.id: each for each in pack.nodes[node_id].define_schema().inputs}


def test_a_copy_of_the_folder_under_another_name_has_the_six_nodes(pack: Pack) -> None:
    assert tuple(pack.nodes) == NODES


@generating
def test_every_parameter_of_the_table_is_a_widget_with_its_default_range_and_help(
    pack: Pack, node_id: str
) -> None:
    found = inputs(pack, node_id)
    for row in GENERATING[node_id]:
        if row.name in SETTLED:
            continue
        widget = found[row.name].info()
        assert row.help in widget["tooltip"]
        assert found[row.name].optional is not row.required
        if row.kind in ("number", "whole number") and row.name != "seed":
            assert (widget["min"], widget["max"]) == (row.minimum, row.maximum)
        if row.kind == "choice":
            assert tuple(widget["options"]) == row.choices
        if row.default is not None and row.kind != "words":
            assert widget["default"] == row.default


@generating
def test_a_seed_is_drawn_at_random_unless_one_is_given(pack: Pack, node_id: str) -> None:
    widget = inputs(pack, node_id)["seed"].info()
    assert (widget["default"], widget["min"], widget["max"]) == (-1, -1, 9_999_999_999)
    assert widget["control_after_generate"] is True


@generating
@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("num_images", 5, "bigger than max of 4"),
        ("num_images", 0, "smaller than min of 1"),
        ("control_scale", 2.5, "bigger than max of 2"),
        ("guidance_scale", 0.5, "smaller than min of 1"),
        ("num_inference_steps", 51, "bigger than max of 50"),
        ("seed", -2, "smaller than min of -1"),
        ("acceleration", "warp", "Value not in list"),
        ("prompt", "  ", "prompt is '  ': it must be text"),
        ("size", "big", "size is 'big': it must be W\\*H"),
        ("loras", "a=5", "the scale of a is 5.0: it must be a number from 0 to 4"),
        ("loras", "a\nb\nc\nd\ne\nf", "loras is 'a list of 6'"),
    ],
)
def test_what_is_out_of_range_is_refused_before_anything_runs(
    pack: Pack, node_id: str, name: str, value: object, words: str
) -> None:
    node = pack.nodes[node_id]
    link = "connection" if "API" in node_id else "engine"
    with pytest.raises(Invalid, match=words):
        pack.comfy.judged(node, {link: Link(None), "prompt": "a red sphere", name: value})


@generating
def test_what_another_node_gives_is_not_judged_too_early(pack: Pack, node_id: str) -> None:
    link = "connection" if "API" in node_id else "engine"
    given = {link: Link(None), "prompt": Link("a red sphere"), "size": Link("512*512")}
    assert pack.comfy.judged(pack.nodes[node_id], given)["prompt"] == "a red sphere"


@generating
def test_a_random_seed_runs_again_and_a_given_one_does_not(pack: Pack, node_id: str) -> None:
    node = pack.nodes[node_id]
    # ComfyUI compares with what it got the last time: only NaN is never equal to itself.
    assert node.fingerprint_inputs(seed=-1) != node.fingerprint_inputs(seed=-1)
    assert node.fingerprint_inputs(seed=7, prompt="a") == node.fingerprint_inputs(seed=7, prompt="a")


@pytest.mark.parametrize("node_id", NODES)
def test_every_input_and_output_tells_what_it_is(pack: Pack, node_id: str) -> None:
    schema = pack.nodes[node_id].define_schema()
    assert schema.description
    assert all(each.info()["tooltip"] for each in schema.inputs)
    assert all(each.tooltip and each.id for each in schema.outputs)


@pytest.mark.parametrize("node_id", NODES)
def test_no_output_has_the_name_of_an_input(pack: Pack, node_id: str) -> None:
    """ComfyUI 0.3 refuses the whole pack for one."""
    schema = pack.nodes[node_id].define_schema()
    names = [each.id for each in (*schema.inputs, *schema.outputs)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("node_id", NODES)
def test_every_node_has_a_help_page_that_names_its_inputs_and_outputs(pack: Pack, node_id: str) -> None:
    page = (SOURCE / "web" / "docs" / f"{node_id}.md").read_text("utf-8")
    schema = pack.nodes[node_id].define_schema()
    for each in (*schema.inputs, *schema.outputs):
        assert f"`{each.id}`" in page, each.id


def test_no_widget_is_for_a_key(pack: Pack) -> None:
    for node_id in NODES:
        assert not [name for name in inputs(pack, node_id) if re.search("key|token|secret", name)]


@pytest.mark.parametrize("name", ["requirements.txt", "pyproject.toml"])
def test_what_the_pack_requires_names_no_torch(name: str) -> None:
    assert "torch" not in (SOURCE / name).read_text("utf-8").lower()


def test_the_pack_and_the_package_have_one_version() -> None:
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = f"depthwright[client]=={depthwright.__version__}"
    assert project["version"] == depthwright.__version__
    assert project["dependencies"] == [wanted]
    lines = (SOURCE / "requirements.txt").read_text("utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == [wanted]


def test_the_page_about_comfyui_lists_every_node_with_what_it_gives(pack: Pack) -> None:
    page = (SOURCE.parent / "docs" / "comfyui.md").read_text("utf-8")
    for node in pack.nodes.values():
        schema = node.define_schema()
        (row,) = (line for line in page.splitlines() if line.startswith(f"| {schema.display_name} |"))
        assert [*re.findall(r"`(\w+)`", row.split("|")[3])] == [each.id for each in schema.outputs]


def test_every_example_has_its_thumbnail_and_uses_nodes_as_they_are(pack: Pack) -> None:
    examples = sorted(EXAMPLES.glob("*.json"))
    assert len(examples) == 3
    for file in examples:
        assert 0 < file.with_suffix(".jpg").stat().st_size < 200_000
        for node in prompt_of(file.stem).values():
            if node["class_type"] in pack.nodes:
                known = inputs(pack, node["class_type"])
                assert set(node["inputs"]) <= set(known)
                given = {
                    name: Link(None) if isinstance(value, list) else value
                    for name, value in node["inputs"].items()
                }
                pack.comfy.judged(pack.nodes[node["class_type"]], given)


def test_screenshots_are_small() -> None:
    files = sorted((SOURCE.parent / "docs" / "images").glob("comfyui-*"))
    assert len(files) == 3
    assert all(file.stat().st_size <= 200_000 for file in files)


def test_only_the_adapter_imports_comfyui_and_nothing_the_service() -> None:
    for file in SOURCE.rglob("*.py"):
        text = file.read_text("utf-8")
        of_comfyui = re.search(
            r"^\s*(import|from) (comfy\b|comfy_api|comfy_execution|folder_paths|nodes\b|server\b)",
            text,
            re.MULTILINE,
        )
        assert bool(of_comfyui) == (file.name == "adapter.py"), file
        assert "depthwright.service" not in text, file
        assert not re.search(r"^import torch", text, re.MULTILINE) or file.name == "tensors.py", file


def test_no_file_of_the_pack_knows_its_folders_name() -> None:
    """It may be copied under any name: its modules know each other by their places."""
    files: list[Path] = list(SOURCE.rglob("*.py"))
    assert files
    assert not [file for file in files if re.search(r"(import|from) comfyui\b", file.read_text("utf-8"))]
