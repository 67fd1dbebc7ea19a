"""Schedules in the real service: what was slept through is run once, and what follows a run is done."""

import json
import socket
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from cli_lab import skill, skills, until
from notice_lab import inbox
from service_lab import API, ServiceLab, toml

from batchscan.ledger.schedules import Standing, keep
from batchscan.ledger.store import open_ledger

DAY = 86_400.0
FIVE_DAYS = 5 * DAY


def schedules(settings: Path, tables: Mapping[str, Mapping[str, Any]]) -> Path:
    """Add schedules to a settings file; booleans as TOML has them."""
    text = "".join(
        f"[schedule.{name}]\n{toml({'cron': '30 2 * * *', **keys})}" for name, keys in tables.items()
    )
    settings.write_text(settings.read_text() + text)
    return settings


async def slept(lab: ServiceLab, *names: str, seconds: float = FIVE_DAYS) -> None:
    """Let it be so long ago that these schedules were looked at."""
    lab.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    then = time.time() - seconds
    standing = Standing(rule="30 2 * * * UTC", decided_until=then, next_at=then)
    async with open_ledger(lab.state / "ledger.sqlite3", "default@embedded") as ledger:
        for name in names:
            await ledger.write(lambda c, name=name: keep(c, name, standing))  # type: ignore[misc]


