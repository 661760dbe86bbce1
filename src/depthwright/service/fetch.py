"""The only way out to an address that a user names: judged before the first packet, bounded in time and bytes."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import BinaryIO

import httpx
from httpx_secure import httpx_ssrf_protection

from depthwright import __version__
from depthwright.errors import DepthwrightError, InvalidImage, echo
from depthwright.service.disk import told_full

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_PICTURES = {"accept": "image/png, image/jpeg, image/webp"}


class DeliveryFailed(DepthwrightError):
    """A webhook was not delivered: its host may not be used, or did not answer."""


class Fetcher:
    """Gets pictures and LoRAs from, and posts webhooks to, addresses that users name.

    Public hosts are reached by https alone. `allowed_hosts`, as `host` or `host:port`, may be private and speak
    http. `seconds` covers one call in all: names, connections, redirects and body.
    """

    def __init__(
        self, allowed_hosts: Collection[str] = (), seconds: float = 15.0, redirects: int = 3
    ) -> None:
        self._allowed = frozenset(host.lower() for host in allowed_hosts)
        self._seconds = seconds
        self._redirects = redirects
        self._public = httpx_ssrf_protection(_client(seconds))
        self._trusted = _client(seconds)
        # A slow name server holds a thread for longer than `seconds`: none of the event loop's own.
        self._resolvers = ThreadPoolExecutor(max_workers=16, thread_name_prefix="resolve")

    async def fetch(self, url: str, limit_bytes: int = 20_000_000) -> bytes:
        """What stands at `url`, of at most `limit_bytes`. Raises InvalidImage."""
        with self._told("The control image cannot be fetched", InvalidImage):
            async with asyncio.timeout(self._seconds):
                data = bytearray()
                await self._get(url, _PICTURES, limit_bytes, data.extend)
                return bytes(data)

    async def download(
        self,
        url: str,
        file: BinaryIO,
        limit_bytes: int,
        seconds: float,
        kind: type[DepthwrightError],
        tag: str = "",
    ) -> str | None:
        """Write what stands at `url` to a file; its entity tag, which may be empty. Raises `kind` or DiskFull.

        None, and nothing written, if the host says that it is still what it gave `tag` to.
        """

        def write(part: bytes) -> None:
            with told_full():
                file.write(part)

        headers = {"accept": "*/*"} | ({"if-none-match": tag} if tag else {})
        with self._told("it cannot be fetched", kind, seconds):
            async with asyncio.timeout(seconds):
                answer = await self._get(url, headers, limit_bytes, write)
                unchanged = answer.status_code == httpx.codes.NOT_MODIFIED
                return None if unchanged else answer.headers.get("etag", "")

    async def post(self, url: str, content: bytes, headers: dict[str, str]) -> int:
        """Deliver a webhook once; returns the status of the answer, whose body is not read.

        A redirect is an answer like any other. Raises DeliveryFailed.
        """
        with self._told("The webhook cannot be delivered", DeliveryFailed):
            async with (
                asyncio.timeout(self._seconds),
                self._answer("POST", self._judged(url), headers, content) as answer,
            ):
                return answer.status_code

    def refusal(self, url: str) -> str | None:
        """Why this address will never be used, by its spelling alone; None if it may be."""
        try:
            self._judged(url)
        except _Refused as error:
            return str(error)
        return None

    async def aclose(self) -> None:
        """Let go of all that is held, once no call is under way."""
        self._resolvers.shutdown(wait=False, cancel_futures=True)
        await self._public.aclose()
        await self._trusted.aclose()

    async def _get(
        self, url: str, headers: dict[str, str], limit_bytes: int, write: Callable[[bytes], None]
    ) -> httpx.Response:
        target = self._judged(url)
        for _ in range(self._redirects + 1):
            async with self._answer("GET", target, headers) as answer:
                # 1. Another address is judged as the first was.
                if answer.has_redirect_location:
                    target = self._next(target, answer.headers["location"])
                    continue
                # 2. Anything but what was asked for is an error of the host.
                if answer.status_code == httpx.codes.NOT_MODIFIED and "if-none-match" in headers:
                    return answer
                if answer.status_code != httpx.codes.OK:
                    raise _Refused(f"{echo(target.host)} answered with status {answer.status_code}")
                # 3. The body, as long as it keeps to the limit.
                await _body(answer, limit_bytes, write)
                return answer
        raise _Refused(f"it is redirected more than {self._redirects} times")

    def _judged(self, url: str) -> httpx.URL:
        """The address, if its spelling is one that may be used."""
        target = _parsed(url)
        if not target.host or target.scheme not in {"http", "https"}:
            raise _Refused(_NO_URL)
        if target.userinfo:
            raise _Refused("its URL holds a user or a password, which are not used: sign the URL instead")
        if self._is_allowed(target):
            return target
        if _is_private_by_name(target.host):
            raise _Refused(
                f"{echo(target.host)} is no public address, which only the server's operator can allow"
            )
        if target.scheme == "http":
            raise _Refused(f"{echo(target.host)} may be reached by https alone")
        return target

    def _next(self, target: httpx.URL, location: str) -> httpx.URL:
        try:
            following = self._judged(str(target.join(location)))
        except (httpx.InvalidURL, ValueError) as error:
            raise _Refused(f"{echo(target.host)} redirects to what is no https URL") from error
        if target.scheme == "https" and following.scheme == "http":
            raise _Refused(f"{echo(target.host)} redirects from https to http")
        return following

    def _is_allowed(self, target: httpx.URL) -> bool:
        host = target.host.rstrip(".")
        host = f"[{host}]" if ":" in host else host
        port = target.port or (443 if target.scheme == "https" else 80)
        return bool({host, f"{host}:{port}"} & self._allowed)

    @contextlib.asynccontextmanager
    async def _answer(
        self, method: str, target: httpx.URL, headers: dict[str, str], content: bytes | None = None
    ) -> AsyncIterator[httpx.Response]:
        """The answer's head; the body is still to come, and is dropped at the end."""
        if self._is_allowed(target):
            request = self._trusted.build_request(method, target, headers=headers, content=content)
            answer = await self._trusted.send(request, stream=True)
        else:
            answer = await self._send_to_public(method, target, headers, content)
        try:
            yield answer
        finally:
            await answer.aclose()

    async def _send_to_public(
        self, method: str, target: httpx.URL, headers: dict[str, str], content: bytes | None
    ) -> httpx.Response:
        """Ask the first address that takes the connection.

        The host is resolved once, and the connection goes to what was judged: the request names the address, while
        the Host header and the name in the certificate stay the host's.
        """
        host = target.host.rstrip(".")
        failure: httpx.TransportError | None = None
        for address in await self._public_addresses(host, target.port or 443):
            request = self._public.build_request(
                method,
                target.copy_with(host=address),
                headers={**headers, "host": target.netloc.decode("ascii")},
                content=content,
                extensions={"sni_hostname": target.raw_host.decode("ascii").rstrip(".")},
            )
            try:
                return await self._public.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
        assert failure is not None
        raise failure

    async def _public_addresses(self, host: str, port: int) -> list[str]:
        """All addresses of `host`, none of them private: one that is makes the whole name suspect.

        A name that is not there gets the same words, so that private names cannot be told from missing ones.
        """
        refusal = _Refused(f"{echo(host)} has no public address")
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                self._resolvers, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            )
            addresses = [ip_address(each[4][0]) for each in found]
        except (OSError, ValueError) as error:
            raise refusal from error
        if not addresses or not all(map(is_public, addresses)):
            raise refusal
        return list(dict.fromkeys(map(str, addresses)))

    @contextlib.contextmanager
    def _told(self, what: str, kind: type[DepthwrightError], seconds: float | None = None) -> Iterator[None]:
        """Every failure as an error of this `kind`, without the address that was resolved or the URL's secrets."""
        try:
            yield
        except _Refused as error:
            raise kind(f"{what}: {error}.") from None
        except (TimeoutError, httpx.TimeoutException):
            raise kind(f"{what}: its host took longer than {seconds or self._seconds:g} s.") from None
        except (httpx.HTTPError, httpx.StreamError, ValueError):
            # The client lets a few of its parsers' errors through as they are.
            raise kind(f"{what}: its host cannot be reached, or does not keep to the protocol.") from None


