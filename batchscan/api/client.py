"""The transport: one HTTP session that sends signed requests and hands answers to the protocol.

Every error of the network, of TLS and of time becomes a ``ServiceError`` here, with the cause chained
but without its stack frames: those hold headers and content as local variables. Redirects are never
followed, proxies of the environment never used, and no reply is read beyond its limit.
"""

import asyncio
import copy
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import structlog
import yarl
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from batchscan import __version__
from batchscan.api import protocol, reading
from batchscan.api.credentials import CredentialSource
from batchscan.api.endpoints import Endpoint, endpoint, proxy_url
from batchscan.api.protocol import PayInfo, Request, ScanResult, Submission
from batchscan.api.reactions import policy
from batchscan.api.signer import Signed, Signer
from batchscan.errors import ServiceError, UsageError

__all__ = ["Endpoint", "ScanClient", "Timeouts", "endpoint", "open_client"]

_log = structlog.get_logger(__name__)
_level = logging.getLogger(__name__)

MAX_REPLY: Final = 8 * 1024 * 1024
"""Bytes of an answer after decompression; a real one has some ten thousand."""

_CHUNK = 256 * 1024
_MAX_MESSAGE = 300


class Timeouts(msgspec.Struct, frozen=True):
    """Limits of one call, seconds: to connect, to hear something after sending, and for all of it.

    The vendor's SDK allows 60 s. The largest body is 9.8 MB: the default total lets it pass at 0.5 Mbit/s.
    """

    connect_s: float = 10.0
    read_s: float = 60.0
    total_s: float = 180.0


@asynccontextmanager
async def open_client(  # noqa: PLR0913 - the one place where a client is made; all have names
    endpoint: Endpoint,
    credentials: CredentialSource,
    *,
    timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
    max_connections: int = 64,
    on_request: Callable[[str], None] | None = None,
    on_answer: Callable[[str, str | None, float], None] | None = None,
    ca_file: Path | None = None,
    proxy: str | None = None,
) -> AsyncIterator["ScanClient"]:
    """A client for ``endpoint`` with connections that are kept alive until the block ends.

    Args:
        endpoint: where to send.
        credentials: asked before each call.
        timeouts: limits of each call.
        max_connections: calls at the same time; further ones wait, unsigned, within their total time.
        on_request: called with the action's name as each request is sent.
        on_answer: called with it, the code of the failure or None, and the seconds that it took, as each
            request has ended.
        ca_file: PEM file of the authorities to trust instead of the system's.
        proxy: ``http://[user:password@]host:port``; not used for a loopback endpoint.

    Raises:
        UsageError: ``ca_file`` or ``proxy`` cannot be used.
    """
    gateway = None if proxy is None or endpoint.is_loopback else proxy_url(proxy)
    context = await asyncio.to_thread(_tls_context, ca_file)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=max_connections, ssl=context),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"batchscan/{__version__}", "Accept": protocol.CONTENT_TYPE},
        timeout=aiohttp.ClientTimeout(
            total=timeouts.total_s, sock_connect=timeouts.connect_s, sock_read=timeouts.read_s
        ),
        trust_env=False,
    )
    async with session:
        wire = _Wire(session, endpoint.url, gateway, on_answer)
        signer = Signer(endpoint, credentials, patience_s=timeouts.total_s)
        client = ScanClient(wire, signer, max_connections=max_connections, patience_s=timeouts.total_s)
        yield client if on_request is None else client.counting(on_request)


class ScanClient:
    """The three calls. Each is one request; pacing and sending again are the caller's.

    All raise ``ServiceError`` with the policy that says what to do next.
    """

    def __init__(self, wire: "_Wire", signer: Signer, *, max_connections: int, patience_s: float) -> None:
        self._wire = wire
        self._signer = signer
        self._patience_s = patience_s
        self._free = asyncio.Semaphore(max_connections)
        self._on_request: Callable[[str], None] = lambda _: None

    def counting(self, on_request: Callable[[str], None]) -> "ScanClient":
        """The same client, connections and all, for somebody with a count of their own.

        Args:
            on_request: called with the action's name as each of their requests is sent.
        """
        other = copy.copy(self)
        other._on_request = on_request  # noqa: SLF001 - a copy of this very object
        return other

    async def create(self, request: Request, digest: bytes) -> Submission:
        """Submit content built by ``protocol.create_request``; ``digest`` is its SHA-256."""
        return protocol.read_submission(await self._call(request), digest)

    async def result(self, digest: bytes, engine_version: int) -> ScanResult:
        """Ask how the scan of ``digest`` by ``engine_version`` stands."""
        response = await self._call(protocol.result_request(digest, engine_version))
        return protocol.read_result(response, digest, engine_version)

    async def pay_info(self) -> PayInfo:
        """Ask for the account's order and quota."""
        return protocol.read_pay_info(await self._call(protocol.pay_info_request()))

    @property
    def clock_skew_s(self) -> float | None:
        """How far the service's clock is ahead of ours by its last answer, to a second; None: not told."""
        return self._wire.clock_skew_s

    async def _call(self, request: Request) -> Mapping[str, Any]:
        # waiting here and not in aiohttp's pool, where the signature would grow old
        try:
            async with asyncio.timeout(self._patience_s):
                await self._free.acquire()
        except TimeoutError as error:
            message = f"no connection became free within {self._patience_s:g} s"
            raise _failure("connect-failed", message, request.action) from error
        try:
            signed = await self._signer.sign(request)
            self._on_request(request.action)
            answer = await self._wire.exchange(request, signed)
        finally:
            self._free.release()
        if isinstance(answer, ServiceError):
            raise await self._signer.refused(answer, signed, request.action)
        self._signer.accepted(signed)
        return answer


