"""Clients upload a picture, by multipart or by ticket, and name it as the control image."""

from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.acceptance.clients import Client
from tests.acceptance.driving import BY_NAME, UPLOADING, drive, picture, succeed
from tests.support.serving import Serving

REFUSED = {
    "python-1.0.8": "Failed to upload file: HTTP {status}: ",
    "python-2.0.5": "Failed to create upload: HTTP {status}: ",
    "javascript-0.0.15": "Failed to upload file: {status} ",
    "javascript-0.2.3": "Failed to upload file: HTTP {status}: ",
    "javascript-0.3.2": "Failed to upload file: HTTP {status}: ",
}
that_uploads = pytest.mark.parametrize("client", UPLOADING, ids=str)


@that_uploads
def test_what_was_uploaded_is_served_as_it_was(server: Serving, client: Client, photo: Path) -> None:
    url = succeed(client, server, "upload", file=str(photo))["url"]
    assert url.startswith(server.base_url)
    assert picture(url).format == "JPEG"
    assert httpx.get(url, trust_env=False).content == photo.read_bytes()


@that_uploads
def test_an_upload_is_a_control_image(server: Serving, client: Client, photo: Path) -> None:
    url = succeed(client, server, "upload", file=str(photo))["url"]
    wanted = {"prompt": "a red sphere", "size": "512*768", "control_image": url}
    outputs = succeed(client, server, "run", input=wanted)["outputs"]
    assert [picture(output).size for output in outputs] == [(512, 768)]


@that_uploads
def test_a_picture_that_was_made_is_a_control_image(server: Serving, client: Client) -> None:
    (made,) = succeed(client, server, "run", input={"prompt": "a red sphere", "size": "512*512"})["outputs"]
    wanted = {"prompt": "a blue cube", "size": "512*768", "control_image": made}
    outputs = succeed(client, server, "run", input=wanted)["outputs"]
    assert [picture(output).size for output in outputs] == [(512, 768)]


@pytest.mark.parametrize("name", ["python-1.0.8", "python-2.0.5", "javascript-0.0.15"])
def test_a_file_without_a_name_is_uploaded(server: Serving, name: str, photo: Path) -> None:
    url = succeed(BY_NAME[name], server, "upload_nameless", file=str(photo))["url"]
    assert httpx.get(url, trust_env=False).content == photo.read_bytes()


@that_uploads
def test_a_file_without_a_suffix_is_uploaded(
    server: Serving, client: Client, photo: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "photo"
    bare.write_bytes(photo.read_bytes())
    url = succeed(client, server, "upload", file=str(bare))["url"]
    assert picture(url).format == "JPEG"


@that_uploads
def test_a_suffix_that_is_wrong_does_not_matter(
    server: Serving, client: Client, photo: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "photo.png"
    wrong.write_bytes(photo.read_bytes())
    url = succeed(client, server, "upload", file=str(wrong))["url"]
    assert picture(url).format == "JPEG"


@that_uploads
def test_an_upload_with_a_key_that_is_none_is_refused(server: Serving, client: Client, photo: Path) -> None:
    answer = drive(client, replace(server, key="dw_nobody"), "upload", file=str(photo))
    assert answer["message"].startswith(REFUSED[str(client)].format(status=401))


@that_uploads
def test_an_upload_that_is_no_picture_is_refused(server: Serving, client: Client, tmp_path: Path) -> None:
    text = tmp_path / "depth.png"
    text.write_text("I am no picture.")
    answer = drive(client, server, "upload", file=str(text))
    assert " 400" in answer["message"]
    assert "picture" in answer["message"]
