"""One short HTTP exchange of a source of credentials: bounded in time and size, and silent about secrets.

Nothing is kept open, no redirect is followed, no proxy or ``.netrc`` of the environment is used. What goes
out and comes in holds keys, so it is carried in records that do not show it, and a failure is an error
whose causes have lost their stack frames: those hold it as local variables.
"""

import asyncio
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import yarl

from batchscan import __version__
from batchscan.api import reading
from batchscan.api.endpoints import Endpoint, proxy_url
from batchscan.errors import CredentialsError

MAX_REPLY: Final = 65536
"""Bytes of an answer; a real one has some two thousand."""

_MIN_SCRUBBED = 16
_MAX_MESSAGE = 300


class Limits(msgspec.Struct, frozen=True):
    """Of one exchange, seconds: to connect, and for all of it."""

    connect_s: float
    total_s: float


class Route(msgspec.Struct, frozen=True):
    """How other machines are reached: through which proxy, trusting which authorities (PEM file).

    Raises:
        UsageError: the proxy is no URL.
    """

    proxy: str | None = None
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        if self.proxy is not None:
            proxy_url(self.proxy)

    def __repr__(self) -> str:  # a proxy's address may hold a password
        return "Route(***)"


class Ask(msgspec.Struct, frozen=True):
    """One request: a POST where there is a body, else a GET.

    ``secrets`` are taken out of the answer, should it echo them.
    """

    url: str
    limits: Limits
    headers: Mapping[str, str] = {}
    body: bytes | None = None
    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Ask({self.url})"


class Reply(msgspec.Struct, frozen=True):
    """An answer, whatever its status."""

    status: int
    body: bytes
    server_time: float | None

    def __repr__(self) -> str:
        return f"Reply({self.status}, {len(self.body)} bytes)"

    def fields(self) -> Mapping[str, Any]:
        """The JSON object in it, empty when there is none."""
        try:
            return reading.mapping(json.loads(self.body.decode("utf-8-sig", "replace")))
        except (ValueError, RecursionError):
            return {}

    def text(self) -> str:
        """The body as text, at most ``reading.MAX_TEXT`` characters."""
        return self.body.decode("utf-8", "replace")[: reading.MAX_TEXT]


def checked(url: str, plain_host: str | None = None) -> str:
    """``url`` as it is, if it is https, on this machine, or at the one host that has no https.

    Raises:
        CredentialsError: keys would travel in the clear, or it is no such URL.
    """
    try:
        parsed = yarl.URL(url)
    except ValueError:
        parsed = yarl.URL()
    if parsed.scheme not in {"http", "https"} or not parsed.host or parsed.user or parsed.password:
        raise CredentialsError("the address of a source of credentials is not a URL such as https://host/")
    if parsed.scheme == "http" and parsed.host != plain_host and not Endpoint("", url).is_loopback:
        raise CredentialsError(f"{parsed.host}: keys are not asked for in the clear: use https")
    return url


async def exchange(ask: Ask, source: str, route: Route | None = None) -> Reply:
    """Send ``ask``, read the answer.

    Args:
        ask: what to send where.
        source: whose credentials this is about, for the error.
        route: how to get there; None: directly, trusting the system's authorities.

    Raises:
        CredentialsError: no connection, no answer in time, or one that is too large.
    """
    outcome = await _attempt(ask, route or Route())
    if isinstance(outcome, Reply):
        return outcome
    problem = f"{source}: {yarl.URL(ask.url).host_port_subcomponent}: {_explained(outcome, ask)}"
    raise CredentialsError(problem) from _quiet(outcome, problem)


async def _attempt(ask: Ask, route: Route) -> Reply | Exception:
    """The answer, or what went wrong: returned, so that it carries no frame of ours."""
    loopback = Endpoint("", ask.url).is_loopback
    try:
        tls: ssl.SSLContext | bool = True
        if not ask.url.startswith("http:"):  # reading the authorities takes tens of milliseconds
            tls = await asyncio.to_thread(ssl.create_default_context, cafile=route.ca_file)
        proxy = None if route.proxy is None or loopback else proxy_url(route.proxy)
        proxy_headers = {}
        if proxy is not None and proxy.user is not None:
            basic = aiohttp.encode_basic_auth(proxy.user, proxy.password or "")
            proxy_headers["Proxy-Authorization"] = basic
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"batchscan/{__version__}"},
                timeout=aiohttp.ClientTimeout(total=ask.limits.total_s, sock_connect=ask.limits.connect_s),
                trust_env=False,
            ) as session,
            session.request(
                "GET" if ask.body is None else "POST",
                yarl.URL(ask.url),
                data=ask.body,
                headers=ask.headers,
                allow_redirects=False,
                proxy=None if proxy is None else proxy.with_user(None),
                proxy_headers=proxy_headers,
            ) as reply,
        ):
            body = bytearray()
            async for chunk in reply.content.iter_any():
                body += chunk
                if len(body) > MAX_REPLY:
                    return CredentialsError(f"an answer of more than {MAX_REPLY} bytes")
            return Reply(reply.status, _scrubbed(bytes(body), ask), reading.http_date(reply.headers))
    except (aiohttp.ClientError, OSError) as error:  # TimeoutError and ssl.SSLError are OSErrors
        return error


def _scrubbed(body: bytes, ask: Ask) -> bytes:
    for secret in ask.secrets:
        if len(secret) >= _MIN_SCRUBBED:
            body = body.replace(secret.encode(), b"***")
    return body


def _explained(error: Exception, ask: Ask) -> str:
    if isinstance(error, CredentialsError):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"no answer within {ask.limits.total_s:g} s"
    told = _scrubbed(f"{type(error).__name__}: {error}".encode("utf-8", "replace"), ask).decode()
    return reading.legible(told, _MAX_MESSAGE)


def _quiet(error: Exception, problem: str) -> Exception:
    """``error`` as a cause: without frames, and without the headers that some show in their ``repr``."""
    if isinstance(error, aiohttp.ClientResponseError):
        return aiohttp.ClientError(problem)
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error
