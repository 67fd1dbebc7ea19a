"""How a page of the live view is made and sent: its policy lets in what this service has, nothing else."""

import hashlib
from typing import Any, Final

from aiohttp import web

from batchscan import __version__
from batchscan.pages.judges import judge_of
from batchscan.pages.rendering import asset, environment
from batchscan.service.guard import CSP, VIEW
from batchscan.service.keys import SESSIONS, SETTLED, STATE
from batchscan.service.sessions import Session

SESSION: Final = web.RequestKey("session", Session)

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_JS: Final = "text/javascript"
_FILES: Final = {
    "style.css": "text/css",
    "live.css": "text/css",
    "icon.svg": "image/svg+xml",
    "vendor/htmx.min.js": _JS,
    "vendor/sse.min.js": _JS,
}
"""What pages are made of, beside themselves: told to anybody, it says nothing."""

_FOR_EVER: Final = "public, max-age=31536000, immutable"


def page(request: web.Request, name: str, /, *, status: int = 200, **content: Any) -> web.Response:  # noqa: ANN401 - what the template shows
    """Answer with a page."""
    request[CSP] = _POLICY
    return web.Response(
        status=status,
        text=fragment(request, name, **content),
        content_type="text/html",
        # a form of the page is to tell where it comes from, and no other site is to hear of the page
        headers={"Referrer-Policy": "same-origin"},
    )


def fragment(request: web.Request, name: str, /, **content: Any) -> str:  # noqa: ANN401 - what the template shows
    """Make a page, or a part of one."""
    return environment().get_template(f"live/{name}").render(_around(request) | content)


def see(way: str) -> web.Response:
    """Lead to another page; after a form, so that loading that page again sends nothing."""
    return web.Response(status=303, headers={"Location": way})


def link(name: str) -> str:
    """Where a style sheet or a script is; another version is elsewhere."""
    return f"{VIEW}/static/{name}?{hashlib.sha256(asset(name).encode()).hexdigest()[:12]}"


async def static(request: web.Request) -> web.StreamResponse:
    """Send a style sheet or a script."""
    name = request.match_info["name"]
    if name not in _FILES:
        raise web.HTTPNotFound
    return web.Response(text=asset(name), content_type=_FILES[name], headers={"Cache-Control": _FOR_EVER})


def _around(request: web.Request) -> dict[str, Any]:
    """What every page has around it."""
    app, session = request.app, request.get(SESSION)
    sessions = app[SESSIONS]
    return {
        "link": link,
        "version": __version__,
        "view": VIEW,
        "here": request.path,
        "service": judge_of(app[SETTLED].config.endpoint),
        "stopping": app[STATE].draining,
        "known": session is not None,
        "asks": sessions.asks,
        "word": "" if session is None else sessions.form_word(session),
    }
