"""Weights are pulled by the real hub client from a hub of our own on loopback."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from depthwright.engine import hub
from depthwright.engine.profiles import PARTS, Part, Profile, Source, load_profile
from depthwright.engine.sources import locate
from depthwright.errors import DiskFull, WeightsMissing
from tests.support.tiny import Tiny

OPEN, GATED, ABSENT, SHY = "maker/open", "maker/gated", "maker/absent", "maker/shy"
COMMIT = "c" * 40


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's API that pulling needs."""

    files: dict[str, bytes]
    asked: list[str]
    address: str

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_args: Any) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        self.asked.append(self.path)
        if ABSENT in self.path:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body=body)
        elif GATED in self.path or (SHY in self.path and "/resolve/" in self.path):
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo"}, body=body)
        elif self.path.startswith("/api/models/"):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in self.files.items()]
            answer = {"id": OPEN, "modelId": OPEN, "sha": COMMIT, "siblings": siblings, "tags": []}
            self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"}, body=body)
        else:
            name = self.path.split("?")[0].split("/resolve/")[1].split("/", 1)[1]
            data = self.files[name]
            etag = hashlib.sha256(data).hexdigest()
            self._send(200, data, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body=body)

    def _send(self, status: int, data: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture
def server(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """A hub with the tiny model in it, a file that nobody asked for, and an empty cache on our side."""
    files = {str(p.relative_to(tiny.folder)): p.read_bytes() for p in tiny.folder.rglob("*") if p.is_file()}
    handler: type[Hub] = type(
        "Handler",
        (Hub,),
        {"files": {**files, "vae/old.bin": b"pickle", "huge.safetensors": b"x"}, "asked": []},
    )
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.02,))
    thread.start()
    handler.address = address = f"http://127.0.0.1:{http.server_port}"
    for module in ("constants", "hf_api", "file_download"):
        monkeypatch.setattr(f"huggingface_hub.{module}.ENDPOINT", address, raising=False)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    yield handler
    http.shutdown()
    thread.join()
    http.server_close()


def from_hub(tiny: Tiny, repo: str = OPEN, **changes: Any) -> Profile:
    sources: dict[Part, Source] = {part: Source(repo=repo, subfolder=part) for part in PARTS}
    sources["control_lora"] = Source(repo=repo, filename=tiny.lora.name)
    return tiny.profile(sources=sources, **changes)


def test_a_pull_fetches_what_the_profile_names_and_nothing_else(tiny: Tiny, server: type[Hub]) -> None:
    profile = from_hub(tiny)
    told: list[str] = []
    hub.pull(profile, accept_licence=True, on_file=lambda _i, _n, file: told.append(file.name))
    assert set(told) >= {"vae/config.json", "control_lora.safetensors"}
    assert not {"vae/old.bin", "huge.safetensors", "ae.safetensors"} & set(told)
    assert all(report.problem is None for report in hub.check(profile))
    assert locate(profile, "control_lora").read_bytes() == tiny.lora.read_bytes()


def test_what_is_pulled_loads_and_has_the_local_version(tiny: Tiny, server: type[Hub]) -> None:
    from depthwright.engine.loading import load_components

    hub.pull(from_hub(tiny), accept_licence=True)
    assert load_components(from_hub(tiny)).model_version == load_components(tiny.profile()).model_version


def test_before_the_licence_is_accepted_nothing_is_asked_of_the_hub(tiny: Tiny, server: type[Hub]) -> None:
    licences = load_profile("flux-dev").licences
    with pytest.raises(WeightsMissing, match="Non-Commercial"):
        hub.pull(from_hub(tiny, licences=licences), accept_licence=False)
    assert server.asked == []


def test_a_gated_repository_tells_the_steps(tiny: Tiny, server: type[Hub]) -> None:
    with pytest.raises(WeightsMissing, match=r"Accept its licence at https://huggingface\.co/maker/gated"):
        hub.pull(from_hub(tiny, GATED), accept_licence=True)


def test_a_repository_that_is_not_there_is_told(tiny: Tiny, server: type[Hub]) -> None:
    with pytest.raises(WeightsMissing, match="no such repository"):
        hub.pull(from_hub(tiny, ABSENT), accept_licence=True)


def test_check_tells_each_missing_part(tiny: Tiny, server: type[Hub]) -> None:
    problems = {report.part: report.problem for report in hub.check(from_hub(tiny))}
    assert problems.keys() == set(PARTS)
    assert all(problem and "models pull tiny" in problem for problem in problems.values())