class _Refused(Exception):
    """The reason, as the end of a sentence."""


_NO_URL = "its address is no https URL"


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether this is an address of the internet, also by what it embeds (NAT64, 6to4)."""
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast
    if address in _NAT64:
        return is_public(IPv4Address(address.packed[-4:]))
    if address.sixtofour is not None:
        return is_public(address.sixtofour)
    return address in _GLOBAL_UNICAST and address.is_global


def _is_private_by_name(host: str) -> bool:
    """Whether the spelling alone tells a private address; other names are judged once they are resolved."""
    host = host.rstrip(".")
    try:
        address = ip_address(host)
    except ValueError:
        try:
            # 127.1, 2130706433 and 0x7f000001 are spellings that resolvers know.
            address = ip_address(socket.inet_aton(host))
        except (OSError, ValueError):
            return host == "localhost" or host.endswith(".localhost")
    return not is_public(address)


def _parsed(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise _Refused(_NO_URL) from error
    if parsed.port is not None and not 0 < parsed.port < 65536:
        raise _Refused(f"{parsed.port} is no port: there are 1 to 65535")
    return parsed


async def _body(answer: httpx.Response, limit_bytes: int, write: Callable[[bytes], None]) -> None:
    too_large = _Refused(f"it is larger than {limit_bytes / 1_000_000:g} MB, the most that is read")
    if int(answer.headers.get("content-length", 0)) > limit_bytes:
        raise too_large
    size = 0
    async for part in answer.aiter_raw():
        size += len(part)
        if size > limit_bytes:
            raise too_large
        write(part)


def _client(seconds: float) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        # The deadline of a whole call is kept outside; here, one dead address leaves time for the next.
        timeout=httpx.Timeout(None, connect=seconds / 3),
        # No proxy, password file or certificate bundle that the environment names.
        trust_env=False,
        follow_redirects=False,
        # Two hosts may share an address: a connection whose certificate was judged for one never serves the other.
        limits=httpx.Limits(max_keepalive_connections=0),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        headers={"accept-encoding": "identity", "user-agent": f"depthwright/{__version__}"},
    )
