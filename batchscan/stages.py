"""The two steps of a digest: ``submit`` and ``poll``.

Both are idempotent: they read the ledger's row, do one step, write the row, and say when to wake the
digest again. Run twice, by this process or another, they find that there is nothing to do.
"""

import random
import time
from collections.abc import Callable
from functools import partial

import msgspec
import structlog
from sqlalchemy import Connection

from batchscan.api.client import ScanClient
from batchscan.api.protocol import Request, ScanStatus
from batchscan.api.reactions import CREATE, RESULT
from batchscan.backoff import Backoff
from batchscan.errors import Reaction, ServiceError
from batchscan.ledger.scans import Claim, Poll, ScanRecord, Scans
from batchscan.loading import Loader
from batchscan.models import Problem, ScanState, Stage, Verdict
from batchscan.outage import Outage, RunStoppedError
from batchscan.pacing import Pacer
from batchscan.scheduler import Wake
from batchscan.stats import Stats

log = structlog.get_logger(__name__)


class Settled(msgspec.Struct, frozen=True):
    """The digest is done or failed: its inputs can have their rows."""


class GivenUp(msgspec.Struct, frozen=True):
    """This run waits no longer; the service may still judge, and the next run will ask."""


class SetAside(msgspec.Struct, frozen=True):
    """The budget has not enough left for it now; it comes forward again should that change."""


class Gone(msgspec.Struct, frozen=True):
    """No file holds the digest's bytes any more: its inputs must be admitted anew."""