def test_explain_says_what_would_run_and_that_weights_are_missing(tiny: Tiny, server: type[Hub]) -> None:
    lines = "\n".join(hub.explain(from_hub(tiny), device="cpu"))
    assert "device: cpu" in lines
    assert f"transformer: {OPEN}/transformer" in lines
    assert "model version: none yet" in lines


def test_a_gated_repository_that_lists_its_files_tells_the_steps_too(tiny: Tiny, server: type[Hub]) -> None:
    """As FLUX.1-dev does: anyone may see its list, and only those who accepted get a file."""
    with pytest.raises(WeightsMissing, match=r"Accept its licence at https://huggingface\.co/maker/shy"):
        hub.pull(from_hub(tiny, SHY), accept_licence=True)


def test_a_hub_that_does_not_answer_is_told(
    tiny: Tiny, server: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("constants", "hf_api", "file_download"):
        monkeypatch.setattr(f"huggingface_hub.{module}.ENDPOINT", "http://127.0.0.1:9", raising=False)
    with pytest.raises(WeightsMissing, match="cannot be reached: check the network"):
        hub.pull(from_hub(tiny), accept_licence=True)


def test_a_plan_tells_sizes_and_what_is_here_already(tiny: Tiny, server: type[Hub]) -> None:
    profile = from_hub(tiny)
    before = hub.plan(profile)
    assert {file.name: file.size for file in before}["control_lora.safetensors"] == tiny.lora.stat().st_size
    assert not any(file.is_here for file in before)
    hub.pull(profile, accept_licence=True)
    assert all(file.is_here for file in hub.plan(profile))


def test_nothing_is_fetched_that_the_disk_cannot_take(
    tiny: Tiny, server: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: SimpleNamespace(free=1000))
    with pytest.raises(DiskFull, match="no room on the disk"):
        hub.pull(from_hub(tiny), accept_licence=True)
    assert not any("/resolve/" in path for path in server.asked)


def test_a_damaged_file_is_found_by_check(tiny: Tiny, server: type[Hub]) -> None:
    """The version takes the hub's word for a file's digest; a check reads the file."""
    profile = from_hub(tiny)
    hub.pull(profile, accept_licence=True)
    blob = locate(profile, "control_lora").resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    problems = {report.part: report.problem for report in hub.check(profile)}
    assert [part for part, problem in problems.items() if problem] == ["control_lora"]
    assert problems["control_lora"] == f"{blob} is damaged: delete it and pull again."


def test_a_pull_that_stopped_half_way_is_not_taken_for_a_whole_one(tiny: Tiny, server: type[Hub]) -> None:
    profile = from_hub(tiny)
    hub.pull(profile, accept_licence=True)
    next(locate(profile, "vae").glob("*.safetensors")).unlink()
    problems = {report.part: report.problem for report in hub.check(profile)}
    assert [part for part, problem in problems.items() if problem] == ["vae"]
    assert "has no safetensors file" in str(problems["vae"])
    hub.pull(profile, accept_licence=True)
    assert all(report.problem is None for report in hub.check(profile))


def test_explain_names_the_folder_and_size_of_each_part(tiny: Tiny) -> None:
    lines = "\n".join(hub.explain(tiny.profile(), device="cpu"))
    assert f"GB in {tiny.folder / 'transformer'}" in lines
    assert "(missing)" not in lines


def test_the_command_pulls_and_checks_with_the_hub_that_the_environment_names(
    tiny: Tiny, server: type[Hub], tmp_path: Path
) -> None:
    places = {part: f"subfolder = '{part}'" for part in PARTS} | {
        "control_lora": f"filename = '{tiny.lora.name}'"
    }
    sources = "".join(f"{part} = {{ repo = '{OPEN}', {place} }}\n" for part, place in places.items())
    profile = tmp_path / "mine.toml"
    profile.write_text(
        "name = 'mine'\ntitle = 'Mine'\ndescription = 'On a hub of our own.'\ndtype = 'float32'\n"
        f"max_sequence_length = 8\n[sources]\n{sources}"
    )
    command = f"""
import sys
from depthwright.cli import run
sys.exit(run(["models", "pull", {str(profile)!r}, "--accept-licence"]) or run(["models", "check", {str(profile)!r}]))
"""
    environment = os.environ | {
        "HF_ENDPOINT": server.address,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_XET": "1",
        "DEPTHWRIGHT_CACHE": str(tmp_path / "digests"),
    }
    done = subprocess.run(
        [sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(f"{part}: ok" in done.stdout for part in PARTS)
    assert "control_lora.safetensors" in done.stdout
