"""Delivers a notice: signed, tried again for a while, and never in the way of what it tells of.

The address is a secret (whoever knows it can write there), so only its host is ever shown. No redirect is
followed, and nothing of an answer but its status is looked at.
"""

import asyncio
import hashlib
import hmac
import random
import secrets
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
import structlog
import yarl

from batchscan import __version__
from batchscan.api.endpoints import Endpoint, proxy_url, receiver_url
from batchscan.api.keys import Secret
from batchscan.backoff import Backoff
from batchscan.config import Config
from batchscan.errors import UsageError
from batchscan.notice import Notice, encode_for_slack, encode_notice

SECRET_VARIABLE: Final = "BATCHSCAN_NOTIFY_SECRET"  # noqa: S105 - the name of a variable
TIMESTAMP: Final = "X-Batchscan-Timestamp"
SIGNATURE: Final = "X-Batchscan-Signature"
DELIVERY: Final = "X-Batchscan-Delivery"

_AGAIN: Final = frozenset({408, 425, 429})
_SERVER_ERROR: Final = 500
_DELAYS: Final = Backoff(first_s=1.0, most_s=8.0)

log = structlog.get_logger(__name__)


class Receiver(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told, how to get there, and in which form.

    Attributes:
        url: the address.
        slack: whether it takes messages as Slack does.
        key: of the signature; None: there is none.
        proxy, ca_file: as of the settings.
    """

    url: Secret
    slack: bool = False
    key: Secret | None = None
    proxy: Secret | None = None
    ca_file: Path | None = None

    @property
    def host(self) -> str:
        """What may be shown of it."""
        return yarl.URL(self.url.reveal()).host_port_subcomponent or ""


class Patience(msgspec.Struct, frozen=True):
    """How long a delivery may take: tries, and seconds for one and for all of them with what is between."""

    tries: int = 4
    try_s: float = 10.0
    total_s: float = 30.0


class _RefusedError(Exception):
    """An answer that another try will not change."""


def find_receiver(config: Config, environ: Mapping[str, str]) -> Receiver | None:
    """Find who is to be told; None for nobody.

    Raises:
        UsageError: the key is empty.
    """
    if config.notify_url is None:
        return None
    key = environ.get(SECRET_VARIABLE)
    if key is not None and not key.strip():
        raise UsageError(f"{SECRET_VARIABLE}: is empty; unset it, or give it the secret of the receiver")
    return Receiver(
        url=Secret(str(receiver_url(config.notify_url.get_secret_value()))),
        slack=config.notify_format == "slack",
        key=None if key is None else Secret(key),
        proxy=None if config.proxy is None else Secret(config.proxy),
        ca_file=config.ca_file,
    )


def sign(key: str, timestamp: int, body: bytes) -> str:
    """Sign a body: ``sha256=`` and the HMAC-SHA256, in hex, of the timestamp, a dot and the body."""
    content = f"{timestamp}.".encode() + body
    return "sha256=" + hmac.new(key.encode(), content, hashlib.sha256).hexdigest()


async def deliver(receiver: Receiver, notice: Notice, patience: Patience = Patience()) -> bool:  # noqa: B008 - frozen
    """Send a notice. Warns where it could not be delivered, and raises nothing but a cancellation.

    Returns:
        Whether the receiver has taken it.
    """
    body = encode_for_slack(notice) if receiver.slack else encode_notice(notice)
    try:
        async with asyncio.timeout(patience.total_s):
            problem = await _delivered(receiver, body, patience)
    except TimeoutError:
        problem = f"not delivered within {patience.total_s:g} s"
    if problem is not None:
        log.warning("the notice was not delivered", host=receiver.host, reason=problem)
    return problem is None


async def _delivered(receiver: Receiver, body: bytes, patience: Patience) -> str | None:
    """Try until it is taken; say why it was not."""
    headers = {"Content-Type": "application/json", DELIVERY: secrets.token_hex(16)}
    problem: str | None = None
    for number in range(1, patience.tries + 1):
        try:
            problem = await _posted(receiver, body, headers, patience.try_s)
        except _RefusedError as error:
            return str(error)
        if problem is None:
            return None
        log.info("the notice is tried again", host=receiver.host, tries=number, reason=problem)
        if number < patience.tries:
            await asyncio.sleep(_DELAYS.delay_s(number, jitter=random.random()))  # noqa: S311 - no secret
    return f"{problem}; given up after {patience.tries} tries"


async def _posted(receiver: Receiver, body: bytes, headers: Mapping[str, str], limit_s: float) -> str | None:
    """Post it once; say what went wrong where another try may help.

    Raises:
        _RefusedError: another try will not help.
    """
    url = yarl.URL(receiver.url.reveal())
    signed = dict(headers)
    if receiver.key is not None:
        now = int(time.time())
        signed |= {TIMESTAMP: str(now), SIGNATURE: sign(receiver.key.reveal(), now, body)}
    proxy, proxy_headers = None, {}
    if receiver.proxy is not None and not Endpoint("", str(url)).is_loopback:
        proxy = proxy_url(receiver.proxy.reveal())
        if proxy.user is not None:
            basic = aiohttp.encode_basic_auth(proxy.user, proxy.password or "")
            proxy_headers["Proxy-Authorization"] = basic
            proxy = proxy.with_user(None)
    try:
        tls: ssl.SSLContext | bool = True
        if url.scheme == "https":
            tls = await asyncio.to_thread(ssl.create_default_context, cafile=receiver.ca_file)
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"batchscan/{__version__}"},
                timeout=aiohttp.ClientTimeout(total=limit_s),
                trust_env=False,
            ) as session,
            session.post(
                url,
                data=body,
                headers=signed,
                allow_redirects=False,
                proxy=proxy,
                proxy_headers=proxy_headers,
            ) as reply,
        ):
            status = reply.status
    except TimeoutError:
        return f"no answer within {limit_s:g} s"
    except (aiohttp.ClientError, OSError) as error:
        told = getattr(error, "strerror", None)  # not all of its text: that may hold the address
        return f"{type(error).__name__}: {told}" if told else type(error).__name__
    if 200 <= status < 300:  # noqa: PLR2004 - RFC 9110
        return None
    problem = f"answered with status {status}"
    if status in _AGAIN or status >= _SERVER_ERROR:
        return problem
    raise _RefusedError(problem)