Next = Wake | Settled | GivenUp | SetAside | Gone


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Times and counts of both stages, seconds unless named otherwise.

    Attributes:
        first_poll_s: from acceptance to the first poll.
        poll_interval_s: between polls, at least.
        poll_growth: or this part of the time since acceptance, where that is longer: what takes long is
            asked for less often. 0 polls evenly, as the vendor advises.
        deadline_s: from acceptance until the run gives up.
        lease_s: how long a claim holds: longer than the longest call.
        retention_s: how long the service keeps a result.
        max_attempts: submissions of one digest in all, when the service fails or forgets it.
        max_refusals: how often a call may be put off (throttled, say) before the run gives up.
    """

    first_poll_s: float
    poll_interval_s: float
    poll_growth: float = 0.0
    deadline_s: float
    lease_s: float = 300.0
    retention_s: float = 90 * 86400.0
    max_attempts: int = 3
    max_refusals: int = 60


class Failures(msgspec.Struct, frozen=True):
    """Calls for a digest that failed since the last good one; ``put_off`` of them were no fault of it."""

    tries: int = 0
    put_off: int = 0


_NO_FAILURES = Failures()


class Stages:
    """Both steps, for one run."""

    def __init__(  # noqa: PLR0913 - the one place where these meet; each is used by both steps
        self,
        *,
        scans: Scans,
        client: ScanClient,
        create: Pacer,
        result: Pacer,
        timing: Timing,
        outage: Outage,
        stats: Stats,
        owner: str,
        run: int,
        limit_bytes: int,
        keep_report_url: bool = False,
        backoff: Backoff = Backoff(),  # noqa: B008 - frozen
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._scans = scans
        self._client = client
        self._create = create
        self._result = result
        self._timing = timing
        self._outage = outage
        self._stats = stats
        self._owner = owner
        self._run = run
        self._loader = Loader(scans, run, limit_bytes=limit_bytes)
        self._keep_report_url = keep_report_url
        self._backoff = backoff
        self._clock = clock

    @property
    def farthest_s(self) -> float:
        """No wake-up is set further ahead than this."""
        timing = self._timing
        longest_s = max(timing.poll_interval_s, timing.poll_growth * timing.deadline_s)
        return max(timing.first_poll_s, longest_s, timing.lease_s, self._backoff.most_s)

    async def submit(self, digest: bytes) -> Next:
        """Send the digest's bytes to the service, if the ledger says that they are to be sent.

        Raises:
            RunStoppedError: the service refuses the run, not this digest.
            LedgerError: the ledger failed.
        """
        record = await self._scans.get(digest)
        if record is None:
            return Gone()
        if not (record.state is ScanState.ADMITTED or record.again or self._lapsed(record)):
            return _elsewhere(record)
        async with self._loader.load(digest) as request:
            if request is None:
                return Gone()
            claim = await self._create.start(partial(self._claim, digest), self._renew)
            if claim is None:
                return await self._unclaimed(digest)
            before = _NO_FAILURES if record.again else Failures(record.tries, record.put_off)
            return await self._send(claim, request, before)

    async def _unclaimed(self, digest: bytes) -> Next:
        record = await self._scans.get(digest)
        if record is None:
            return Gone()
        if record.again or not await self._scans.affordable(digest):
            return SetAside()
        return _elsewhere(record)

    async def poll(self, digest: bytes) -> Next:
        """Ask the service for the digest's verdict, if it is time to.

        Raises:
            RunStoppedError: the service refuses the run, not this digest.
            LedgerError: the ledger failed.
        """
        poll = await self._result.start(partial(self._poll, digest), lambda _, held: held)
        if poll is None:
            record = await self._scans.get(digest)
            return Gone() if record is None else _elsewhere(record)
        try:
            result = await self._client.result(digest, poll.engine_version)
        except ServiceError as error:
            return await self._poll_failed(poll, error)
        self._outage.over(RESULT)
        if result.status is ScanStatus.SUCCESS and result.verdict is not None:
            return await self._judged(poll, self._to_keep(result.verdict))
        if result.status is ScanStatus.SCANNING:
            return await self._still_scanning(poll)
        code = "scan-failed" if result.status is ScanStatus.FAILED else "not-found"
        message = result.message or "the service does not know the content"
        return await self._again(poll, Problem(code, message, result.request_id))

    def _claim(self, digest: bytes, connection: Connection) -> Claim | None:
        now = self._clock()
        return self._scans.claim(
            connection, digest, owner=self._owner, now=now, lease_until=now + self._timing.lease_s
        )

    def _renew(self, connection: Connection, claim: Claim) -> Claim | None:
        return self._scans.renew(connection, claim, lease_until=self._clock() + self._timing.lease_s)

    def _poll(self, digest: bytes, connection: Connection) -> Poll | None:
        now = self._clock()
        return self._scans.poll(connection, digest, now=now, next_at=now + self._timing.poll_interval_s)

    def _lapsed(self, record: ScanRecord) -> bool:
        return (
            record.state is ScanState.SUBMITTING
            and record.next_at is not None
            and record.next_at < self._clock()
        )

    async def _send(self, claim: Claim, request: Request, before: Failures) -> Next:
        try:
            submission = await self._client.create(request, claim.digest)
        except ServiceError as error:
            return await self._refused(claim, error, before)
        self._outage.over(CREATE)
        self._stats.submitted += 1
        now = self._clock()
        poll_at = now + self._timing.first_poll_s
        accepted = await self._scans.accepted(claim, submission.engine_version, now=now, next_at=poll_at)
        await self._note_engine(submission.engine_version, now)
        if accepted:
            return Wake(Stage.POLL, poll_at)
        return Wake(Stage.SUBMIT, now)  # taken over while this process was frozen: the row tells

    async def _note_engine(self, version: int, now: float) -> None:
        """Say so, once, when the service judges by an engine that it has not named before."""
        known = await self._scans.engines.note(version, now=now)
        if known:
            self._stats.new_engines.append(version)
            log.warning(
                "new engine version",
                engine_version=version,
                known=known,
                advice=f"what older engines judged can be submitted again: rescan --engine-before {version}",
            )

    async def _refused(self, claim: Claim, error: ServiceError, before: Failures) -> Next:
        """React to a submission that was not accepted."""
        tries = before.tries + 1
        problem = Problem(error.code, error.message, error.request_id)
        reaction = error.policy.reaction
        put_off = self._outage.unreachable(error) or reaction in _PUT_OFF
        # The service may have got it, now or by an earlier try, and may bill it.
        billed = claim.attempt > 1 or reaction is Reaction.UNKNOWN or error.code == _OTHER_CONTENT
        if reaction is Reaction.ITEM:
            await self._scans.fail(claim, problem, run=self._run, billed=billed)
            self._outage.refused(error, CREATE)
            return Settled()
        at = self._clock() + await self._wait_s(self._create, error, tries)
        end = self._outage.end(error) or await self._outage.quota_end(self._client, error)
        if end is None and not put_off and tries - before.put_off >= error.policy.max_attempts:
            await self._scans.fail(claim, problem, run=self._run, billed=billed)
            return Settled()
        counted = reaction is Reaction.UNKNOWN  # the service may have got it
        await self._scans.release(claim, at=at, problem=problem, counted=counted, put_off=put_off)
        if end is not None:
            raise end from error
        return GivenUp() if tries >= self._timing.max_refusals else Wake(Stage.SUBMIT, at)

    async def _poll_failed(self, poll: Poll, error: ServiceError) -> Next:
        """React to a poll that was not answered."""
        problem = Problem(error.code, error.message, error.request_id)
        tries = poll.tries + 1
        put_off = self._outage.unreachable(error) or error.policy.reaction in _PUT_OFF
        if error.policy.reaction is Reaction.ITEM:
            await self._scans.fail(poll, problem, run=self._run, billed=True)  # only its result cannot be had
            self._outage.refused(error, RESULT)
            return Settled()
        wait_s = await self._wait_s(self._result, error, tries)
        if error.policy.reaction not in _PUT_OFF:
            wait_s = max(wait_s, min(self._timing.poll_interval_s, self._backoff.most_s))
        at = self._clock() + wait_s
        await self._scans.postpone(poll, next_at=at, problem=problem)
        end = self._outage.end(error)
        if end is not None:
            raise end from error
        # The service has it and may yet judge it: given up for this run, but not failed.
        spent = not put_off and tries >= error.policy.max_attempts
        return GivenUp() if spent or self._overdue(poll) else Wake(Stage.POLL, at)

    async def _judged(self, poll: Poll, verdict: Verdict) -> Next:
        now = self._clock()
        recorded = await self._scans.judged(
            poll, verdict, run=self._run, now=now, retention_s=self._timing.retention_s
        )
        if recorded is not None:
            self._stats.judged(now - poll.submitted_at, poll.polls, recorded.billed, news=recorded.news)
            return Settled()
        record = await self._scans.get(poll.digest)
        return Gone() if record is None else _elsewhere(record)

    async def _wait_s(self, pacer: Pacer, error: ServiceError, tries: int) -> float:
        """How long to wait after a failed call; a throttled one makes every process wait."""
        policy = error.policy
        if policy.reaction in (Reaction.CLOCK, Reaction.CREDENTIAL):
            return 0.0  # the client has set its clock or fetched new credentials
        self._stats.retries += 1
        delay_s = self._backoff.delay_s(tries, asked_s=policy.delay_s, jitter=random.random())  # noqa: S311
        if policy.reaction is Reaction.THROTTLE:
            self._stats.throttled += 1
            await pacer.refused(policy.delay_s)
        return delay_s

    async def _still_scanning(self, poll: Poll) -> Next:
        now = self._clock()
        at = now + max(self._timing.poll_interval_s, self._timing.poll_growth * (now - poll.submitted_at))
        await self._scans.postpone(poll, next_at=at, problem=None)
        return GivenUp() if self._overdue(poll) else Wake(Stage.POLL, at)

    async def _again(self, poll: Poll, problem: Problem) -> Next:
        """Submit once more, or give the digest up after ``max_attempts``."""
        if poll.attempt >= self._timing.max_attempts:
            await self._scans.fail(poll, problem, run=self._run)
            return Settled()
        at = self._clock() + self._backoff.delay_s(poll.attempt, jitter=random.random())  # noqa: S311
        await self._scans.resubmit(poll, at=at, problem=problem)
        return Wake(Stage.SUBMIT, at)

    def _overdue(self, poll: Poll) -> bool:
        return self._clock() >= poll.submitted_at + self._timing.deadline_s

    def _to_keep(self, verdict: Verdict) -> Verdict:
        return verdict if self._keep_report_url else msgspec.structs.replace(verdict, report_url=None)


_OTHER_CONTENT = "hash-mismatch"
_PUT_OFF = (Reaction.THROTTLE, Reaction.CLOCK, Reaction.CREDENTIAL)


def _elsewhere(record: ScanRecord) -> Next:
    """What to do with a digest that is not where it was expected to be."""
    if record.state in (ScanState.DONE, ScanState.FAILED) or record.next_at is None:
        return Settled()
    stage = Stage.POLL if record.state is ScanState.SCANNING else Stage.SUBMIT
    return Wake(stage, record.next_at)


__all__ = ["GivenUp", "Gone", "Next", "RunStoppedError", "SetAside", "Settled", "Stages", "Timing"]
