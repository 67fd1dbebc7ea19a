"""Credentials that expire are fetched anew ahead of time, once for all who wait, whatever their source.

The rule: due when less than a tenth of their life or five minutes remains, whichever is more, but never
before half of it has passed. A fetch that fails while they are still good is a warning, and is tried again
half a minute later; only when nothing good is left does the failure reach the caller.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from batchscan.api.keys import Credentials, moment
from batchscan.errors import CredentialsError

AHEAD_SHARE: Final = 0.1
AHEAD_S: Final = 300.0
LATEST_SHARE: Final = 0.5
RETRY_S: Final = 30.0
"""Seconds between two tries to replace credentials that are still good."""

PATIENCE_S: Final = 30.0
"""Seconds that one fetch may take, all its steps together."""

_log = structlog.get_logger(__name__)


class RotatingCredentials:
    """Credentials from a source that gives new ones when asked.

    Args:
        fetch: asks the source; raises ``CredentialsError`` and nothing else of its own.
        source: what it is, for people.
        advice: what to do when it gives credentials that have expired already.
        first: what it gave before.
        clock: epoch seconds.
        patience_s: how long a fetch may take, seconds.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Credentials]],
        *,
        source: str,
        advice: str = "check this machine's clock",
        first: Credentials | None = None,
        clock: Callable[[], float] = time.time,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._fetch = fetch
        self._source = source
        self._advice = advice
        self._now = clock
        self._patience_s = patience_s
        self._lock = asyncio.Lock()
        self._tries = 0
        self._tried_at: float | None = None
        self._failure: CredentialsError | None = None
        self._current = first
        self._due_at = self._due(first)

    @property
    def source(self) -> str:
        """What the source is; no credentials are needed to say it."""
        return self._source

    async def get(self) -> Credentials:
        """Credentials that are good now.

        Raises:
            CredentialsError: none are, and the source gives none.
        """
        current = self._good()
        if current is not None and (not self._is_due() or self._lock.locked()):
            return current
        return await self._renew(forced=False)

    async def refresh(self) -> Credentials:
        """Fetch anew, though the current ones look good: the service has refused them.

        Raises:
            CredentialsError: the source gives none. ``get`` goes on with what there is.
        """
        return await self._renew(forced=True)

    async def _renew(self, *, forced: bool) -> Credentials:
        seen = self._tries
        async with self._lock:
            if self._tries == seen:
                self._failure = await self._try()
                self._tries += 1
                self._tried_at = self._now()
            failure, current = self._failure, self._good()
        if failure is None and current is not None:
            return current
        if current is not None and not forced:
            return current
        raise CredentialsError(str(failure or self._expired())) from failure

    async def _try(self) -> CredentialsError | None:
        """Fetch once; returns why it gave nothing, for all who wait."""
        try:
            async with asyncio.timeout(self._patience_s):
                fetched = await self._fetch()
        except TimeoutError:
            failure = CredentialsError(f"{self._source}: gave no answer within {self._patience_s:g} s")
        except CredentialsError as error:
            failure = error.with_traceback(None)  # its frames hold what was asked and answered
        else:
            if fetched.expires_at is None or fetched.expires_at > self._now():
                self._current = fetched
                self._due_at = self._due(fetched)
                return None
            failure = CredentialsError(
                f"{fetched.source}: expired at {moment(fetched.expires_at)}: {self._advice}"
            )
        current = self._good()
        if current is not None and current.expires_at is not None:
            _log.warning(
                "credentials-not-renewed",
                reason=str(failure),
                good_until=moment(current.expires_at),
                next_try_s=RETRY_S,
            )
        return failure

    def _expired(self) -> str:
        return f"{self._source}: the credentials have expired: {self._advice}"

    def _good(self) -> Credentials | None:
        current = self._current
        if current is None or (current.expires_at is not None and current.expires_at <= self._now()):
            return None
        return current

    def _due(self, credentials: Credentials | None) -> float | None:
        """From when on to look for others, epoch seconds."""
        if credentials is None or credentials.expires_at is None:
            return None
        life_s = credentials.expires_at - self._now()
        ahead_s = min(max(AHEAD_SHARE * life_s, AHEAD_S), LATEST_SHARE * life_s)
        return credentials.expires_at - ahead_s

    def _is_due(self) -> bool:
        now = self._now()
        if self._due_at is None or now < self._due_at:
            return False
        # a clock that was set back must not put the next try off
        return self._tried_at is None or not 0 <= now - self._tried_at < RETRY_S
