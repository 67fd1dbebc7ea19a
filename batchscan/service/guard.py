"""The guard: what every request passes before it is looked at, and every answer on its way out.

From outside to inside: an id, the security headers, one log line and the form of refusals (``frame``); then
by which name and from which page the request comes, whose it is, and how often (``admission``). What a
browser sends for a page of somebody else fails on its Host or its Origin, also when no token is asked for.
Whose a request for the live view is, its own door asks (``view.door``): a session opens nothing else.
"""

import ipaddress
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from aiolimiter import AsyncLimiter

from batchscan.errors import BatchscanError, LedgerError, NothingMatchedError, UsageError
from batchscan.logs import scrub
from batchscan.service.problems import RefusedError, from_http
from batchscan.service.tokens import TokenFile

log = structlog.get_logger("batchscan.service.http")


OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
"""Told to anybody who can reach the port: they say nothing of what is scanned."""

VIEW: Final = "/view"
"""Where the pages of the live view begin."""

REQUEST_ID: Final = web.RequestKey("request_id", str)
CSP: Final = web.RequestKey("csp", str)
"""Key of a request under which a page leaves a Content-Security-Policy of its own."""

_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_CSP: Final = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_CLIENTS: Final = 4096
_PERIOD_S: Final = 10.0
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\s]*)(?::\d{1,5})?")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_view(path: str) -> bool:
    """Whether a path is of the live view; the root only leads there."""
    return path in ("/", VIEW) or path.startswith(f"{VIEW}/")


def frame(refuse: Callable[[web.Request, RefusedError, str], web.Response]) -> Middleware:
    """Make the outermost part; ``refuse`` gives a refusal its form, with the request's id."""

    @web.middleware
    async def framed(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await _framed(request, handler, refuse)

    return framed


async def _framed(
    request: web.Request,
    handler: Handler,
    refuse: Callable[[web.Request, RefusedError, str], web.Response],
) -> web.StreamResponse:
    """Give the request an id, give every refusal its form, and log one line."""
    began = time.monotonic()
    given = request.headers.get("X-Request-ID", "")
    request_id = given if _ID.fullmatch(given) else secrets.token_hex(8)
    request[REQUEST_ID] = request_id
    with structlog.contextvars.bound_contextvars(request_id=request_id):
        answer = await _answered(request, handler)
        response = refuse(request, answer, request_id) if isinstance(answer, RefusedError) else answer
        info = request.match_info.route.resource
        log.info(
            "request",
            method=request.method,
            route=None if info is None else info.canonical,
            status=response.status,
            elapsed_s=round(time.monotonic() - began, 4),
        )
    return response


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse | RefusedError:
    try:
        return await handler(request)
    except RefusedError as error:
        refused = error
    except web.HTTPException as error:
        refused = from_http(error)
    except NothingMatchedError as error:
        refused = RefusedError(404, str(error))
    except UsageError as error:
        refused = RefusedError(422, str(error))
    except LedgerError as error:
        log.error("the ledger failed", reason=str(error))  # noqa: TRY400 - foreseen: the message says all
        refused = RefusedError(503, scrub(str(error)), headers={"Retry-After": "5"})
    except BatchscanError as error:
        refused = RefusedError(502, scrub(str(error)))
    except Exception:  # the caller gets the form, the log gets the cause
        log.exception("request failed: this is a defect of batchscan, please report it")
        refused = RefusedError(500, "an internal error; the log has it under this request_id")
    return refused


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Put the security headers on every answer; a signal, so that streams have them too."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Content-Security-Policy", request.get(CSP, _CSP))
    response.headers.setdefault("Cache-Control", "no-store")
    if REQUEST_ID in request:
        response.headers["X-Request-ID"] = request[REQUEST_ID]
    response.headers["Server"] = "batchscan"


class Admission:
    """Lets requests in, or not.

    Args:
        host: the address that is listened on.
        hosts: further names that callers may use.
        token: what they must show; None: nothing.
        rate: requests a second of one caller.
    """

    def __init__(self, host: str, hosts: tuple[str, ...], token: TokenFile | None, rate: float) -> None:
        self._hosts: frozenset[str] | None = None
        if is_loopback(host) or hosts:
            named = {"localhost", "127.0.0.1", "[::1]", host, f"[{host}]", *hosts}
            self._hosts = frozenset(name.lower() for name in named)
        self._token = token
        self._rate = rate
        self._clients: OrderedDict[str, AsyncLimiter] = OrderedDict()

    def middleware(self) -> Middleware:
        """Return it in the form that aiohttp takes."""

        @web.middleware
        async def admission(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path not in OPEN_PATHS:
                self._check_name(request)
                await self._check_rate(request)
                if not is_view(request.path):
                    self._check_token(request)
                self._check_page(request)
            return await handler(request)

        return admission

    def _check_name(self, request: web.Request) -> None:
        """Refuse a name that was made to lead here: it would make our answers those of another page."""
        if self._hosts is None:
            return
        match = _HOST.fullmatch(request.headers.get("Host", ""))
        if match is None or match[1].lower() not in self._hosts:
            raise RefusedError(
                421, "the service is not known by this name; add it to hosts in [service] if it is right"
            )

    def _check_page(self, request: web.Request) -> None:
        """Refuse what a page of somebody else sends."""
        if request.method in _SAFE:
            return
        origin = request.headers.get("Origin")
        own = f"://{request.headers.get('Host', '')}"
        if (origin is not None and not origin.endswith(own)) or (
            request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
        ):
            raise RefusedError(403, "sent by a page of another origin")

    def _check_token(self, request: web.Request) -> None:
        if self._token is None:
            return
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._token.matches(token.strip()):
            return
        raise RefusedError(
            401,
            "show the token: Authorization: Bearer TOKEN",
            headers={"WWW-Authenticate": 'Bearer realm="batchscan"'},
        )

    async def _check_rate(self, request: web.Request) -> None:
        client = request.remote or ""
        limiter = self._clients.get(client)
        if limiter is None:
            limiter = self._clients[client] = AsyncLimiter(max(1.0, self._rate * _PERIOD_S), _PERIOD_S)
            if len(self._clients) > _CLIENTS:
                self._clients.popitem(last=False)
        self._clients.move_to_end(client)
        if not limiter.has_capacity():
            raise RefusedError(429, "too many requests; wait a second", headers={"Retry-After": "1"})
        await limiter.acquire()