def query(lab: ServiceLab, sql: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{lab.state}/ledger.sqlite3?mode=ro", uri=True)) as ledger:
        return ledger.execute(sql).fetchall()


def steps(lab: ServiceLab, schedule: str) -> dict[str, dict[str, Any]] | None:
    """What followed the one run of a schedule, None before that."""
    ((found,),) = query(lab, f"SELECT steps FROM aftermath WHERE schedule = '{schedule}'") or [(None,)]
    return None if found is None else {step["name"]: step for step in json.loads(found)}


async def test_a_missed_night_is_caught_up_once_and_documents_decisions_and_notice_follow(
    lab: ServiceLab,
) -> None:
    skills(lab.inputs, 3)
    (lab.inputs / "bad.zip").write_bytes(skill("evil"))
    (lab.path / "policy.toml").touch()
    out, blocked = lab.path / "out", lab.path / "blocked"
    blocked.write_text("a file, and no directory")
    common = {"sources": ["in"], "reports": ["csv", "sarif"], "policy": "policy.toml"}
    async with lab.service() as service, inbox() as box:
        settings = schedules(
            lab.settings(service, notify_url=box.url),
            {
                "nightly": {**common, "reports_dir": "out"},
                "broken": {**common, "sources": ["nosuch"], "reports_dir": "out", "notify": False},
                "blocked": {
                    **common,
                    "sources": ["in/bad.zip"],
                    "reports_dir": "blocked",
                    "notify": False,
                    "priority": 90,
                },
                "off": {"sources": ["in"], "enabled": False},
                "late": {"sources": ["in"], "catch_up": False},
            },
        )
        await slept(lab, "nightly", "broken", "blocked", "late", "gone")
        async with lab.serving(settings) as serving:
            await until(
                lambda: all(steps(lab, name) is not None for name in ("nightly", "blocked", "broken"))
            )
            runs = (await serving.get("/runs")).json["runs"]
            await serving.kill()
        # one that fails harms neither the others nor the service
        failed = steps(lab, "blocked")
        assert failed is not None
        assert set(failed) == {"report csv", "report sarif", "decisions"}
        assert all("blocked" in step["problem"] for step in failed.values())
        # what a kill interrupted is done at the next start, and nothing is run again
        blocked.unlink()
        with closing(sqlite3.connect(lab.state / "ledger.sqlite3")) as ledger, ledger:
            ledger.execute("UPDATE aftermath SET steps = NULL WHERE schedule = 'blocked'")
        async with lab.serving(settings) as serving:
            await until(lambda: steps(lab, "blocked") is not None)
            assert (await serving.get("/runs")).json["runs"] == runs, "run again after a kill"
        assert len(list(blocked.iterdir())) == 3
        origins = {run["origin"]: run for run in runs}
        assert set(origins) == {"schedule nightly", "schedule broken", "schedule blocked"}
        assert len(runs) == 3
        run_id = origins["schedule nightly"]["run_id"]
        assert lab.rows_of(4, lab.report_of(run_id))
        found = steps(lab, "nightly")
        assert found is not None
        assert {name: (step["file"], step["problem"]) for name, step in found.items()} == {
            "report csv": (f"{out}/nightly-{run_id}.csv", None),
            "report sarif": (f"{out}/nightly-{run_id}.sarif", None),
            "decisions": (f"{out}/nightly.decisions.json", None),
            "notice": (None, None),
        }
        assert "bad.zip" in (out / f"nightly-{run_id}.csv").read_text()
        decided = json.loads((out / "nightly.decisions.json").read_text())
        assert (decided["run_id"], decided["counts"]["block"]) == (run_id, 1)
        assert "new-malicious" in box.notice()["reasons"]
        assert box.notice()["run_id"] == run_id
    assert origins["schedule broken"]["state"] == "failed"
    assert steps(lab, "broken") == {}
    rows = {name: rest for name, *rest in query(lab, "SELECT name, missed, next_at, last_run FROM schedule")}
    assert set(rows) == {"nightly", "broken", "blocked", "off", "late"}
    assert rows["nightly"][0] == 4
    assert rows["nightly"][2] == run_id
    assert rows["off"][1] is None
    assert rows["late"] == [5, rows["nightly"][1], None]


async def test_what_an_older_engine_judged_is_rescanned_and_otherwise_there_is_nothing_to_do(
    lab: ServiceLab,
) -> None:
    skills(lab.inputs, 2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    again = {"again": {"rescan": "engine-older"}}
    async with lab.service(port=port) as service:
        settings = schedules(lab.settings(service), again)
        assert (await lab.scan(service, "in", "-o", lab.report)).code == 0
        await slept(lab, "again")
        async with lab.serving(settings) as serving:
            await until(lambda: query(lab, "SELECT last_due FROM schedule") != [(None,)])
            assert [run["origin"] for run in (await serving.get("/runs")).json["runs"]] == ["command line"]
    async with lab.service(port=port, engine_version=20260601) as service:
        (lab.inputs / "new.zip").write_bytes(skill("new"))
        assert (await lab.scan(service, "in", "-o", lab.path / "second.jsonl")).code == 0
        await slept(lab, "again")
        async with lab.serving(settings) as serving:
            await until(lambda: query(lab, "SELECT last_run FROM schedule") != [(None,)])
            ((run_id,),) = query(lab, "SELECT last_run FROM schedule")
            run = await serving.ended(run_id)
            rows = lab.rows_of(2, lab.report_of(run_id))
            assert (run["state"], {row["engine_version"] for row in rows}) == ("complete", {20260601})


async def test_a_schedule_runs_now_when_it_is_asked_for_and_never_twice_at_a_time(lab: ServiceLab) -> None:
    skills(lab.inputs, 2)
    async with lab.service() as service:
        audit = {"sources": ["in"], "enabled": False, "budget": 7, "priority": 33, "notify": False}
        tables: dict[str, dict[str, Any]] = {
            "audit": {**audit, "reports": ["csv"], "reports_dir": "out"},
            "again": {"rescan": "verdict=malicious"},
        }
        async with lab.serving(schedules(lab.settings(service), tables)) as serving:
            service.hold()
            key = {"Idempotency-Key": "now-1"}
            reply = await serving.post("/schedules/audit/runs", headers=key)
            assert reply.status == 202, reply.text
            run_id = reply.json["run_id"]
            assert reply.headers["Location"] == f"{API}/runs/{run_id}"
            assert (reply.json["origin"], reply.json["priority"]) == ("schedule audit", 33)
            # the same key is the same run; any other has to wait until that is over
            again = await serving.post("/schedules/audit/runs", headers=key)
            assert (again.status, again.json["run_id"]) == (202, run_id)
            assert again.headers["Idempotency-Replayed"] == "true"
            replies = [await serving.post("/schedules/audit/runs") for _ in range(2)]
            problems = [each.problem(409, "not-over") for each in replies]
            assert "run before of schedule audit is not over" in problems[0]["detail"]
            (await serving.post("/schedules/again/runs", headers=key)).problem(409, "key-reused")
            (await serving.post("/schedules/again/runs")).problem(409, "nothing-matched")
            (await serving.post("/schedules/nosuch/runs")).problem(404, "not-found")
            (await serving.post("/schedules/audit/runs", {"budget": 1})).problem(400, "bad-request")
            wrong = await serving.post("/schedules/audit/runs", headers={"Idempotency-Key": "a b"})
            wrong.problem(422, "invalid")
            service.release()
            assert (await serving.ended(run_id))["state"] == "complete"
            await until(lambda: steps(lab, "audit") is not None)
            assert (lab.path / "out" / f"audit-{run_id}.csv").is_file()
            later = await serving.post("/schedules/audit/runs", headers={"Idempotency-Key": "now-2"})
            assert (later.status, later.json["run_id"] != run_id) == (202, True)
            await serving.ended(later.json["run_id"])
    ((work,),) = query(lab, f"SELECT work FROM queue WHERE run_id = '{run_id}'")
    assert json.loads(work)["budget"] == 7
    # its due times are what they were
    ((due, last, skipped),) = query(
        lab, "SELECT last_due, last_run, skipped FROM schedule WHERE name = 'audit'"
    )
    assert (due, last, skipped) == (None, None, 0)
