"""The four states, their exact keys, idempotency, retention and billing, over a real socket and file."""

import asyncio
import hashlib
import re
import sqlite3
import uuid
from collections import Counter
from typing import Any

import aiohttp
import pytest
from engine_lab import Lab, Reply, StubDetector, Zipped, eventually, judged

from batchscan.embedded.detection import DetectionError
from batchscan.embedded.errors import EngineError, StoreError
from batchscan.embedded.server import serve

SUCCESS_KEYS = {
    "SkillName", "SkillDescription", "ContentHash", "UploadFileCount", "RiskLevel", "PrimaryRuleID",
    "Mitigation", "RiskDescription", "SecurityScore", "EngineVersion", "CapabilityTags", "RuleCatalog",
    "ScanItems", "ReportURL", "ScannedAt",
}  # fmt: skip


async def test_create_answers_in_the_vendors_form(lab: Lab, zipped: Zipped) -> None:
    async with lab.engine() as (_, caller):
        reply = await caller.create(zipped("x"))
    assert reply.status == 200
    assert reply.headers.getall("Content-Type") == ["application/json"]
    assert "Date" in reply.headers
    assert set(reply.response) == {"ContentHash", "EngineVersion", "Status", "Message", "RequestId"}
    assert reply.response["ContentHash"] == "sha256:" + hashlib.sha256(zipped("x")).hexdigest()
    assert (reply.response["EngineVersion"], reply.response["Status"]) == (20260501, "SCANNING")
    uuid.UUID(reply.response["RequestId"])


