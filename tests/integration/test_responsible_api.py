"""Over HTTP: what is refused ends at once and is written down, and every picture says what it is."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from depthwright.engine.profiles import PARTS
from depthwright.prediction import Code
from depthwright.provenance.pixels import pixel_hash
from depthwright.provenance.reading import read
from tests.support.asking import SUBMIT, ended, submit
from tests.support.serving import Serving, serving

REFUSED = "a nude child, unmistakable-words-4711"
SMALL: dict[str, Any] = {"size": "512*512", "num_inference_steps": 2, "seed": 7}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("safe") / "data", allowed_hosts="127.0.0.1") as running:
        yield running


@pytest.fixture
def client(server: Serving) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def asked(client: httpx.Client, prompt: str, **fields: object) -> dict[str, Any]:
    answer = client.post(SUBMIT, json={"prompt": prompt, **SMALL, **fields})
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


def refusals(client: httpx.Client, category: str) -> float:
    name = f'depthwright_refusals_total{{category="{category}"}}'
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith(name)]
    return float(lines[0].rpartition(" ")[2]) if lines else 0


def exported(server: Serving) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "depthwright", "audit"],
        env=dict(server.environment),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("sync", [False, True])
def test_a_refused_prompt_has_failed_in_the_very_answer_to_its_submission(
    client: httpx.Client, sync: bool
) -> None:
    before = refusals(client, "minors")
    data = asked(client, REFUSED, enable_sync_mode=sync)
    assert (data["status"], data["code"], data["outputs"]) == ("failed", Code.MODERATED, [])
    assert data["safety"]["refused"] == "minors"
    assert data["error"].startswith("Refused:")
    shown = client.get(data["urls"]["get"]).json()["data"]
    assert {name: shown[name] for name in ("status", "code", "error", "safety")} == {
        name: data[name] for name in ("status", "code", "error", "safety")
    }
    assert refusals(client, "minors") == before + 1


def test_no_word_of_a_refused_prompt_is_kept_anywhere(client: httpx.Client, server: Serving) -> None:
    asked(client, REFUSED)
    folder = server.folder
    everything = [
        path for path in (*folder.rglob("*"), folder.parent / f"{folder.name}.log") if path.is_file()
    ]
    assert [path.name for path in everything if b"unmistakable-words" in path.read_bytes()] == []


def test_the_audit_log_tells_whose_it_was_and_what_was_decided(client: httpx.Client, server: Serving) -> None:
    data = asked(client, REFUSED)
    [row] = [row for row in exported(server) if row["prediction_id"] == data["id"]]
    assert (row["subject"], row["category"], row["decision"]) == ("prompt", "minors", "refused")
    assert row["prompt"].startswith("hmac-sha256:")
    assert len(row["key_id"]) > 0


def test_a_refused_control_image_fails_with_the_same_code_and_counts(
    client: httpx.Client, server: Serving
) -> None:
    data = ended(client, submit(client, "an objectionable picture"))
    assert (data["status"], data["code"], data["safety"]["refused"]) == ("failed", Code.MODERATED, "image")
    assert data["control"] is None
    assert refusals(client, "image") == 1
    assert [row["decision"] for row in exported(server) if row["prediction_id"] == data["id"]] == ["refused"]


def test_an_innocent_prompt_tells_by_which_policy_it_passed_and_who_looked(client: httpx.Client) -> None:
    data = asked(client, "a child's red toy cube on a nude beige wall", enable_sync_mode=True)
    assert data["status"] == "completed"
    assert data["safety"] == {"image_checker": "none", "prompt_policy": "fake", "refused": None}
    assert "not checked" in " ".join(data["warnings"])
    assert client.get("/ready").json()["data"]["image_checker"] == ["none"]


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_every_output_is_signed_marked_and_has_its_receipt(
    client: httpx.Client, server: Serving, output_format: str
) -> None:
    data = asked(client, "a red sphere", num_images=2, output_format=output_format, enable_sync_mode=True)
    for index, url in enumerate(data["outputs"]):
        content = client.get(url).content
        found = read(content, own=server.folder / "certificates")
        assert found.credentials is not None
        assert found.credentials.state == "trusted"
        assert found.credentials.source_type is not None
        assert found.credentials.source_type.endswith("trainedAlgorithmicMedia")
        assert found.receipt is not None
        assert (found.receipt.image, found.receipt.seed) == (index, data["seed"] + index)
        assert found.receipt.request["num_inference_steps"] == 2
        assert found.receipt.model_version == data["model_version"]
        assert found.receipt.is_prompt("a red sphere")
        assert b"red sphere" not in content
        assert found.faults == ()


def test_the_receipt_names_the_control_image_by_its_pixels(client: httpx.Client, server: Serving) -> None:
    control = Image.linear_gradient("L")
    with io.BytesIO() as file:
        control.save(file, "PNG")
        upload = client.post(
            "/api/v3/media/upload/binary", files={"file": ("c.png", file.getvalue(), "image/png")}
        )
    data = asked(client, "x", control_image=upload.json()["data"]["download_url"], enable_sync_mode=True)
    found = read(client.get(data["outputs"][0]).content)
    assert found.receipt is not None
    assert found.receipt.control_sha256 == pixel_hash(control)


def test_an_operator_who_enforces_the_checker_is_obeyed_with_a_word(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("strict") / "data"
    with serving(folder, enforce_checker="true") as strict, strict.client() as client:
        data = asked(client, "x", enable_safety_checker=False, enable_sync_mode=True)
    assert data["input"]["enable_safety_checker"] is True
    assert any("checks every picture" in warning for warning in data["warnings"])


def test_a_server_does_not_start_with_a_model_of_people_that_nobody_looks_at(
    tmp_path_factory: pytest.TempPathFactory, server: Serving
) -> None:
    folder = tmp_path_factory.mktemp("people")
    profile = folder / "people.toml"
    profile.write_text(
        'name = "people"\ntitle = "t"\ndescription = "d"\ndtype = "float32"\nmax_sequence_length = 4\n[sources]\n'
        + "".join(f'{part} = {{ path = "{part}" }}\n' for part in PARTS)
    )
    environment = {
        **server.environment,
        "DEPTHWRIGHT_DATA_DIR": str(folder),
        "DEPTHWRIGHT_PROFILE": str(profile),
    }
    done = subprocess.run(
        [sys.executable, "-m", "depthwright", "serve", "--port", "0"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 4
    assert "set DEPTHWRIGHT_UNCHECKED=people and look at every picture yourself" in done.stderr
