"""A request's LoRAs: fetched once, kept by their content, never from where a user must not reach."""

import asyncio
import hashlib
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from depthwright.errors import InvalidParameter
from depthwright.loras import LoraFile, parted
from depthwright.request import PredictionRequest
from depthwright.service.loras import Loras, LoraUnavailable, refusal
from depthwright.service.places import Places
from depthwright.settings import Settings
from tests.support.hosts import PRIVATE, fetching, serving

BYTES = b"a LoRA, as far as anybody here reads it"
OTHER = b"another one"
COMMIT = "0123abcd"


class Hub:
    """A host of LoRAs, and a hub: remembers what it was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, str]] = {}  # by path: content and entity tag
        self.asked: list[str] = []

    def repository(self, name: str, *files: str) -> None:
        """A repository with these files."""
        listing = {"sha": COMMIT, "siblings": [{"rfilename": each} for each in ("README.md", *files)]}
        self.files[f"/api/models/{name}"] = (json.dumps(listing).encode(), "")
        for each in files:
            self.files[f"/{name}/resolve/{COMMIT}/{each}"] = (BYTES, "")

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split()[1]
        content, tag = self.files.get(path, (b"", ""))
        if tag == "never":
            await reader.read()
        if path not in self.files:
            self.asked.append(f"404 {path}")
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        elif tag and f"if-none-match: {tag}" in head.lower():
            self.asked.append(f"304 {path}")
            writer.write(b"HTTP/1.1 304 Not Modified\r\n\r\n")
        else:
            self.asked.append(f"200 {path}")
            tagged = f"ETag: {tag}\r\n" if tag else ""
            writer.write(
                f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n{tagged}\r\n".encode() + content
            )
        await writer.drain()


@pytest.fixture
def hub() -> Hub:
    return Hub()


def having(folder: Path, hub: Hub, use: Callable[[Loras, str], Awaitable[Any]], **settings: Any) -> Any:
    """What `use` gives, with the LoRAs of a server that may reach the hub, and the hub's address."""

    async def main() -> Any:
        async with serving(hub.answer) as host, fetching(host) as fetcher:
            told = Settings(hub=f"http://{host}", **settings)
            return await use(Loras(Places(folder), fetcher, told), f"http://{host}")

    return asyncio.run(main())


def test_a_url_is_fetched_once_while_its_host_says_that_it_is_the_same(tmp_path: Path, hub: Hub) -> None:
    hub.files["/style.safetensors"] = (BYTES, '"v1"')

    async def use(loras: Loras, host: str) -> list[LoraFile]:
        found = [await loras.get({"path": f"{host}/style.safetensors", "scale": 0.5}) for _ in range(2)]
        hub.files["/style.safetensors"] = (OTHER, '"v2"')
        return [*found, await loras.get({"path": f"{host}/style.safetensors", "scale": 2.0})]

    first, second, third = having(tmp_path, hub, use)
    assert first == second
    assert (first.path.name, first.scale, first.path.read_bytes()) == ("style.safetensors", 0.5, BYTES)
    assert (third.path.name, third.scale, third.path.read_bytes()) == ("style.safetensors", 2.0, OTHER)
    assert first.path.parent.name == hashlib.sha256(BYTES).hexdigest()
    assert [each[:3] for each in hub.asked] == ["200", "304", "200"]
    assert not list(tmp_path.rglob("*.part"))


def test_a_repository_gives_its_only_file_at_its_newest_commit_and_each_commit_is_fetched_once(
    tmp_path: Path, hub: Hub
) -> None:
    hub.repository("user/style", "style.safetensors")
    hub.repository("user/usual", "pytorch_lora_weights.safetensors", "other.safetensors")
    hub.repository("user/many", "a.safetensors", "deep/b.safetensors")
    hub.repository("user/none")

    async def use(loras: Loras, _host: str) -> list[str]:
        said = [
            (await loras.get({"path": path, "scale": 1.0})).path.name
            for path in ("user/style", "user/style", "user/usual", "user/many/deep/b.safetensors")
        ]
        for path in ("user/many", "user/none", "user/many/c.safetensors", "user/absent"):
            with pytest.raises(LoraUnavailable) as caught:
                await loras.get({"path": path, "scale": 1.0})
            said.append(str(caught.value))
        return said

    *names, many, none, missing, absent = having(tmp_path, hub, use)
    assert names == ["style.safetensors"] * 2 + ["pytorch_lora_weights.safetensors", "b.safetensors"]
    assert "name one of them, as user/many/FILE: a.safetensors, deep/b.safetensors" in many
    assert "user/none has no safetensors file" in none
    assert "user/many has no c.safetensors" in missing
    assert "answered with status 404" in absent
    assert hub.asked.count(f"200 /user/style/resolve/{COMMIT}/style.safetensors") == 1


