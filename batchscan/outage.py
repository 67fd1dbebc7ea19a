"""When a failed call is no longer the matter of one digest: the run stops submitting.

Three ways lead here: the service says so (credentials, permission, quota), nobody answers for a while,
or it does not understand one call after another, which is a defect of ours.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import structlog

from batchscan.api.client import ScanClient
from batchscan.api.reactions import CREATE
from batchscan.errors import BatchscanError, Reaction, ServiceError
from batchscan.models import Problem

log = structlog.get_logger(__name__)

_NOT_UNDERSTOOD = ("UnknownParameter", "MissingParameter")
_NOT_UNDERSTOOD_IN_A_ROW = 3
_LEAST_FAILURES = 5
_ASK_AGAIN_S = 10.0


class RunStoppedError(BatchscanError):
    """The service refuses the run. Nothing more is submitted; ``polls`` says whether polling goes on.

    Attributes:
        problem: the code that every input without a verdict gets.
        advice: what the operator should do.
    """

    exit_code = 4

    def __init__(self, problem: Problem, *, advice: str, polls: bool) -> None:
        super().__init__(f"{problem.code}: {problem.message}")
        self.problem = problem
        self.advice = advice
        self.polls = polls


class Outage:
    """Watches the calls of one run.

    Args:
        after_s: seconds without any answer until the service counts as unreachable.
        clock: monotonic seconds.
    """

    def __init__(self, after_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._after_s = after_s
        self._clock = clock
        self._since: float | None = None
        self._failures = 0
        self._not_understood: Counter[str] = Counter()
        self._quota_asked_at: float | None = None
        self._asking = asyncio.Lock()
        self._no_quota: RunStoppedError | None = None

    def over(self, action: str) -> None:
        """A call was answered well."""
        self._since = None
        self._failures = 0
        self._not_understood[action] = 0

    def unreachable(self, error: ServiceError) -> bool:
        """Note a failed call; tell whether nobody was there to take it."""
        if error.status is not None:  # an answer, if not a good one
            self._since = None
            self._failures = 0
            return False
        if error.policy.reaction in (Reaction.TRANSIENT, Reaction.UNKNOWN):
            self._failures += 1
            if self._since is None:
                self._since = self._clock()
        return error.policy.reaction is Reaction.TRANSIENT

    def refused(self, error: ServiceError, action: str) -> None:
        """Note that the service refused one digest.

        Raises:
            RunStoppedError: it did not understand several in a row. Where submissions are not understood,
                polling goes on.
        """
        if error.code.partition(".")[0] not in _NOT_UNDERSTOOD:
            self._not_understood[action] = 0
            return
        self._not_understood[action] += 1
        if self._not_understood[action] >= _NOT_UNDERSTOOD_IN_A_ROW:
            raise _stopped(error, polls=action == CREATE)

    def end(self, error: ServiceError) -> RunStoppedError | None:
        """Tell how the run ends, when the error says so or when nobody has answered for too long."""
        if error.policy.reaction is Reaction.RUN:
            return _stopped(error, polls=False)
        if (
            self._since is not None
            and self._failures >= _LEAST_FAILURES
            and self._clock() - self._since >= self._after_s
        ):
            message = f"no answer for {self._after_s:.0f} s; the last error was {error.code}: {error.message}"
            return RunStoppedError(Problem("unreachable", message), advice=error.policy.advice, polls=False)
        return None

    async def quota_end(self, client: ScanClient, error: ServiceError) -> RunStoppedError | None:
        """Tell how the run ends, when the error may mean an exhausted quota and the account confirms it.

        What was accepted is still polled then. Submissions that fail at the same time ask once.
        """
        if error.policy.reaction is not Reaction.QUOTA:
            return None
        async with self._asking:
            if self._quota_asked_at is None or self._clock() - self._quota_asked_at >= _ASK_AGAIN_S:
                self._no_quota = await _no_quota(client, error)
                self._quota_asked_at = self._clock()
        return self._no_quota


async def _no_quota(client: ScanClient, error: ServiceError) -> RunStoppedError | None:
    try:
        info = await client.pay_info()
    except ServiceError as unknown:
        log.warning("quota not known", code=unknown.code, after=error.code)
        return None  # the error stays that of one digest
    if not info.exhausted:
        return None
    message = f"{error.code}: {info.used} of {info.total} files used, order state {info.order_status}"
    return RunStoppedError(
        Problem("quota", message, error.request_id), advice=error.policy.advice, polls=True
    )


def _stopped(error: ServiceError, *, polls: bool) -> RunStoppedError:
    problem = Problem(error.code, error.message, error.request_id)
    return RunStoppedError(problem, advice=error.policy.advice, polls=polls)
