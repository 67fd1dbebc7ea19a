"""The two steps of a digest: what each answer of the service leads to, in the ledger and next."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web
from core_lab import (
    CREATE,
    ENGINE,
    KEY,
    PAY,
    RESULT,
    SOON,
    T0,
    Answer,
    Bench,
    Clock,
    Service,
    candidate,
    eventually,
    refuse,
    reply,
    reset_before,
    sha,
    state,
    status,
    write_skills,
)

from batchscan.api.client import Endpoint, open_client
from batchscan.ledger.runs import RunRecord
from batchscan.ledger.standing import Freshness
from batchscan.models import Stage
from batchscan.outage import Outage, RunStoppedError
from batchscan.pacing import Pacer
from batchscan.scheduler import Wake
from batchscan.stages import GivenUp, Gone, Next, Settled, Stages, Timing

TIMING = Timing(first_poll_s=300.0, poll_interval_s=60.0, deadline_s=6000.0)


class Steps:
    """One digest (or more) on its way, with a clock that is set by hand."""

    def __init__(self, table: Bench, run: RunRecord, digests: list[bytes]) -> None:
        self.table = table
        self.run = run
        self.digests = digests
        self.digest = digests[0]
        self.clock = Clock()
        self.outage_clock = Clock(0.0)
        self.stages = self.fresh()

    def fresh(self, **changes: Any) -> Stages:
        """Stages as a new process has them."""
        outage = Outage(60.0, clock=self.outage_clock)
        parts: dict[str, Any] = {"timing": TIMING, "clock": self.clock, "outage": outage}
        return self.table.stages(self.run, **(parts | changes))

    async def submit(self, digest: bytes | None = None) -> Next:
        return await self.stages.submit(digest or self.digest)

    async def poll(self) -> Next:
        return await self.stages.poll(self.digest)

    async def row(self) -> dict[str, Any]:
        return await self.table.scan_state(self.digest)

    async def told(self, *names: str) -> tuple[Any, ...]:
        row = await self.row()
        return tuple(row[name] for name in names)

    async def code(self) -> str:
        (problem,) = await self.told("problem")
        return str(problem).partition('"code":"')[2].partition('"')[0]

    async def accepted(self) -> None:
        """Bring it to where it is polled."""
        step = await self.submit()
        assert isinstance(step, Wake)
        assert step.stage is Stage.POLL
        self.clock.now = step.at

    async def due(self, step: Next) -> None:
        assert isinstance(step, Wake)
        self.clock.now = max(self.clock.now, step.at)


async def make_steps(table: Bench, tmp_path: Path, count: int = 1) -> Steps:
    root = tmp_path / "in"
    paths = write_skills(root, count)
    run = await table.new_run()
    admitter = table.admitter(run)
    await admitter.admit([candidate(path, root) for path in paths], Freshness(T0))
    admitter.close()
    return Steps(table, run, [sha(path.read_bytes()) for path in paths])


@pytest_asyncio.fixture
async def steps(table: Bench, tmp_path: Path) -> Steps:
    return await make_steps(table, tmp_path)


@pytest_asyncio.fixture
async def many(table: Bench, tmp_path: Path) -> AsyncIterator[Steps]:
    yield await make_steps(table, tmp_path, 8)


async def test_the_usual_way(steps: Steps, cloud: Service) -> None:
    assert await steps.submit() == Wake(Stage.POLL, T0 + 300)
    assert await steps.told("state", "attempt", "submitted_at", "owner", "tries") == (
        "scanning",
        1,
        T0,
        None,
        0,
    )
    assert await steps.poll() == Wake(Stage.POLL, T0 + 300)  # early: it says when
    assert cloud.calls[RESULT] == 0
    steps.clock.now += 300
    cloud.script[RESULT] = [state("SCANNING")]
    assert await steps.poll() == Wake(Stage.POLL, T0 + 360)
    steps.clock.now += 60
    assert await steps.poll() == Settled()
    assert await steps.told("state", "polls", "next_at", "engine_version") == ("done", 2, None, ENGINE)
    assert cloud.received == [steps.digest]


async def test_steps_run_twice_find_nothing_to_do(steps: Steps, cloud: Service) -> None:
    await steps.accepted()
    assert await steps.submit() == Wake(Stage.POLL, T0 + 300)
    assert await steps.poll() == Settled()
    assert await steps.poll() == Settled()
    assert await steps.submit() == Settled()
    assert cloud.calls == {CREATE: 1, RESULT: 1}


async def test_what_nobody_admitted_is_gone(steps: Steps, cloud: Service) -> None:
    assert await steps.stages.submit(b"\x07" * 32) == Gone()
    assert await steps.stages.poll(b"\x07" * 32) == Gone()
    assert not cloud.calls


async def test_what_another_process_submits_is_left_alone_until_its_lease_ends(
    steps: Steps, cloud: Service
) -> None:
    scans = steps.table.scans
    await steps.table.ledger.write(
        lambda c: scans.claim(c, steps.digest, owner="other", now=T0, lease_until=T0 + 300)
    )
    assert await steps.submit() == Wake(Stage.SUBMIT, T0 + 300)
    assert not cloud.calls
    steps.clock.now += 301
    assert await steps.submit() == Wake(Stage.POLL, T0 + 601)
    assert (await steps.told("attempt")) == (2,)


@pytest.mark.parametrize(
    ("code", "tries"),
    [("InternalError", 5), ("FailedOperation", 3), ("SomethingNew", 2), ("ResourceInUse.Busy", 5)],
)
async def test_a_submission_that_keeps_failing_is_failed(
    steps: Steps, cloud: Service, code: str, tries: int
) -> None:
    cloud.always[CREATE] = refuse(code)
    for number in range(1, tries):
        steps.stages = steps.fresh()  # counts survive a restart
        step = await steps.submit()
        assert isinstance(step, Wake)
        assert step.stage is Stage.SUBMIT
        assert step.at > steps.clock.now
        assert await steps.told("state", "tries", "attempt", "owner") == ("admitted", number, 0, None)
        await steps.due(step)
    assert await steps.submit() == Settled()
    assert await steps.told("state", "run", "next_at") == ("failed", steps.run.id, None)
    assert await steps.code() == code
    assert cloud.calls[CREATE] == tries


@pytest.mark.parametrize(
    "code", ["InvalidParameterValue.Zip", "RequestSizeLimitExceeded", "ResourceNotFound"]
)
async def test_what_the_service_does_not_take_is_failed_at_once(
    steps: Steps, cloud: Service, code: str
) -> None:
    cloud.script[CREATE] = [refuse(code)]
    assert await steps.submit() == Settled()
    assert await steps.told("state") == ("failed",)
    assert await steps.code() == code


@pytest.mark.parametrize("code", ["AuthFailure.SecretIdNotFound", "UnauthorizedOperation", "InvalidAction"])
async def test_what_refuses_the_run_stops_it_and_counts_against_nobody(
    steps: Steps, cloud: Service, code: str
) -> None:
    cloud.script[CREATE] = [refuse(code)]
    with pytest.raises(RunStoppedError) as caught:
        await steps.submit()
    assert (caught.value.problem.code, caught.value.polls, caught.value.exit_code) == (code, False, 4)
    assert caught.value.advice
    assert caught.value.__cause__ is not None
    assert await steps.told("state", "attempt", "owner") == ("admitted", 0, None)


async def test_a_refusal_of_polls_stops_the_run_and_keeps_the_scan(steps: Steps, cloud: Service) -> None:
    await steps.accepted()
    cloud.script[RESULT] = [refuse("UnauthorizedOperation.CamNoAuth")]
    with pytest.raises(RunStoppedError):
        await steps.poll()
    assert await steps.told("state", "attempt") == ("scanning", 1)


async def test_a_throttled_call_waits_widens_and_counts(steps: Steps, cloud: Service) -> None:
    pacer = Pacer(steps.table.ledger, CREATE, 1000.0)
    steps.stages = steps.fresh(create=pacer)
    cloud.script[CREATE] = [refuse("RequestLimitExceeded.UinLimitExceeded")]
    step = await steps.submit()
    assert isinstance(step, Wake)
    assert step.at >= T0 + 1.0
    assert await steps.told("state", "attempt", "tries") == ("admitted", 0, 1)
    assert (steps.table.stats.throttled, steps.table.stats.retries) == (1, 1)
    (cap,) = await steps.table.rows("SELECT * FROM cap WHERE action = ?", (CREATE,))
    assert cap["gap"] == pytest.approx(1.5 / 990)


async def test_a_call_throttled_for_ever_is_given_up_and_not_failed(steps: Steps, cloud: Service) -> None:
    cloud.always[CREATE] = refuse("RequestLimitExceeded")
    steps.stages = steps.fresh(
        timing=Timing(first_poll_s=1.0, poll_interval_s=1.0, deadline_s=9.0, max_refusals=3)
    )
    for _ in range(2):
        await steps.due(await steps.submit())
    assert await steps.submit() == GivenUp()
    assert await steps.told("state") == ("admitted",)


async def test_a_wrong_clock_is_set_once_and_stops_the_run_the_second_time(
    steps: Steps, cloud: Service
) -> None:
    cloud.script[CREATE] = [refuse("AuthFailure.SignatureExpire")]
    assert await steps.submit() == Wake(Stage.SUBMIT, T0)
    await steps.accepted()
    assert await steps.told("attempt") == (1,)
    cloud.always[RESULT] = refuse("AuthFailure.SignatureExpire")
    assert await steps.poll() == Wake(Stage.POLL, steps.clock.now)
    with pytest.raises(RunStoppedError):
        await steps.poll()


async def test_a_spent_token_is_read_anew_once(steps: Steps, cloud: Service) -> None:
    cloud.always[CREATE] = refuse("AuthFailure.TokenFailure")
    step = await steps.submit()
    assert step == Wake(Stage.SUBMIT, T0)
    with pytest.raises(RunStoppedError):
        await steps.submit()


EMPTY = {"OrderStatus": 1, "TotalQuota": 10, "UsedCount": 10}


async def test_an_exhausted_quota_stops_submitting_and_fails_nobody(many: Steps, cloud: Service) -> None:
    cloud.always[CREATE] = refuse("LimitExceeded")  # the table allows it one attempt
    cloud.pay = EMPTY

    async def when_all_have_failed(request: web.Request, fields: dict[str, Any]) -> web.StreamResponse:
        await eventually(lambda: many.table.stats.retries == 8)
        return await cloud.usual(PAY, request, fields)

    cloud.always[PAY] = when_all_have_failed
    ends = await asyncio.gather(*(many.submit(d) for d in many.digests), return_exceptions=True)
    assert [type(end) for end in ends] == [RunStoppedError] * 8
    end = ends[0]
    assert isinstance(end, RunStoppedError)
    assert (end.problem.code, end.polls) == ("quota", True)
    assert "10 of 10" in end.problem.message
    assert cloud.calls[PAY] == 1
    rows = await many.table.rows("SELECT state, attempt, owner FROM scan")
    assert rows == [{"state": "admitted", "attempt": 0, "owner": None}] * 8


@pytest.mark.parametrize("known", [True, False], ids=["quota left", "quota not known"])
async def test_a_refusal_that_is_not_the_quotas_is_the_digests(
    steps: Steps, cloud: Service, *, known: bool
) -> None:
    cloud.always[CREATE] = refuse("LimitExceeded")
    if not known:
        cloud.always[PAY] = refuse("InternalError")
    assert await steps.submit() == Settled()
    assert await steps.told("state") == ("failed",)
    assert cloud.calls[PAY] == 1


@pytest.mark.parametrize("fault", ["reset after", "garbage after"])
async def test_an_unknown_outcome_is_sent_again_and_billed_once(
    steps: Steps, cloud: Service, fault: str
) -> None:
    async def garbage(request: web.Request, fields: dict[str, Any]) -> web.Response:
        await cloud.usual(CREATE, request, fields)
        return web.Response(text="{ not JSON")

    cloud.script[CREATE] = [cloud.reset_after if fault == "reset after" else garbage]
    step = await steps.submit()
    assert isinstance(step, Wake)
    assert step.stage is Stage.SUBMIT
    assert await steps.told("state", "attempt", "tries") == ("admitted", 1, 1)
    await steps.due(step)
    assert isinstance(await steps.submit(), Wake)
    assert await steps.told("state", "attempt", "tries") == ("scanning", 2, 0)
    assert cloud.tasks == {steps.digest: 1}


async def test_another_hash_in_the_answer_fails_the_digest(steps: Steps, cloud: Service) -> None:
    async def other(_request: web.Request, _fields: dict[str, Any]) -> web.Response:
        return reply({"ContentHash": "sha256:" + "0" * 64, "EngineVersion": ENGINE, "Status": "SCANNING"})

    cloud.script[CREATE] = [other]
    assert await steps.submit() == Settled()
    assert await steps.told("state") == ("failed",)
    assert await steps.code() == "hash-mismatch"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (state("SUCCESS", RiskLevel="dubious"), "unknown-risk-level"),
        (refuse("InvalidParameterValue"), "InvalidParameterValue"),
    ],
    ids=["unreadable", "refused"],
)
async def test_a_result_that_cannot_be_had_fails_the_digest(
    steps: Steps, cloud: Service, answer: Answer, code: str
) -> None:
    await steps.accepted()
    cloud.script[RESULT] = [answer]
    assert await steps.poll() == Settled()
    assert await steps.told("state") == ("failed",)
    assert await steps.code() == code
    assert await steps.table.rows("SELECT * FROM verdict") == []


@pytest.mark.parametrize(
    "answer",
    [state("FAILED", Message="engine broke"), state("NOT_FOUND"), refuse("ResourceNotFound.Task")],
    ids=["FAILED", "NOT_FOUND", "ResourceNotFound"],
)
async def test_a_scan_failed_or_forgotten_is_submitted_again(
    steps: Steps, cloud: Service, answer: Answer
) -> None:
    cloud.script[RESULT] = [answer] * 2
    for attempt in (1, 2):
        await steps.accepted()
        step = await steps.poll()
        assert isinstance(step, Wake)
        assert step.stage is Stage.SUBMIT
        assert await steps.told("state", "attempt") == ("admitted", attempt)
        await steps.due(step)
    await steps.accepted()
    assert await steps.poll() == Settled()
    assert await steps.told("state", "attempt", "problem") == ("done", 3, None)


@pytest.mark.parametrize(
    ("answer", "code"), [(state("FAILED", Message="broke"), "scan-failed"), (state("NOT_FOUND"), "not-found")]
)
async def test_after_three_attempts_it_is_failed(
    steps: Steps, cloud: Service, answer: Answer, code: str
) -> None:
    cloud.always[RESULT] = answer
    for _ in range(2):
        steps.stages = steps.fresh()
        await steps.accepted()
        await steps.due(await steps.poll())
    await steps.accepted()
    assert await steps.poll() == Settled()
    assert await steps.told("state", "attempt") == ("failed", 3)
    assert await steps.code() == code


async def test_at_the_deadline_it_is_given_up_and_the_scan_goes_on(steps: Steps, cloud: Service) -> None:
    await steps.accepted()
    cloud.always[RESULT] = state("SCANNING")
    steps.clock.now = T0 + 5999
    assert await steps.poll() == Wake(Stage.POLL, T0 + 6059)
    steps.clock.now = T0 + 6059
    assert await steps.poll() == GivenUp()
    assert await steps.told("state", "next_at") == ("scanning", T0 + 6119)


async def test_what_takes_long_is_asked_for_less_often_where_polling_grows(
    steps: Steps, cloud: Service
) -> None:
    steps.stages = steps.fresh(timing=msgspec.structs.replace(TIMING, poll_growth=0.25))
    await steps.accepted()
    cloud.always[RESULT] = state("SCANNING")
    steps.clock.now = T0 + 300
    assert await steps.poll() == Wake(Stage.POLL, T0 + 300 + 75)
    steps.clock.now = T0 + 800
    assert await steps.poll() == Wake(Stage.POLL, T0 + 800 + 200)
    assert steps.stages.farthest_s >= 0.25 * TIMING.deadline_s


async def test_polls_that_fail_wait_and_end_with_the_deadline(steps: Steps, cloud: Service) -> None:
    await steps.accepted()
    cloud.always[RESULT] = refuse("InternalError")
    for tries in range(1, 4):
        before = steps.clock.now
        step = await steps.poll()
        assert isinstance(step, Wake)
        assert step.at >= before + SOON.most_s
        assert await steps.told("state", "tries") == ("scanning", tries)
        await steps.due(step)
    steps.clock.now = T0 + 6000
    assert await steps.poll() == GivenUp()


async def test_polls_that_fail_too_often_are_given_up_and_not_failed(steps: Steps, cloud: Service) -> None:
    await steps.accepted()
    cloud.always[RESULT] = refuse("SomethingNew")  # the table allows it five attempts
    for _ in range(4):
        await steps.due(await steps.poll())
    assert await steps.poll() == GivenUp()
    assert await steps.told("state", "tries") == ("scanning", 5)


async def test_a_throttled_poll_is_put_off(steps: Steps, cloud: Service) -> None:
    await steps.accepted()
    cloud.script[RESULT] = [refuse("RequestLimitExceeded")]
    now = steps.clock.now
    step = await steps.poll()
    assert isinstance(step, Wake)
    assert now + 1.0 <= step.at < now + 60.0
    assert steps.table.stats.throttled == 1


async def test_nobody_there_stops_the_run_after_the_configured_time(steps: Steps) -> None:
    nowhere = Endpoint("nowhere", "http://127.0.0.1:9/")
    async with open_client(nowhere, KEY) as client:
        steps.stages = steps.fresh(client=client)
        for _ in range(6):
            await steps.due(await steps.submit())
            assert await steps.told("state", "attempt") == ("admitted", 0)
            steps.outage_clock.now += 9.9
        steps.outage_clock.now += 1
        with pytest.raises(RunStoppedError) as caught:
            await steps.submit()
    assert (caught.value.problem.code, caught.value.polls) == ("unreachable", False)
    assert "60 s" in caught.value.problem.message
    assert await steps.told("state", "attempt") == ("admitted", 0)


async def test_an_answer_in_between_shows_that_somebody_is_there(many: Steps, cloud: Service) -> None:
    answers = [*[reset_before] * 4, status(429), reset_before]
    for digest, answer in zip(many.digests, answers, strict=False):
        cloud.script[CREATE] = [answer]
        assert isinstance(await many.submit(digest), Wake)
        many.outage_clock.now += 50
    cloud.always[CREATE] = reset_before
    for digest in many.digests[:3]:
        assert isinstance(await many.submit(digest), Wake)
    many.outage_clock.now += 50
    with pytest.raises(RunStoppedError):
        await many.submit(many.digests[3])


async def test_a_defect_of_ours_is_noticed_after_three_in_a_row(many: Steps, cloud: Service) -> None:
    cloud.script[CREATE] = [
        refuse("UnknownParameter"),
        refuse("UnknownParameter"),
        refuse("InvalidParameter"),
    ]
    for digest in many.digests[:3]:
        assert await many.submit(digest) == Settled()
    cloud.always[CREATE] = refuse("UnknownParameter.X")
    for digest in many.digests[3:5]:
        assert await many.submit(digest) == Settled()
    with pytest.raises(RunStoppedError) as caught:
        await many.submit(many.digests[5])
    assert caught.value.problem.code == "UnknownParameter.X"
    assert await many.told("state") == ("failed",)


async def test_report_urls_are_kept_only_when_asked_for(many: Steps, cloud: Service) -> None:
    url = "https://reports.example/x?sign=secret"
    cloud.always[RESULT] = state("SUCCESS", RiskLevel="benign", ReportURL=url)
    for digest, keep in zip(many.digests, (False, True), strict=False):
        stages = many.fresh(keep_report_url=keep)
        await stages.submit(digest)
        many.clock.now += 300
        assert await stages.poll(digest) == Settled()
        (row,) = await many.table.rows("SELECT result FROM verdict WHERE digest = ?", (digest,))
        assert (b"secret" in row["result"]) is keep


async def test_a_verdict_expires_when_the_service_forgets_it(steps: Steps, cloud: Service) -> None:
    await steps.accepted()
    cloud.always[RESULT] = state("SUCCESS", RiskLevel="malicious", ScannedAt="2026-04-02T09:13:23+08:00")
    assert await steps.poll() == Settled()
    (row,) = await steps.table.rows("SELECT scanned_at, expires_at FROM verdict")
    assert row == {"scanned_at": 1775092403.0, "expires_at": 1775092403.0 + 90 * 86400}


async def test_a_verdict_that_has_been_overtaken_is_history(steps: Steps, cloud: Service) -> None:
    await steps.accepted()

    async def overtaken(request: web.Request, fields: dict[str, Any]) -> web.StreamResponse:
        await steps.table.change("UPDATE scan SET state = 'admitted', attempt = 0, next_at = ?", (T0,))
        return await cloud.usual(RESULT, request, fields)

    cloud.script[RESULT] = [overtaken]
    assert await steps.poll() == Wake(Stage.SUBMIT, T0)
    assert await steps.told("state") == ("admitted",)
    assert len(await steps.table.rows("SELECT * FROM verdict")) == 1


async def test_a_verdict_that_two_processes_fetch_at_once_is_no_scan_told_again(
    steps: Steps, cloud: Service
) -> None:
    await steps.accepted()
    told = state("SUCCESS", RiskLevel="benign", ScannedAt="2026-04-02T09:13:23+08:00")
    other = steps.fresh()

    async def late(request: web.Request, fields: dict[str, Any]) -> web.StreamResponse:
        cloud.script[RESULT] = [told]
        steps.clock.now += 3600.0  # the first one's lease is over
        assert await other.poll(steps.digest) == Settled()
        return await told(request, fields)

    cloud.script[RESULT] = [late]
    assert await steps.poll() == Settled()
    (row,) = await steps.table.rows("SELECT json_extract(result, '$.told_again') AS again FROM verdict")
    assert row == {"again": 0}


async def test_an_acceptance_after_the_lease_is_read_from_the_row(steps: Steps, cloud: Service) -> None:
    async def frozen(request: web.Request, fields: dict[str, Any]) -> web.StreamResponse:
        await steps.table.change("UPDATE scan SET owner = 'other', attempt = attempt + 1")
        return await cloud.usual(CREATE, request, fields)

    cloud.script[CREATE] = [frozen]
    assert await steps.submit() == Wake(Stage.SUBMIT, T0)
    assert await steps.told("state", "owner", "attempt") == ("submitting", "other", 2)
    assert await steps.submit() == Wake(Stage.SUBMIT, T0 + 300)
    assert cloud.calls[CREATE] == 1
