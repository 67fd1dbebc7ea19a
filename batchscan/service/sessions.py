"""Sessions: how a browser is known after it has shown the token once.

A session is a signed text in a cookie; nothing of it is kept here, but those that were ended before their
time. The key is made of the token and a secret of this process: a token that is replaced, or a restart, ends
all sessions, and nobody can guess at a token from a cookie. A session opens the live view and nothing else.
"""

import hmac
import secrets
import time
from collections.abc import Callable
from typing import Final

import msgspec

from batchscan.service.tokens import TokenFile

IDLE_S: Final = 3600
"""A session that asks for no page for so long is over."""

WHOLE_S: Final = 12 * 3600
"""Longer lives none, however often it is used."""

_ENDED: Final = 10_000
_LONGEST: Final = 200


class Session(msgspec.Struct, frozen=True):
    """Somebody who has shown the token; times are epoch seconds."""

    name: str
    began: int
    until: int


class Sessions:
    """Begins, finds and ends sessions.

    Args:
        token: what is to be shown first; None: nothing.
        clock: epoch seconds.

    Attributes:
        asks: a token has to be shown.
    """

    def __init__(self, token: TokenFile | None, clock: Callable[[], float] = time.time) -> None:
        self.asks = token is not None
        self._token = token
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self._ended: dict[str, int] = {}

    def begin(self, token: str | None = None) -> Session | None:
        """Begin one; None when the token is not the right one."""
        if self._token is not None and (token is None or not self._token.matches(token)):
            return None
        now = int(self._clock())
        return Session(secrets.token_hex(16), now, now + IDLE_S)

    def written(self, session: Session) -> str | None:
        """Write it as the value of a cookie; None while no token is right."""
        text = f"{session.name}.{session.began}.{session.until}"
        signature = self._sign("session", text)
        return None if signature is None else f"{text}.{signature}"

    def find(self, cookie: str | None) -> Session | None:
        """Read what ``written`` wrote; None of all else, and of what is over."""
        if cookie is None or len(cookie) > _LONGEST or not cookie.isascii():
            return None
        text, _, signature = cookie.rpartition(".")
        right = self._sign("session", text)
        if right is None or not hmac.compare_digest(right, signature):
            return None
        name, began, until = text.split(".")
        session = Session(name, int(began), int(until))
        return session if self.stands(session) else None

    def stands(self, session: Session) -> bool:
        """Whether it is not over; that its token is still the right one, ``find`` tells."""
        now = self._clock()
        return now < session.until and session.name not in self._ended

    def renewed(self, session: Session) -> Session | None:
        """Let one that is used live on; None while it has long enough to live."""
        now = int(self._clock())
        until = min(now + IDLE_S, session.began + WHOLE_S)
        return Session(session.name, session.began, until) if until - session.until > IDLE_S // 4 else None

    def end(self, session: Session) -> None:
        """Let it be over, wherever its cookie is kept."""
        now = self._clock()
        self._ended = {name: until for name, until in self._ended.items() if until > now}
        if len(self._ended) >= _ENDED:
            self._secret = secrets.token_bytes(32)  # they cannot all be remembered: end every one
            self._ended.clear()
        # whatever copy of its cookie lives longest
        self._ended[session.name] = session.began + WHOLE_S

    def form_word(self, session: Session) -> str:
        """Make what a form of its pages sends along: a page of somebody else cannot know it."""
        return self._sign("form", session.name) or ""

    def is_form_word(self, session: Session, given: str) -> bool:
        """Whether a form came from a page of the session."""
        right = self._sign("form", session.name)
        return right is not None and hmac.compare_digest(right.encode(), given.encode("utf-8", "replace"))

    def _sign(self, purpose: str, text: str) -> str | None:
        key = self._secret if self._token is None else self._token.derive(self._secret)
        return None if key is None else hmac.digest(key, f"{purpose}:{text}".encode(), "sha256").hex()