def test_one_that_is_too_large_or_too_slow_is_refused_and_leaves_nothing(tmp_path: Path, hub: Hub) -> None:
    hub.files["/big.safetensors"] = (bytes(1_000_001), "")

    async def big(loras: Loras, host: str) -> None:
        await loras.get({"path": f"{host}/big.safetensors", "scale": 1.0})

    with pytest.raises(LoraUnavailable, match="larger than 1 MB"):
        having(tmp_path, hub, big, lora_megabytes=1)

    hub.files["/big.safetensors"] = (b"", "never")
    with pytest.raises(LoraUnavailable, match=r"longer than 0\.2 s"):
        having(tmp_path, hub, big, lora_seconds=0.2)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_was_used_longest_ago_goes_when_there_is_no_more_room(tmp_path: Path, hub: Hub) -> None:
    for name in "abc":
        hub.files[f"/{name}.safetensors"] = (name.encode() * 400_000, f'"{name}"')

    async def use(loras: Loras, host: str) -> list[Path]:
        found = []
        for moment, name in enumerate("abac"):
            file = await loras.get({"path": f"{host}/{name}.safetensors", "scale": 1.0})
            os.utime(file.path, (moment, moment))
            found.append(file.path)
        return found

    abandoned, under_way = (tmp_path / "lora-cache" / f"{name}.part" for name in ("old", "new"))
    abandoned.parent.mkdir()
    for part in (abandoned, under_way):
        part.touch()
    os.utime(abandoned, (0, 0))
    a, b, _, c = having(tmp_path, hub, use, lora_cache_gigabytes=0.001)
    assert [path.exists() for path in (a, b, c)] == [True, False, True]
    assert [path.exists() for path in (abandoned, under_way)] == [False, True]


@pytest.mark.parametrize("host", PRIVATE)
def test_no_lora_is_fetched_from_a_private_address(tmp_path: Path, host: str) -> None:
    async def main() -> None:
        async with fetching() as fetcher:
            assert refusal(f"https://{host}/a.safetensors", tmp_path, fetcher)
            loras = Loras(Places(tmp_path), fetcher, Settings())
            with pytest.raises(LoraUnavailable, match="cannot be had"):
                await loras.get({"path": f"https://{host}/a.safetensors", "scale": 1.0})

    asyncio.run(main())


def test_a_name_is_one_of_the_servers_own_and_leads_nowhere_else(tmp_path: Path, hub: Hub) -> None:
    own = tmp_path / "loras" / "ink.safetensors"
    own.parent.mkdir()
    own.write_bytes(BYTES)
    (tmp_path / "secret.safetensors").write_bytes(BYTES)

    async def use(loras: Loras, _host: str) -> list[Path]:
        return [(await loras.get({"path": each, "scale": 1.0})).path for each in ("ink", "ink.safetensors")]

    assert having(tmp_path, hub, use) == [own, own]

    async def main() -> None:
        async with fetching() as fetcher:
            assert refusal("ink", own.parent, fetcher) is None
            assert refusal("pencil", own.parent, fetcher) == "there is no LoRA called pencil on this server"

    asyncio.run(main())


@pytest.mark.parametrize(
    "path",
    [
        "",
        "  ",
        "../secret",
        "a/../b",
        "/etc/passwd",
        "a/b/c.bin",
        "ftp://a.org/b",
        "file:///a",
        "a b",
        ".a",
        5,
        None,
    ],
)
def test_what_names_no_lora_is_refused_before_anything_is_fetched(path: object) -> None:
    with pytest.raises(InvalidParameter, match="a list of at most 5"):
        PredictionRequest.read({"prompt": "x", "loras": [{"path": path}]}, Settings().size_bounds)


@pytest.mark.parametrize(
    "loras", [{}, "ink", [{"scale": 1}], [{"path": "ink", "scale": 4.1}], [{"path": "ink", "scale": "1"}], ["ink"],
              [{"path": "ink"}] * 6, [{"path": "ink", "scale": True}]]
)  # fmt: skip
def test_a_list_of_another_form_is_refused(loras: object) -> None:
    with pytest.raises(InvalidParameter, match="a list of at most 5"):
        PredictionRequest.read({"prompt": "x", "loras": loras}, Settings().size_bounds)


def test_a_scale_is_one_by_default_and_other_clients_fields_do_no_harm() -> None:
    request, warnings = PredictionRequest.read(
        {"prompt": "x", "loras": [{"path": " user/style ", "weight": 3}]}, Settings().size_bounds
    )
    assert request.model_dump(mode="json")["loras"] == [{"path": "user/style", "scale": 1.0}]
    assert warnings == ()
    assert PredictionRequest.read({"prompt": "x", "loras": None}, Settings().size_bounds)[0].loras == ()


def test_a_place_may_end_with_a_scale() -> None:
    assert parted("user/style=0.5") == ("user/style", 0.5)
    assert parted("https://a.org/b?c=d") == ("https://a.org/b?c=d", 1.0)
    assert parted("ink") == ("ink", 1.0)


def test_a_signature_in_a_url_is_not_told_again(tmp_path: Path, hub: Hub) -> None:
    async def use(loras: Loras, host: str) -> None:
        await loras.get({"path": f"{host}/gone.safetensors?signature=secret", "scale": 1.0})

    with pytest.raises(LoraUnavailable, match="answered with status 404") as caught:
        having(tmp_path, hub, use)
    assert "secret" not in str(caught.value)
