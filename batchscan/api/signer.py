"""Signs at the moment of sending, and learns from refusals: the clock's offset and fresh credentials.

Calls run side by side, so a refusal may concern a signature from before the last remedy: then the call
is simply made again. Only a signature made *with* the remedy shows that it did not help.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import structlog

from batchscan import __version__
from batchscan.api import signature
from batchscan.api.credentials import CredentialSource
from batchscan.api.endpoints import Endpoint
from batchscan.api.protocol import CONTENT_TYPE, VERSION, Request
from batchscan.api.reactions import policy, run_policy
from batchscan.errors import CredentialsError, Reaction, ServiceError

_CREDIBLE_TIME: Final = range(1_668_988_800, 4_102_444_800)  # from the API's own version to the year 2100
_MIN_SCRUBBED = 16  # shorter texts are no secrets of the vendor, and would occur in any answer
_log = structlog.get_logger(__name__)


class Signed(msgspec.Struct, frozen=True):
    """The headers of one call, and with which state they were made."""

    headers: Mapping[str, str]
    secrets: tuple[str, ...]
    clock: int
    credential: int

    def __repr__(self) -> str:
        return "Signed(***)"

    def scrub(self, body: bytes) -> bytes:
        """``body`` without what we sent in confidence: some gateways echo requests."""
        for secret in self.secrets:
            body = body.replace(secret.encode("ascii"), b"***")
        return body


class _Remedy:
    """A remedy that may be tried once, and again after it has been seen to help."""

    def __init__(self) -> None:
        self.generation = 0
        self._unproven = False

    def apply(self) -> None:
        self.generation += 1
        self._unproven = True

    def prove(self, generation: int) -> None:
        if generation == self.generation:
            self._unproven = False

    def failed(self, generation: int) -> bool:
        return generation == self.generation and self._unproven


class Signer:
    """Makes the headers of each call to one endpoint.

    Args:
        endpoint: where the calls go.
        source: whose keys they are signed with.
        patience_s: how long the source may take, seconds.
        clock: epoch seconds.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        source: CredentialSource,
        *,
        patience_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._host = endpoint.host
        self._language = endpoint.language
        self._source = source
        self._patience_s = patience_s
        self._now = clock
        self._offset_s = 0.0
        self._clock = _Remedy()
        self._credential = _Remedy()
        self._refreshing = asyncio.Lock()

    async def sign(self, request: Request) -> Signed:
        """Headers that are good for five minutes.

        Raises:
            ServiceError: ``no-credentials``.
        """
        generation = self._credential.generation
        try:
            async with asyncio.timeout(self._patience_s):
                credentials = await self._source.get()
        except (CredentialsError, TimeoutError) as error:
            raise _no_credentials(error, request.action) from error
        timestamp = int(self._now() + self._offset_s)
        key = credentials.secret_key.reveal()
        headers = {
            "Host": self._host,
            "Content-Type": CONTENT_TYPE,
            "X-TC-Action": request.action,
            "X-TC-Version": VERSION,
            "X-TC-Timestamp": str(timestamp),
            "X-TC-RequestClient": f"batchscan-{__version__}",
            "Authorization": signature.authorization(
                secret_id=credentials.secret_id,
                secret_key=key,
                host=self._host,
                content_type=CONTENT_TYPE,
                timestamp=timestamp,
                payload_hash=request.payload_hash,
            ),
        }
        secrets = [key, headers["Authorization"].rpartition("=")[2]]
        if self._language is not None:
            headers["X-TC-Language"] = self._language
        if credentials.token is not None:
            headers["X-TC-Token"] = credentials.token.reveal()
            secrets.append(headers["X-TC-Token"])
        confidential = tuple(secret for secret in secrets if len(secret) >= _MIN_SCRUBBED)
        return Signed(headers, confidential, self._clock.generation, generation)

    def accepted(self, signed: Signed) -> None:
        """The service took a signature: whatever remedy it was made with has helped."""
        self._clock.prove(signed.clock)
        self._credential.prove(signed.credential)

    async def refused(self, error: ServiceError, signed: Signed, action: str) -> ServiceError:
        """Learn from a refusal; returns what to raise.

        That is the error itself where sending again can help (``clock``, ``credential``), the same with
        ``run`` where the remedy was tried before, and any other error as it is.
        """
        if error.policy.reaction is Reaction.CLOCK:
            return self._correct_clock(error, signed, action)
        if error.policy.reaction is Reaction.CREDENTIAL:
            return await self._refresh(error, signed, action)
        return error

    def _correct_clock(self, error: ServiceError, signed: Signed, action: str) -> ServiceError:
        if signed.clock != self._clock.generation:
            return error
        server_time = error.server_time
        if server_time is None or int(server_time) not in _CREDIBLE_TIME or self._clock.failed(signed.clock):
            return _final(error, action)
        self._offset_s = server_time - self._now()
        self._clock.apply()
        _log.warning("clock-corrected", offset_s=round(self._offset_s, 1), advice=error.policy.advice)
        return error

    async def _refresh(self, error: ServiceError, signed: Signed, action: str) -> ServiceError:
        try:
            async with asyncio.timeout(self._patience_s), self._refreshing:
                if signed.credential != self._credential.generation:
                    return error
                if self._credential.failed(signed.credential):
                    return _final(error, action)
                credentials = await self._source.refresh()
                self._credential.apply()
        except (CredentialsError, TimeoutError) as problem:
            failure = _no_credentials(problem, action)
            failure.__cause__ = problem
            return failure
        _log.info("credentials-refreshed", source=credentials.source)
        return error


def _final(error: ServiceError, action: str) -> ServiceError:
    return ServiceError(
        error.code,
        error.message,
        policy=run_policy(error.code, action),
        request_id=error.request_id,
        status=error.status,
        server_time=error.server_time,
    )


def _no_credentials(error: CredentialsError | TimeoutError, action: str) -> ServiceError:
    message = str(error) or "their source did not answer in time"
    return ServiceError("no-credentials", message, policy=policy("no-credentials", action))
