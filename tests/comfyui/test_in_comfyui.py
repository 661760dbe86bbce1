"""The node pack in a real ComfyUI: `COMFYUI_DIR` names its checkout, `COMFYUI_PYTHON` its interpreter."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from depthwright.engine.engine import DEFAULT_CONTROL
from tests.comfyui.fake import input_page
from tests.comfyui.pack import Pack
from tests.comfyui.real import RealComfy, real_comfy
from tests.comfyui.toys import write_toys
from tests.comfyui.workflows import EXAMPLES, Prompt, id_of, node_of, prompt_of
from tests.support.serving import Serving

CHECKOUT, PYTHON = os.environ.get("COMFYUI_DIR"), os.environ.get("COMFYUI_PYTHON")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHECKOUT and PYTHON),
        reason="COMFYUI_DIR and COMFYUI_PYTHON name no ComfyUI to run the node pack in",
    ),
]
ROOM = Path(__file__).parents[1] / "golden" / "room.png"
LOCAL, API = "DepthwrightGenerateLocal", "DepthwrightGenerateAPI"


@pytest.fixture(scope="module")
def comfy(tmp_path_factory: pytest.TempPathFactory, server: Serving) -> Iterator[RealComfy]:
    base = tmp_path_factory.mktemp("comfyui")
    connections = base / "connections.toml"
    connections.write_text(f'[default]\nbase_url = "{server.base_url}"\nkey = "{server.key}"\n')
    write_toys(base)
    with real_comfy(Path(CHECKOUT or ""), PYTHON or "", base, connections) as running:
        running.upload(Image.open(ROOM).convert("RGB"), "example.png")
        # As RGB: newer versions of its Load Image change a grey PNG by a step here and there.
        running.upload(Image.open(DEFAULT_CONTROL).convert("RGB"), "depth.png")
        yield running


def quick(graph: Prompt, kind: str, **widgets: object) -> Prompt:
    """The example with few steps and a small size."""
    node_of(graph, kind).update({"size": "512*512", "num_inference_steps": 4, "seed": 7, **widgets})
    return graph


def same(one: Image.Image, other: Image.Image) -> bool:
    return (
        one.size == other.size
        and ImageChops.difference(one.convert("RGB"), other.convert("RGB")).getbbox() is None
    )


def all_cancelled(server: Serving, count: int) -> bool:
    """Whether so many of the newest predictions were cancelled; a worker is given time to hear of it."""
    until = time.monotonic() + 30
    with server.client() as client:
        while True:
            page = client.post("/api/v3/predictions", json={"page": 1, "page_size": count}).json()["data"]
            done = [each["cancelled"] for each in page["items"]] == [True] * count
            if done or time.monotonic() > until:
                return done
            time.sleep(0.2)


def test_its_nodes_show_what_the_fake_in_the_other_tests_says(comfy: RealComfy, pack: Pack) -> None:
    with comfy.http as client:
        for node_id, node in pack.nodes.items():
            told = client.get(f"/object_info/{node_id}").json()[node_id]
            # The folders of models differ, and newer versions tell more of a choice.
            expected = input_page(node)
            for category, inputs in expected.items():
                found = told["input"][category]
                assert list(found) == list(inputs)
                for name, (kind, settings) in inputs.items():
                    assert found[name][0] == kind
                    if kind != "COMBO":
                        assert found[name][1] == settings
            assert told["output_name"] == [each.id for each in node.define_schema().outputs]


def test_examples_and_help_pages_are_served(comfy: RealComfy, pack: Pack) -> None:
    with comfy.http as client:
        assert sorted(client.get("/workflow_templates").json()["depthwright"]) == sorted(
            file.stem for file in EXAMPLES.glob("*.json")
        )
        for file in EXAMPLES.glob("*"):
            assert client.get(f"/api/workflow_templates/depthwright/{file.name}").is_success
        for node_id in pack.nodes:
            assert client.get(f"/extensions/depthwright/docs/{node_id}.md").is_success


def test_the_example_by_a_server_gives_a_batch_of_three(comfy: RealComfy, server: Serving) -> None:
    prompt = quick(prompt_of("depthwright_api"), API, num_images=3)
    ran = comfy.run(prompt)
    assert ran.how == "success", ran.end
    pictures = [comfy.picture(file) for file in ran.files(id_of(prompt, "SaveImage"))]
    # The fake engine behind the server paints the seed.
    assert [each.getpixel((9, 9)) for each in pictures] == [(7, 0, 0), (8, 0, 0), (9, 0, 0)]
    assert len(ran.files(id_of(prompt, "PreviewImage"))) == 1
    # The key is nowhere in what ComfyUI keeps.
    assert server.key not in str(ran.history)
    assert "prompt" in pictures[0].info
    assert server.key not in str(pictures[0].info)


def test_progress_and_previews_of_a_server_arrive(comfy: RealComfy) -> None:
    prompt = quick(prompt_of("depthwright_api"), API, prompt="slow", num_images=2, num_inference_steps=25)
    ran = comfy.run(prompt)
    assert {of for _, of in ran.progress} == {50}
    assert ran.previews > 0


def test_an_interrupt_stops_the_prediction_on_the_server(comfy: RealComfy, server: Serving) -> None:
    prompt = quick(prompt_of("depthwright_api"), API, prompt="slow", num_images=4, num_inference_steps=50)
    ran = comfy.run(prompt, interrupt_at=5)
    assert ran.how == "interrupted"
    assert all_cancelled(server, 1)


def test_an_interrupt_stops_all_predictions_that_run_beside_each_other(
    comfy: RealComfy, server: Serving
) -> None:
    prompt = quick(prompt_of("depthwright_api"), API, prompt="slow", num_images=4, num_inference_steps=50)
    first = id_of(prompt, API)
    prompt["second"] = {"class_type": API, "inputs": {**prompt[first]["inputs"], "seed": 8}}
    prompt["saved"] = {"class_type": "SaveImage", "inputs": {"images": ["second", 0], "filename_prefix": "b"}}
    ran = comfy.run(prompt, interrupt_at=5)
    assert ran.how == "interrupted"
    assert all_cancelled(server, 2)


def test_an_error_of_the_server_is_shown_in_its_words_and_nothing_is_saved(
    comfy: RealComfy, server: Serving
) -> None:
    saved = set((comfy.base / "output").rglob("*.png"))
    ran = comfy.run(quick(prompt_of("depthwright_api"), API, prompt="fail"))
    assert ran.how == "error"
    assert "The fake engine was told to fail." in ran.end["data"]["exception_message"]
    assert server.key not in str(ran.end)
    assert set((comfy.base / "output").rglob("*.png")) == saved


def test_a_workflow_for_a_strangers_server_is_refused_at_once(comfy: RealComfy, server: Serving) -> None:
    prompt = prompt_of("depthwright_api")
    node_of(prompt, "DepthwrightConnection")["base_url"] = "https://evil.example"
    answer = comfy.submit(prompt)
    assert answer.status_code == 400
    assert "nothing was sent" in answer.text
    assert server.key not in answer.text


def test_the_local_example_gives_a_batch_of_three(comfy: RealComfy) -> None:
    prompt = quick(prompt_of("depthwright_local"), LOCAL, num_images=3)
    ran = comfy.run(prompt)
    assert ran.how == "success", ran.end
    pictures = [comfy.picture(file) for file in ran.files(id_of(prompt, "SaveImage"))]
    assert [each.size for each in pictures] == [(512, 512)] * 3
    assert not same(pictures[0], pictures[1])
    assert ran.progress[-1] == (12, 12)
    assert ran.previews > 0


def test_local_pictures_are_those_of_the_command_to_the_byte(comfy: RealComfy, tmp_path: Path) -> None:
    prompt = quick(prompt_of("depthwright_local"), LOCAL, num_images=2)
    node_of(prompt, "LoadImage")["image"] = "depth.png"
    generate = node_of(prompt, LOCAL)
    generate["control_image"] = [id_of(prompt, "LoadImage"), 0]
    ran = comfy.run(prompt)
    comfy.command(
        "generate", "--prompt", generate["prompt"], "--size", "512*512", "--steps", "4", "--seed", "7",
        "--num-images", "2", "--control-image", str(DEFAULT_CONTROL), "--device", "cpu",
        "--output", str(tmp_path / "out.png"),
    )  # fmt: skip
    for number, file in enumerate(ran.files(id_of(prompt, "SaveImage")), 1):
        assert same(comfy.picture(file), Image.open(tmp_path / f"out-{number}.png"))


def test_a_local_run_is_interrupted_at_a_step_and_the_next_one_works(comfy: RealComfy) -> None:
    prompt = quick(prompt_of("depthwright_local"), LOCAL, num_images=4, num_inference_steps=50, seed=8)
    ran = comfy.run(prompt, interrupt_at=3)
    assert ran.how == "interrupted"
    assert max(done for done, _ in ran.progress) < 200
    assert comfy.run(quick(prompt_of("depthwright_local"), LOCAL, seed=9)).how == "success"


def test_freed_memory_is_used_again(comfy: RealComfy) -> None:
    with comfy.http as client:
        client.post("/free", json={"unload_models": True, "free_memory": True}).raise_for_status()
    assert comfy.run(quick(prompt_of("depthwright_local"), LOCAL, seed=10)).how == "success"


def test_a_refused_prompt_is_an_error_in_words(comfy: RealComfy) -> None:
    prompt = quick(prompt_of("depthwright_local"), LOCAL)
    node_of(prompt, "DepthwrightLoadEngine")["profile"] = "flux-dev"
    ran = comfy.run(prompt)
    assert ran.how == "error"
    assert "depthwright models pull flux-dev" in ran.end["data"]["exception_message"]


def test_the_example_with_comfyuis_own_nodes_follows_our_depth_map(comfy: RealComfy, tmp_path: Path) -> None:
    """With toys in the places of 24 GB: every node but the text encoders' loader is the real one."""
    prompt = prompt_of("depthwright_native")
    node_of(prompt, "KSampler")["steps"] = 2
    prompt[id_of(prompt, "DualCLIPLoader")] = {"class_type": "ToyClipLoader", "inputs": {}}
    ran = comfy.run(prompt)
    if ran.end["data"].get("node_type") == "UNETLoader":
        pytest.skip("this ComfyUI takes every FLUX for as wide as FLUX.1-dev, so it loads no toy")
    assert ran.how == "success", ran.end
    (picture,) = (comfy.picture(file) for file in ran.files(id_of(prompt, "SaveImage")))
    (depth,) = (comfy.picture(file) for file in ran.files(id_of(prompt, "PreviewImage")))
    assert picture.size == depth.size == Image.open(ROOM).size
    comfy.command("depth", str(ROOM), "--output", str(tmp_path / "depth.png"), "--device", "cpu")
    assert same(depth, Image.open(tmp_path / "depth.png"))
