"""What a user's URL may reach. Every refusal is checked against a real socket that must see no connection."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import certifi
import pytest

from depthwright.errors import InvalidImage
from depthwright.service import fetch
from depthwright.service.fetch import DeliveryFailed, is_public
from tests.support.hosts import (
    ELSEWHERE,
    PRIVATE,
    PUBLIC,
    body,
    connect_nowhere,
    fetching,
    redirect,
    refusal,
    resolve_to,
    saying,
    served,
    serving,
)


@pytest.fixture
def unreached() -> Iterator[int]:
    """A port of the loopback, by both protocols where there are both, that nobody may connect to."""
    with contextlib.ExitStack() as stack:
        four = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port: int = four.getsockname()[1]
        listeners = [four]
        with contextlib.suppress(OSError):
            listeners.append(stack.enter_context(socket.create_server(("::1", port), family=socket.AF_INET6)))
        yield port
        for listener in listeners:
            # The system accepts connections into a queue by itself: an empty queue means that there was none.
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()


@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize("host", PRIVATE)
def test_a_private_address_is_never_connected_to_however_it_is_spelled(
    unreached: int, scheme: str, host: str
) -> None:
    refusal(f"{scheme}://{host}:{unreached}/a.png", match=r"public address|https alone|no https URL")


@pytest.mark.parametrize("host", ELSEWHERE)
def test_private_addresses_elsewhere_are_never_connected_to(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    wanted = connect_nowhere(monkeypatch)
    refusal(f"https://{host}/latest/meta-data", match="no public address")
    assert wanted == []


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], [PUBLIC, "127.0.0.1"], ["10.0.0.1", PUBLIC], ["::1"], []]
)
def test_a_name_with_any_private_address_is_refused_and_the_address_is_not_told(
    monkeypatch: pytest.MonkeyPatch, unreached: int, addresses: list[str]
) -> None:
    resolve_to(monkeypatch, addresses)
    told = refusal(f"https://pictures.example:{unreached}/a.png")
    assert told == "The control image cannot be fetched: 'pictures.example' has no public address."


def test_a_private_name_cannot_be_told_from_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    resolve_to(monkeypatch, ["10.0.0.1"])
    private = refusal("https://db.corp.example/")
    monkeypatch.setattr(socket, "getaddrinfo", missing)
    assert refusal("https://db.corp.example/") == private


def test_a_name_that_changes_its_address_after_the_check_is_still_connected_to_at_the_one_checked(
    monkeypatch: pytest.MonkeyPatch, unreached: int
) -> None:
    asked = resolve_to(monkeypatch, [PUBLIC], ["127.0.0.1"])
    wanted = connect_nowhere(monkeypatch)
    refusal(f"https://rebinding.example:{unreached}/", match="cannot be reached")
    assert asked == ["rebinding.example"]
    assert wanted == [(PUBLIC, unreached)]


def test_the_next_address_is_tried_when_one_takes_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, ["2606:2800:21f::1", PUBLIC])
    wanted = connect_nowhere(monkeypatch)
    refusal("https://two.example/", match="cannot be reached")
    assert wanted == [("2606:2800:21f::1", 443), (PUBLIC, 443)]


@pytest.mark.parametrize("host", PRIVATE)
def test_a_redirect_to_a_private_address_is_not_followed(unreached: int, host: str) -> None:
    async def main(scheme: str) -> None:
        answer = saying(redirect(f"{scheme}://{host}:{unreached}/"))
        async with serving(answer) as server, fetching(server) as fetcher:
            await fetcher.fetch(f"http://{server}/")

    for scheme in ("http", "https"):
        with pytest.raises(InvalidImage, match=r"public address|https alone|no https URL|the protocol"):
            asyncio.run(main(scheme))


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://a.example/", "https://a:b@a.example/", "http://["]
)
def test_a_redirect_to_what_is_no_plain_https_url_is_not_followed(location: str) -> None:
    with pytest.raises(InvalidImage, match=r"no https URL|https alone|user or a password|protocol"):
        served(saying(redirect(location)))


def test_redirects_are_followed_up_to_their_limit_and_a_loop_ends() -> None:
    seen: list[bytes] = []
    with pytest.raises(InvalidImage, match="redirected more than 3 times"):
        served(saying(redirect("/again"), seen=seen))
    assert len(seen) == 4

    async def main() -> bytes:
        async with (
            serving(saying(body(b"there"))) as last,
            serving(saying(redirect(f"http://{last}/b"))) as first,
            fetching(first, last, redirects=1) as fetcher,
        ):
            return await fetcher.fetch(f"http://{first}/a")

    assert asyncio.run(main()) == b"there"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.png",
        "//a.example/a.png",
        "file:///etc/passwd",
        "gopher://a.example/",
        "https://",
        "https:///a.png",
        "https://a.example:0/",
        "https://a.example:99999/",
        "https://a.example:" + "9" * 5000,
        "https://[::1",
        "https://999.1.1.1/",
        "https://a\0b/",
        "https://\ud800.example/",
        "https://" + "a" * 300 + ".example/",
        "https://xn--\xe9.example/",
        "https://a.example/" + "a" * 100_000,
    ],
)
def test_what_is_no_url_that_can_be_used_is_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    wanted = connect_nowhere(monkeypatch)
    assert len(refusal(url, match="The control image cannot be fetched: .*[a-zA-Z0-9]\\.$")) < 200
    assert wanted == []


def test_a_url_with_a_password_is_refused_and_not_repeated() -> None:
    told = refusal("https://someone:secret@a.example/a.png", match="a user or a password")
    assert "secret" not in told
    assert "someone" not in told


@pytest.mark.parametrize("spelling", ["127.0.0.1", "127.0.0.1:{port}"])
def test_a_host_on_the_list_may_be_private_and_speak_http(spelling: str) -> None:
    async def main() -> bytes:
        async with (
            serving(saying(body(b"x"))) as host,
            fetching(spelling.format(port=host.rpartition(":")[2])) as fetcher,
        ):
            return await fetcher.fetch(f"http://{host}/")

    assert asyncio.run(main()) == b"x"


def test_a_host_on_the_list_with_another_port_is_refused(unreached: int) -> None:
    refusal(f"http://127.0.0.1:{unreached}/", f"127.0.0.1:{unreached - 1}", match="public address")
    refusal(f"https://127.0.0.1:{unreached}/", f"127.0.0.1:{unreached - 1}", match="public address")


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch, unreached: int) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unreached}")
    assert served(saying(body(b"direct"))) == b"direct"


def test_no_cookie_is_kept_and_no_compression_is_asked_for() -> None:
    seen: list[bytes] = []
    cookie = b"HTTP/1.1 302 Found\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\nLocation: /b\r\n\r\n"
    with pytest.raises(InvalidImage):
        served(saying(cookie, seen=seen))
    assert len(seen) == 4
    for asked in map(bytes.lower, seen):
        assert b"cookie" not in asked
        assert b"accept-encoding: identity\r\n" in asked


@pytest.mark.parametrize("host", PRIVATE)
def test_a_webhook_to_a_private_address_is_never_connected_to(unreached: int, host: str) -> None:
    async def main() -> None:
        async with fetching() as fetcher:
            await fetcher.post(f"https://{host}:{unreached}/", b"{}", {})

    with pytest.raises(DeliveryFailed, match="The webhook cannot be delivered"):
        asyncio.run(main())


@pytest.mark.parametrize(
    ("address", "public"),
    [
        (PUBLIC, True),
        ("2606:2800:21f::1", True),
        ("64:ff9b::5db8:d822", True),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("::ffff:10.0.0.1", False),
        ("fec0::1", False),
        ("ff0e::1", False),
        ("255.255.255.255", False),
        ("192.0.2.1", False),
    ],
)
def test_an_address_is_public_only_with_all_that_it_embeds(address: str, public: bool) -> None:
    assert is_public(ip_address(address)) is public


@pytest.fixture
def tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ssl.SSLContext:
    """A server's side of `right.example`; the loopback stands in for the internet on the way to public hosts."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=right.example"
    command += f" -addext subjectAltName=DNS:right.example -keyout {key} -out {certificate}"
    subprocess.run(command.split(), check=True, capture_output=True)
    monkeypatch.setattr(certifi, "where", lambda: str(certificate))
    monkeypatch.setattr(fetch, "httpx_ssrf_protection", lambda client: client)
    monkeypatch.setattr(fetch, "is_public", lambda _: True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


def test_the_certificate_is_judged_by_the_hosts_name_for_each_host_of_an_address(
    monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext
) -> None:
    """The server would keep the first connection open, and the second host has the same address and port."""
    greeted: list[str | None] = []
    tls.sni_callback = lambda _, name, __: greeted.append(name)
    seen: list[bytes] = []

    async def patient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(body(b"safe"))

    async def main() -> None:
        async with serving(patient, tls) as host, fetching() as fetcher:
            resolve_to(monkeypatch, ["127.0.0.1"])
            port = host.rpartition(":")[2]
            assert await fetcher.fetch(f"https://right.example:{port}/") == b"safe"
            with pytest.raises(InvalidImage, match="cannot be reached"):
                await fetcher.fetch(f"https://wrong.example:{port}/")

    asyncio.run(main())
    assert greeted == ["right.example", "wrong.example"]
    assert len(seen) == 1
    assert b"\r\nhost: right.example:" in seen[0].lower()


def test_a_redirect_from_https_to_http_is_not_followed_even_to_a_host_on_the_list(
    monkeypatch: pytest.MonkeyPatch, tls: ssl.SSLContext, unreached: int
) -> None:
    async def main() -> None:
        down = saying(redirect(f"http://plain.example:{unreached}/"))
        async with serving(down, tls) as host, fetching("plain.example") as fetcher:
            resolve_to(monkeypatch, ["127.0.0.1"])
            await fetcher.fetch(f"https://right.example:{host.rpartition(':')[2]}/")

    with pytest.raises(InvalidImage, match="redirects from https to http"):
        asyncio.run(main())