async def test_success_has_exactly_the_documented_keys_and_the_detectors_judgement(
    lab: Lab, zipped: Zipped
) -> None:
    async with lab.engine() as (_, caller):
        reply = await caller.settled(await caller.create(zipped("x")))
    assert set(reply.response) == {"Status", "Data", "RequestId"}
    data = reply.response["Data"]
    assert reply.response["Status"] == "SUCCESS"
    assert set(data) == SUCCESS_KEYS
    assert (data["RiskLevel"], data["SecurityScore"], data["UploadFileCount"]) == ("malicious", 7, 3)
    assert data["CapabilityTags"] == [{"ID": "file_read", "Name": "Reads files"}]
    assert [rule["RuleID"] for rule in data["RuleCatalog"]] == [f"9000{n}" for n in range(1, 9)]
    assert data["ScanItems"] == [
        {"ScanType": "AI", "RuleList": []},
        {
            "ScanType": "STATIC",
            "RuleList": [
                {"RuleID": "90002", "Description": "runs a shell command"},
                {"RuleID": "90004", "Description": "reads a key file"},
            ],
        },
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", data["ScannedAt"])


async def test_the_report_link_is_signed_and_expires(lab: Lab, zipped: Zipped) -> None:
    now = [1_780_000_000.0]
    async with lab.engine(clock=lambda: now[0]) as (engine, caller):
        created = await caller.create(zipped("x"), timestamp=now[0])
        fields = {key: created.response[key] for key in ("ContentHash", "EngineVersion")}
        await judged(engine, 1)
        reply = await caller.call(
            "DescribeSkillScanResult", fields | {"ReportURLExpireHours": 1}, timestamp=now[0]
        )
        link = reply.response["Data"]["ReportURL"]
        assert link.startswith(f"{caller.url}/-/report/")
        path = link.removeprefix(caller.url)
        assert "sign=" in path
        assert (await caller.raw("GET", path)).status == 200
        assert (await caller.raw("GET", path[:-1] + ("0" if path[-1] != "0" else "1"))).status == 404
        assert (await caller.raw("GET", path.replace("engine=2", "engine=3"))).status == 404
        now[0] += 3600
        assert (await caller.raw("GET", path)).status == 404


async def test_scanning_failed_and_not_found_have_their_own_keys(lab: Lab, zipped: Zipped) -> None:
    lab.detector.gate.clear()
    lab.detector.verdict = DetectionError("out of time")
    async with lab.engine() as (_, caller):
        created = await caller.create(zipped("x"))
        running = await caller.result(created)
        assert running.response["Status"] == "SCANNING"
        assert set(running.response["Data"]) == {"ContentHash", "CreatedAt"}
        lab.detector.gate.set()
        failed = await caller.settled(created)
        assert failed.response["Status"] == "FAILED"
        assert set(failed.response["Data"]) == {"ContentHash", "FailedAt", "Message"}
        assert "out of time" in failed.response["Data"]["Message"]
        other = {"ContentHash": created.response["ContentHash"], "EngineVersion": 1}
        absent = await caller.call("DescribeSkillScanResult", other)
        assert absent.response["Status"] == "NOT_FOUND"
        assert set(absent.response["Data"]) == {"ContentHash"}


@pytest.mark.parametrize(
    "verdict", [RuntimeError("boom"), MemoryError(), TimeoutError(), asyncio.CancelledError(), "nonsense"]
)
async def test_whatever_a_detector_does_the_scan_ends_failed_and_the_worker_lives(
    lab: Lab, zipped: Zipped, verdict: Any
) -> None:
    good = lab.detector.verdict
    lab.detector.verdict = verdict
    lab.detector.concurrency = 1
    async with lab.engine() as (engine, caller):
        failed = await caller.settled(await caller.create(zipped("bad")))
        assert failed.response["Status"] == "FAILED"
        assert "boom" not in failed.response["Data"]["Message"]
        lab.detector.verdict = good
        assert (await caller.settled(await caller.create(zipped("good")))).response["Status"] == "SUCCESS"
        assert (await engine.stats())["billed_units"] == 3


async def test_a_detector_without_an_end_is_cut_off(lab: Lab, zipped: Zipped) -> None:
    lab.detector.gate.clear()
    async with lab.engine(judge_timeout_s=0.05) as (_, caller):
        failed = await caller.settled(await caller.create(zipped("x")))
    assert failed.response["Status"] == "FAILED"


async def test_a_repeat_makes_no_second_task_and_is_billed_once(lab: Lab, zipped: Zipped) -> None:
    lab.detector.gate.clear()
    async with lab.engine() as (engine, caller):
        first = await caller.create(zipped("x"))
        second = await caller.create(zipped("x"))
        assert second.response["ContentHash"] == first.response["ContentHash"]
        lab.detector.gate.set()
        await caller.settled(first)
        third = await caller.create(zipped("x"))
        assert third.response["Status"] == "SCANNING"
        assert (await caller.result(third)).response["Status"] == "SUCCESS"
        assert len(lab.detector.seen) == 1
        stats = await engine.stats()
    assert stats["billed_units"] == 3
    assert stats["creates"] == {"accepted": 3, "hashes": 1, "hashes_created_again": 1}


async def test_a_repeat_after_failed_starts_again(lab: Lab, zipped: Zipped) -> None:
    good, lab.detector.verdict = lab.detector.verdict, DetectionError("no")
    async with lab.engine() as (_, caller):
        assert (await caller.settled(await caller.create(zipped("x")))).response["Status"] == "FAILED"
        lab.detector.verdict = good
        assert (await caller.settled(await caller.create(zipped("x")))).response["Status"] == "SUCCESS"


async def test_a_new_engine_version_is_a_new_task(lab: Lab, zipped: Zipped) -> None:
    async with lab.engine() as (_, caller):
        old = await caller.create(zipped("x"))
        await caller.settled(old)
    async with lab.engine(engine_version=20260601) as (engine, caller):
        await caller.settled(await caller.create(zipped("x")))
        assert (await caller.result(old)).response["Status"] == "SUCCESS"
        assert (await engine.stats())["billed_units"] == 6


async def test_results_are_kept_for_the_retention_and_then_scanned_again(lab: Lab, zipped: Zipped) -> None:
    now = [1_780_000_000.0]
    async with lab.engine(clock=lambda: now[0], retention_s=90 * 86_400) as (engine, caller):
        created = await caller.create(zipped("x"), timestamp=now[0])
        await judged(engine, 1)
        now[0] += 90 * 86_400 - 1
        assert (await caller.result(created, timestamp=now[0])).response["Status"] == "SUCCESS"
        now[0] += 1
        assert (await caller.result(created, timestamp=now[0])).response["Status"] == "NOT_FOUND"
        lab.detector.gate.clear()
        await caller.create(zipped("x"), timestamp=now[0])
        assert (await caller.result(created, timestamp=now[0])).response["Status"] == "SCANNING"
        assert (await engine.stats())["billed_units"] == 3


async def test_quota_refuses_new_files_but_not_known_ones(lab: Lab, zipped: Zipped) -> None:
    async with lab.engine(total_quota=3) as (engine, caller):
        created = await caller.create(zipped("x"))
        await caller.settled(created)
        assert (await caller.create(zipped("y"))).code == "LimitExceeded"
        assert (await caller.create(zipped("x"))).code is None
        pay = await caller.call("DescribeSkillScanPayInfo")
        assert (pay.response["TotalQuota"], pay.response["UsedCount"]) == (3, 3)
        assert (await engine.stats())["creates"]["accepted"] == 2


async def test_failed_scans_are_not_billed(lab: Lab, zipped: Zipped) -> None:
    lab.detector.verdict = DetectionError("no")
    async with lab.engine() as (engine, caller):
        await caller.settled(await caller.create(zipped("x")))
        assert (await engine.stats())["billed_units"] == 0


async def test_as_many_at_a_time_as_the_detector_says_and_the_bytes_are_exact(
    lab: Lab, zipped: Zipped
) -> None:
    lab.detector.gate.clear()
    async with lab.engine() as (_, caller):
        created = [await caller.create(zipped(str(n))) for n in range(6)]
        await eventually(lambda: lab.detector.running == 2)
        lab.detector.gate.set()
        for reply in created:
            await caller.settled(reply)
    assert lab.detector.most_running == 2
    assert Counter(lab.detector.seen) == Counter(zipped(str(n)) for n in range(6))


async def test_a_stopped_engine_takes_up_its_scans_and_keeps_no_bytes_of_judged_ones(
    lab: Lab, zipped: Zipped
) -> None:
    lab.detector.gate.clear()
    async with lab.engine() as (_, caller):
        created = [await caller.create(zipped(str(n))) for n in range(5)]
    lab.detector.gate.set()
    async with lab.engine() as (_, caller):
        for reply in created:
            assert (await caller.settled(reply)).response["Status"] == "SUCCESS"
    with sqlite3.connect(lab.store_path) as db:
        assert db.execute("SELECT count(*) FROM content").fetchone() == (0,)
    db.close()
    assert lab.store_path.stat().st_mode & 0o777 == 0o600


async def test_two_engines_share_a_store(lab: Lab, zipped: Zipped) -> None:
    async with lab.engine() as (_, first), lab.engine() as (_, second):
        created = [await first.create(zipped(str(n))) for n in range(10)]
        for reply in created:
            assert (await second.settled(reply)).response["Status"] == "SUCCESS"
        pay = await second.call("DescribeSkillScanPayInfo")
    assert pay.response["UsedCount"] == 30
    assert len(lab.detector.seen) == 10


async def test_a_stopped_engine_leaves_its_scans_to_the_others(lab: Lab, zipped: Zipped) -> None:
    stuck = StubDetector()
    stuck.gate.clear()
    async with lab.engine() as (_, caller):
        async with aiohttp.ClientSession() as session, serve(lab.settings(), stuck) as other:
            created = await lab.caller(session, other.url).create(zipped("x"))
            await eventually(lambda: stuck.running == 1 or len(lab.detector.seen) == 1)
        await caller.create(zipped("this one wakes the judge"))
        assert (await caller.settled(created)).response["Status"] == "SUCCESS"


async def test_a_store_that_breaks_is_an_internal_error_and_no_silence(lab: Lab, zipped: Zipped) -> None:
    async with lab.engine(stats=True) as (engine, caller):
        await caller.settled(await caller.create(zipped("x")))
        db = sqlite3.connect(lab.store_path, isolation_level=None)
        db.execute("ALTER TABLE scan RENAME TO lost")
        refused = await caller.create(zipped("y"))
        assert (refused.status, refused.code) == (200, "InternalError")
        assert "scan" not in refused.response["Error"]["Message"]
        assert (await caller.raw("GET", "/-/stats")).status == 500
        with pytest.raises(StoreError, match="no such table"):
            await engine.stats()
        db.execute("ALTER TABLE lost RENAME TO scan")
        db.close()
        assert (await caller.settled(await caller.create(zipped("y")))).response["Status"] == "SUCCESS"


async def test_a_damaged_store_is_refused_with_what_to_do(lab: Lab) -> None:
    lab.store_path.parent.mkdir()
    lab.store_path.write_bytes(b"this is no database, " * 100)
    with pytest.raises(StoreError, match="move the file away"):
        async with lab.engine():
            pass


async def test_a_newer_store_is_refused(lab: Lab) -> None:
    async with lab.engine():
        pass
    db = sqlite3.connect(lab.store_path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="version 99"):
        async with lab.engine():
            pass


async def test_a_taken_port_is_refused(lab: Lab) -> None:
    async with lab.engine() as (engine, _):
        port = int(engine.url.rpartition(":")[2])
        with pytest.raises(EngineError, match=f"port {port}"):
            async with lab.engine(port=port):
                pass


async def test_sites_differ_in_actions_fields_and_time_zone(lab: Lab, zipped: Zipped) -> None:
    async with lab.engine(site="intl") as (_, caller):
        done = await caller.settled(await caller.create(zipped("x")))
        assert done.response["Data"]["ScannedAt"].endswith("Z")
        assert (await caller.call("DescribeSkillScanTaskList")).code == "InvalidAction"
        pay = await caller.call("DescribeSkillScanPayInfo")
        assert not [key for key in pay.response if key.startswith("PostPay")]
        assert pay.response["BetaEndTime"] == "2026-06-30 23:59:59"
    async with lab.engine(site="china") as (_, caller):
        done = await caller.result(done_request := await caller.create(zipped("x")))
        assert done_request.code is None
        assert done.response["Data"]["ScannedAt"].endswith("+08:00")
        pay = await caller.call("DescribeSkillScanPayInfo")
        assert pay.response["PostPayStatus"] == 0
        listed = await caller.call("DescribeSkillScanTaskList")
        assert listed.response["TotalCount"] == 1
        task = listed.response["TaskList"][0]
        assert (task["SkillName"], task["DeductCount"]) == ("demo", 3)
        assert task["InsertTime"].endswith("+08:00")


async def test_task_list_pages_and_filters(lab: Lab, zipped: Zipped) -> None:
    now = [1_780_000_000.0]  # 2026-05-29 04:26:40 at UTC+8
    async with lab.engine(clock=lambda: now[0]) as (engine, caller):
        for n in range(3):
            await caller.create(zipped(str(n)), timestamp=now[0])
            await judged(engine, n + 1)
            now[0] += 60

        async def listed(**fields: Any) -> Reply:
            return await caller.call("DescribeSkillScanTaskList", fields, timestamp=now[0])

        page = (await listed(Limit=2, Order="ASC", Offset=1)).response
        assert page["TotalCount"] == 3
        assert [task["InsertTime"] for task in page["TaskList"]] == [
            "2026-05-28T20:27:40Z",
            "2026-05-28T20:28:40Z",
        ]
        window = (await listed(StartTime="2026-05-29 04:27:00", EndTime="2026-05-29 04:28:00")).response
        assert window["TotalCount"] == 1
        assert (await listed(Limit=201)).code == "InvalidParameterValue"
        assert (await listed(EndTime="2026-05-29 04:28:00")).code == "InvalidParameterCombination"
        assert (await listed(StartTime="yesterday")).code == "InvalidParameterValue"
        assert (await listed(Order="UP")).code == "InvalidParameterValue"
