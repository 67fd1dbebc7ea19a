"""What the live view is made of, each on its own: sessions, the pace, what waits, what a run comes to."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cli_lab import until

from batchscan.config import Config
from batchscan.errors import LedgerError
from batchscan.formats.page_changes import ChangesShown
from batchscan.ledger.ages import read_ages
from batchscan.ledger.runs import RunRecord, RunRequest
from batchscan.ledger.store import open_ledger
from batchscan.models import Outcome, RiskLevel, RunState
from batchscan.report.summary import Summary
from batchscan.service.documents import Progress, Run
from batchscan.service.sessions import IDLE_S, WHOLE_S, Session, Sessions
from batchscan.service.tokens import TokenFile
from batchscan.service.view import news
from batchscan.service.view.lines import headline_of, line_of
from batchscan.service.view.pace import Pacemeter
from batchscan.stats import Meter

TOKEN = "a-token-of-some-length"
RUN = "20260501T020000Z-0badcafe"
NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(tmp_path: Path, clock: Clock) -> Sessions:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    return Sessions(TokenFile(path), clock)


def begun(sessions: Sessions) -> tuple[Session, str]:
    session = sessions.begin(TOKEN)
    assert session is not None
    cookie = sessions.written(session)
    assert cookie is not None
    return session, cookie


def test_a_session_is_found_by_its_cookie_and_by_no_other_text(sessions: Sessions) -> None:
    session, cookie = begun(sessions)
    assert sessions.find(cookie) == session
    assert sessions.begin("another") is None
    assert sessions.begin() is None
    name, began, until, signature = cookie.split(".")
    for wrong in (
        None,
        "",
        "...",
        cookie + "0",
        cookie.upper(),
        f"{name}.{began}.{int(until) + 9999}.{signature}",
        f"{name}.{began}.{until}.{'0' * 64}",
        f"{name}.{began}.{until}.",
        "\u00e9" + cookie,
        sessions.form_word(session),
        f"{name}.{sessions.form_word(session)}",
    ):
        assert sessions.find(wrong) is None, wrong


def test_a_session_lives_while_it_is_used_but_not_for_ever(sessions: Sessions, clock: Clock) -> None:
    session, cookie = begun(sessions)
    assert sessions.renewed(session) is None  # it has long enough
    clock.now += IDLE_S - 1
    assert sessions.find(cookie) is not None
    clock.now += 1
    assert sessions.find(cookie) is None
    clock.now = NOW
    for _ in range(100):
        clock.now += IDLE_S / 2
        cookie = sessions.written(session) or ""
        if sessions.find(cookie) is None:
            break
        session = sessions.renewed(session) or session
    assert clock.now == NOW + WHOLE_S


def test_an_ended_session_stays_ended_also_by_a_cookie_that_was_renewed(
    sessions: Sessions, clock: Clock
) -> None:
    session, cookie = begun(sessions)
    other, others = begun(sessions)
    clock.now += IDLE_S / 2
    renewed = sessions.renewed(session)
    assert renewed is not None
    sessions.end(session)
    assert sessions.find(cookie) is None
    assert sessions.find(sessions.written(renewed)) is None
    assert sessions.find(others) == other


def test_another_token_ends_all(sessions: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchscan.service.tokens._LOOK_AGAIN_S", 0)
    session, cookie = begun(sessions)
    word = sessions.form_word(session)
    (tmp_path / "token").write_text(TOKEN[::-1] + "more")
    assert sessions.find(cookie) is None
    assert not sessions.is_form_word(session, word)
    (tmp_path / "token").unlink()
    assert sessions.written(session) is None
    assert not sessions.is_form_word(session, "")


def test_another_process_knows_no_session_of_this_one(sessions: Sessions, tmp_path: Path) -> None:
    _, cookie = begun(sessions)
    assert Sessions(TokenFile(tmp_path / "token"), lambda: NOW).find(cookie) is None


def test_a_form_is_of_its_session(sessions: Sessions) -> None:
    (one, _), (other, _) = begun(sessions), begun(sessions)
    assert sessions.is_form_word(one, sessions.form_word(one))
    for wrong in ("", sessions.form_word(other), "\ud800", "0" * 64):
        assert not sessions.is_form_word(one, wrong)


def test_the_pace_is_what_was_called_between_two_looks(clock: Clock) -> None:
    meters = {"default@intl": Meter()}
    pacemeter = Pacemeter(lambda: meters, clock)
    assert pacemeter.of("default@intl").minute == 0
    for calls in (0, 50, 100):
        for _ in range(calls):
            meters["default@intl"].answered("CreateSkillScan", "ok", 0.1)
        meters["default@intl"].answered("DescribeSkillScanResult", "ok", 0.1)
        clock.now += 5
        pacemeter.look()
    assert pacemeter.of("default@intl").steps == (0.0, 10.0, 20.0)
    assert pacemeter.of("default@intl").minute == 10
    assert pacemeter.of("nosuch").steps == ()
    for _ in range(100):
        clock.now += 5
        pacemeter.look()
    assert set(pacemeter.of("default@intl").steps) == {0.0}


async def test_what_a_run_found_anew_is_asked_again_once_a_fault_may_have_passed(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = ChangesShown(NOW, RUN, [], [], left_out=0, incomplete=False, warnings=[])
    fails = True
    looks = 0

    def changes_of(_: Config, __: RunRecord) -> ChangesShown:
        nonlocal looks
        looks += 1
        if fails:
            raise LedgerError("the disk is away")
        return shown

    monkeypatch.setattr(news, "changes_of", changes_of)
    monkeypatch.setattr(news, "show_changes", lambda changes: changes)
    record = RunRecord(
        id=1,
        run_id=RUN,
        scope=1,
        state=RunState.COMPLETE,
        started_at=NOW,
        finished_at=NOW,
        request=RunRequest(sources=("/srv",), directory="/", endpoint="embedded"),
        report=tmp_path / "report.jsonl",
        counts={},
        summary=None,
    )
    knows = news.News(Config(), clock)
    finding_out = asyncio.create_task(knows.run())
    try:
        assert knows.of(record) is None
        await until(lambda: knows.is_known(RUN))
        fails = False
        clock.now += 299
        assert knows.of(record) is None
        assert not knows._wanted  # pages that are renewed each second read no reports each second
        clock.now += 1
        await until(lambda: knows.of(record) is not None)
        assert knows.of(record) == shown
        clock.now += 10_000
        assert knows.of(record) == shown
        assert looks == 2
    finally:
        finding_out.cancel()


async def test_what_waits_is_counted_by_age_where_a_run_waits_for_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    async with open_ledger(path, "default@intl"):
        pass
    ages = (60, 601, 3 * 3600, 7 * 3600, 9 * 86400, 9 * 86400)
    with closing(sqlite3.connect(path)) as ledger, ledger:
        (scope,) = ledger.execute("SELECT id FROM scope").fetchone()
        for run, state in enumerate(("running", "complete"), 1):
            ledger.execute(
                "INSERT INTO run (id, run_id, scope, state, started_at, request, report, counts)"
                " VALUES (?, ?, ?, ?, 0, '{}', x'00', '{}')",
                (run, f"run {run}", scope, state),
            )
        insert = (
            "INSERT INTO scan (scope, digest, state, attempt, polls, tries, next_at, submitted_at)"
            " VALUES (?, ?, ?, 1, 0, 0, ?, ?)"
        )
        waits = (
            "INSERT INTO waiting (run, digest, key, path, candidate, given_up, changes)"
            " VALUES (?, ?, ?, '', x'', 0, 0)"
        )
        for number, age in enumerate(ages):
            digest = bytes([number]) * 32
            ledger.execute(insert, (scope, digest, "scanning", NOW + 60, NOW - age))
            ledger.execute(waits, (1, digest, digest[:16]))
        for number, (state, run) in enumerate(
            (("admitted", 1), ("submitting", 1), ("admitted", 2), ("done", 1))
        ):
            digest = bytes([100 + number]) * 32
            ledger.execute(insert, (scope, digest, state, None if state == "done" else NOW - 700, None))
            ledger.execute(waits, (run, digest, digest[:16]))
    found = read_ages(path, "default@intl", now=NOW)
    assert found.to_judge == (1, 1, 1, 1, 2)
    assert found.to_submit == (0, 2, 0, 0, 0)
    assert sum(read_ages(path, "other@intl", now=NOW).to_judge) == 0
    with pytest.raises(LedgerError, match="cannot be read"):
        read_ages(tmp_path / "nosuch", "default@intl", now=NOW)


def run(state: str, **changes: Any) -> Run:
    fields: dict[str, Any] = {
        "run_id": RUN,
        "state": state,
        "origin": "api",
        "priority": 50,
        "sources": ("/srv/skills",),
        "manifests": (),
        "rescan": None,
        "endpoint": "intl",
        "queued_at": None,
        "began_at": None,
        "ended_at": None,
        "cancelled": False,
        "problem": None,
        "progress": None,
        "summary": None,
    }
    return Run(**fields | changes)


def summary(**changes: Any) -> Summary:
    fields: dict[str, Any] = {
        "run_id": RUN,
        "state": RunState.COMPLETE,
        "exit_code": 0,
        "report": "r.jsonl",
        "endpoint": "intl",
        "engine_versions": [1],
        "counts": {Outcome.SCANNED: 5},
        "verdicts": {RiskLevel.BENIGN: 5},
        "billed_files": 5,
        "requests": {},
        "throttled": 0,
        "retries": 0,
        "elapsed_s": 1.0,
        "inputs": 5,
        "skipped": {},
    }
    return Summary(**fields | changes)


MALICIOUS = {"verdicts": {RiskLevel.BENIGN: 4, RiskLevel.MALICIOUS: 1}}
MISSING = {"counts": {Outcome.SCANNED: 3, Outcome.FAILED: 2}, "verdicts": {RiskLevel.BENIGN: 3}}
ROWLESS = {"counts": {Outcome.SCANNED: 3}, "verdicts": {RiskLevel.BENIGN: 3}}


@pytest.mark.parametrize(
    ("state", "changes", "tone", "title"),
    [
        ("complete", {}, "good", "Nothing was found in 5 inputs"),
        ("complete", MALICIOUS, "bad", "1 malicious among 5 inputs"),
        ("complete", MISSING, "warn", "2 of 5 inputs have no verdict"),
        ("complete", ROWLESS, "warn", "2 of 5 inputs have no verdict"),
        (
            "complete",
            {"counts": {}, "verdicts": {}, "inputs": 0},
            "warn",
            "No input was found, so nothing was judged",
        ),
        ("complete", {"skipped": {"unreadable-directory": 1}}, "warn", "Nothing was found in 5 inputs"),
        ("incomplete", {}, "warn", "The run is incomplete: 5 of 5 inputs have a row"),
        ("cancelled", {}, "warn", "The run was ended: 5 of 5 inputs have a row"),
    ],
)
def test_nothing_is_green_while_a_verdict_is_missing(
    state: str, changes: dict[str, Any], tone: str, title: str
) -> None:
    told = summary(**changes)
    fields = {"counts": told.counts, "verdicts": told.verdicts, "inputs": told.inputs}
    headline = headline_of(line_of(run(state, summary=fields)), told)
    assert (headline.tone, headline.title) == (tone, title)


def test_a_run_that_is_under_way_is_calm_and_says_how_far_it_is() -> None:
    progress = Progress(
        found=7,
        discovery_done=False,
        waiting=4,
        submitted=3,
        outcomes={"scanned": 2, "failed": 1},
        verdicts={"benign": 2},
        requests={},
        throttled=0,
        retries=0,
    )
    line = line_of(run("running", progress=progress))
    assert line.figures == [("malicious", 0), ("suspicious", 0), ("benign", 2), ("missing", 1)]
    assert [(part.kind, part.count) for part in line.bar] == [("benign", 2), ("missing", 1), ("rest", 4)]
    assert headline_of(line, None).title == "Under way: 7 inputs found so far, 3 done"
    ending = line_of(run("running", progress=progress, cancelled=True))
    assert (ending.words, ending.can_end, ending.ended) == ("is being ended", False, False)
    failed = line_of(run("failed", problem={"code": "AuthFailure", "message": "no key"}))
    assert headline_of(failed, None).title == "The run failed: AuthFailure"
