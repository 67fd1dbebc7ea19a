"""The door of the live view: lets in who has a session, and gives one to who shows the token.

Where no token is asked for, everybody who is let in by the guard has a session: what its forms send along
shows that they were not made by a page of somebody else. The cookie is of the view's paths only, so the API
never sees it, and no page can make a browser use the API by it.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from aiolimiter import AsyncLimiter
from yarl import URL

from batchscan.service.guard import VIEW, is_view
from batchscan.service.keys import SERVICE_CONFIG, SESSIONS, SETTLED
from batchscan.service.problems import RefusedError
from batchscan.service.sessions import Session
from batchscan.service.view.rendering import SESSION, page, see

log = structlog.get_logger(__name__)

LOGIN: Final = f"{VIEW}/login"
STATIC: Final = f"{VIEW}/static/"
WORD: Final = "word"
"""The field of a form that shows where it comes from."""

_FORM: Final = "application/x-www-form-urlencoded"
_TRIES: Final = 10
_TRIES_S: Final = 60.0
_CALLERS: Final = 4096
_WAYS: Final = re.compile(rf"{VIEW}(/[A-Za-z0-9._~%+/-]*)?(\?[A-Za-z0-9._~%+&=-]*)?")


@web.middleware
async def door(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Ask for a session before anything of the view is shown."""
    if not is_view(request.path):
        return await handler(request)
    sessions = request.app[SESSIONS]
    found = sessions.find(request.cookies.get(_cookie(request)))
    keep = sessions.renewed(found) if found is not None else None if sessions.asks else sessions.begin()
    session = keep or found
    if session is not None:
        request[SESSION] = session
    elif request.path not in (LOGIN, "/") and not request.path.startswith(STATIC):
        raise RefusedError(401, "log in to see this page", code="log-in")
    response = await handler(request)
    if keep is not None and not response.prepared and not response.cookies:
        _give(request, response, keep)
    return response


async def read_form(request: web.Request) -> dict[str, str]:
    """Read a form of one of the session's own pages.

    Raises:
        RefusedError: it is none, or of another session.
    """
    form = await _fields(request)
    if not request.app[SESSIONS].is_form_word(request[SESSION], form.get(WORD, "")):
        raise RefusedError(403, "the form is of a session that is over; load the page again", code="old-form")
    return form


def form_key(form: Mapping[str, str]) -> str | None:
    """Make an idempotency key of the one that a form was given, so that sending it twice is one run."""
    key = form.get("key", "")
    usable = key.isascii() and key.isalnum() and len(key) <= 64  # noqa: PLR2004 - twice what is given out
    return f"view-{key}" if usable else None


async def show_login(request: web.Request) -> web.StreamResponse:
    """Show the form that takes the token."""
    way = _way(request.query.get("next"))
    if SESSION in request:
        return see(way)
    return page(request, "login.html", next=way, wrong=None)


class Login:
    """Takes tokens; of one address few wrong ones in a minute."""

    def __init__(self) -> None:
        self._callers: OrderedDict[str, AsyncLimiter] = OrderedDict()

    async def log_in(self, request: web.Request) -> web.StreamResponse:
        """Begin a session for who has the token."""
        form = await _fields(request)
        way = _way(form.get("next"))
        tries = self._tries(request.remote or "")
        if not tries.has_capacity():
            wrong = "Too many wrong tokens. Wait a minute."
            response = page(request, "login.html", status=429, next=way, wrong=wrong)
            response.headers["Retry-After"] = str(round(_TRIES_S))
            return response
        session = request.app[SESSIONS].begin(form.get("token", "").strip())
        if session is None:
            await tries.acquire()
            log.warning("log-in refused", remote=request.remote)
            wrong = "This is not the token of the service."
            return page(request, "login.html", status=403, next=way, wrong=wrong)
        log.info("log-in", remote=request.remote)
        response = see(way)
        _give(request, response, session)
        return response

    def _tries(self, caller: str) -> AsyncLimiter:
        limiter = self._callers.setdefault(caller, AsyncLimiter(_TRIES, _TRIES_S))
        self._callers.move_to_end(caller)
        if len(self._callers) > _CALLERS:
            self._callers.popitem(last=False)
        return limiter


async def log_out(request: web.Request) -> web.StreamResponse:
    """End the session, also for whoever has a copy of its cookie."""
    await read_form(request)
    request.app[SESSIONS].end(request[SESSION])
    response = see(LOGIN)
    response.del_cookie(_cookie(request), path=VIEW)
    return response


def login_of(way: str) -> str:
    """Where to log in, and to come to a page from there."""
    checked = _way(way)
    return LOGIN if checked == f"{VIEW}/" else str(URL(LOGIN).with_query(next=checked))


def _way(text: str | None) -> str:
    """Take a way to a page of the view, and nothing that leads out of it."""
    if text is None or not _WAYS.fullmatch(text) or len(text) > 2000 or "//" in text or ".." in text:  # noqa: PLR2004 - as long as any browser takes
        return f"{VIEW}/"
    return text


async def _fields(request: web.Request) -> dict[str, str]:
    if request.content_type != _FORM:
        raise RefusedError(415, f"send {_FORM}")
    form = await request.post()
    return {name: value for name, value in form.items() if isinstance(value, str)}


def _cookie(request: web.Request) -> str:
    """Name the cookie: a browser keeps those of all services at one address together, whatever their port."""
    place = str(request.app[SETTLED].config.state_dir)
    return f"batchscan-{hashlib.sha256(place.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _give(request: web.Request, response: web.StreamResponse, session: Session) -> None:
    value = request.app[SESSIONS].written(session)
    if value is not None:
        response.set_cookie(
            _cookie(request),
            value,
            path=VIEW,
            httponly=True,
            samesite="Strict",
            secure=_is_https(request),
        )


def _is_https(request: web.Request) -> bool:
    if request.secure:
        return True
    said = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower()
    return request.app[SERVICE_CONFIG].behind_https and said == "https"