class _Wire:
    """Bytes out, bytes in."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        proxy: yarl.URL | None,
        on_answer: Callable[[str, str | None, float], None] | None,
    ) -> None:
        self._session = session
        self._url = yarl.URL(url)
        self._proxy = None if proxy is None else proxy.with_user(None)
        self._proxy_headers: dict[str, str] = {}
        if proxy is not None and proxy.user is not None:
            basic = aiohttp.encode_basic_auth(proxy.user, proxy.password or "")
            self._proxy_headers["Proxy-Authorization"] = basic
        self._on_answer = on_answer
        self._heard: tuple[str | None, float] = (None, 0.0)

    @property
    def clock_skew_s(self) -> float | None:
        told, at = self._heard
        server_time = None if told is None else reading.http_date({"Date": told})
        return None if server_time is None else server_time - at

    async def exchange(self, request: Request, signed: Signed) -> Mapping[str, Any] | ServiceError:
        """The answer's ``Response``, or why there is none.

        A failure is returned and not raised: so it holds no frame in which there is an answer, or a
        header of ours, and no context that would lead to one.
        """
        began = time.monotonic()
        answer = await self._exchange(request, signed)
        self._tell(request.action, answer, time.monotonic() - began)
        return answer

    def _tell(self, action: str, answer: Mapping[str, Any] | ServiceError, seconds: float) -> None:
        code = answer.code if isinstance(answer, ServiceError) else None
        if self._on_answer is not None:
            self._on_answer(action, code, seconds)
        if _level.isEnabledFor(logging.DEBUG):
            told = answer.request_id if isinstance(answer, ServiceError) else reading.request_id(answer)
            _log.debug("api-call", action=action, code=code, took_s=round(seconds, 3), request_id=told)

    async def _exchange(self, request: Request, signed: Signed) -> Mapping[str, Any] | ServiceError:
        try:
            async with self._session.post(
                self._url,
                data=_Body(request.body),
                headers=signed.headers,
                allow_redirects=False,
                proxy=self._proxy,
                proxy_headers=self._proxy_headers,
            ) as reply:
                self._heard = (reply.headers.get("Date"), time.time())
                body = signed.scrub(await _read(reply, request.action))
                return protocol.decipher(reply.status, reply.headers, body, request.action)
        except ServiceError as error:
            return error.with_traceback(None)
        except (aiohttp.ClientError, OSError) as error:
            return _translated(error, request.action, signed)


class _Body(Payload):
    """Bytes of any size in slices: no copy, and the loop gets its turn in between.

    aiohttp's own ways copy (``BytesIO``) or warn that they block (raw bytes above 1 MiB).
    """

    def __init__(self, body: bytes) -> None:
        super().__init__(body, content_type=protocol.CONTENT_TYPE)
        self._size = len(body)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return bytes(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        view = memoryview(self._value)[:content_length]
        for begin in range(0, len(view), _CHUNK):
            if begin:
                await asyncio.sleep(0)
            await writer.write(view[begin : begin + _CHUNK])


async def _read(reply: aiohttp.ClientResponse, action: str) -> bytes:
    body = bytearray()
    async for chunk in reply.content.iter_any():
        body += chunk
        if len(body) > MAX_REPLY:
            raise _failure("reply-too-large", f"an answer of more than {MAX_REPLY} bytes", action)
    return bytes(body)


_OUTCOMES: Final[tuple[tuple[tuple[type[Exception], ...], str], ...]] = (  # the first match counts
    ((aiohttp.ClientConnectorCertificateError,), "tls-untrusted"),
    ((aiohttp.ClientConnectorSSLError,), "tls-failed"),
    ((aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError), "proxy-failed"),
    ((aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError), "connect-failed"),
    ((TimeoutError,), "timeout"),
    ((aiohttp.ClientResponseError,), "bad-reply"),
    ((aiohttp.ClientError, OSError), "connection-lost"),
)


def _translated(error: aiohttp.ClientError | OSError, action: str, signed: Signed) -> ServiceError:
    code = next(code for types, code in _OUTCOMES if isinstance(error, types))
    told = signed.scrub(f"{type(error).__name__}: {error}".rstrip(": ").encode("utf-8", "replace"))
    failure = _failure(code, reading.legible(told.decode(), _MAX_MESSAGE), action)
    if isinstance(error, aiohttp.ClientResponseError):
        # its repr shows the request's headers
        failure.__cause__ = aiohttp.ClientError(failure.message)
    else:
        failure.__cause__ = _without_frames(error)
    return failure


def _without_frames(error: BaseException) -> BaseException:
    link: BaseException | None = error
    while link is not None and link.__traceback__ is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error


def _failure(code: str, message: str, action: str) -> ServiceError:
    return ServiceError(code, message, policy=policy(code, action))


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(f"{ca_file}: not a readable PEM file of certificates: {error}") from error
