"""What a service tells those who watch it: metrics by schedule and run, alive, ready, and remembered."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from cli_lab import skill, skills
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from service_lab import ServiceLab, Serving

TOKEN = "a-token-of-the-monitoring-tests"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"


async def scraped(serving: Serving) -> dict[str, dict[str, float]]:
    """Values by name and by labels."""
    reply = await serving.ask("GET", "/metrics")
    assert reply.status == 200, reply.text
    assert reply.headers["Content-Type"].startswith("text/plain")
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(reply.text):
        for sample in family.samples:
            labels = " ".join(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def plant(ledger: Path) -> None:
    """A schedule that is due at 2000, and one that is switched off."""
    with closing(sqlite3.connect(ledger)) as connection, connection:
        columns = "name, rule, decided_until, next_at, missed, skipped"
        rows = [("nightly", "15 2 * * * UTC", 1000.0, 2000.0, 0, 0), ("off", "", 1000.0, None, 0, 0)]
        connection.executemany(f"INSERT INTO schedule ({columns}) VALUES (?, ?, ?, ?, ?, ?)", rows)


async def probe(serving: Serving, path: str) -> tuple[int, dict[str, Any]]:
    reply = await serving.ask("GET", path, headers={"Authorization": ""})
    checks: dict[str, Any] = reply.json["checks"]
    return reply.status, checks


async def test_a_service_tells_of_its_runs_and_remembers_them(lab: ServiceLab) -> None:
    async with lab.service() as endpoint:
        settings = lab.settings(endpoint, daily_budget=100)
        skills(lab.inputs, 2)
        (lab.inputs / "bad.zip").write_bytes(skill("evil"))
        async with lab.serving(settings) as serving:
            before = await scraped(serving)
            assert "batchscan_last_run_exit_code" not in before
            run = await serving.order({"sources": [str(lab.inputs)]})
            await serving.ended(run["run_id"])
            again = await serving.order({"sources": [str(lab.inputs)]})
            await serving.ended(again["run_id"])
            plant(lab.state / "ledger.sqlite3")
            found = await scraped(serving)
            opened = await serving.ask("GET", "/metrics", headers={"Accept": OPENMETRICS})
        async with lab.serving(settings) as serving:
            later = await scraped(serving)
    (scope,) = found["batchscan_billed_files_total"]
    files = found["batchscan_files_total"]
    assert (files[f"scanned {scope}"], files[f"reused {scope}"]) == (3, 3)
    assert found["batchscan_billed_files_total"][scope] == 3
    assert found["batchscan_newly_malicious_total"][scope] == 1
    assert found["batchscan_last_run_newly_malicious"][""] == 0  # the second run found nothing new
    assert found["batchscan_api_requests_total"][f"CreateSkillScan ok {scope}"] == 3
    assert found["batchscan_quota_left_files"][scope] == 100_000 - 3
    assert later["batchscan_daily_budget_left_files"][scope] == 97
    assert found["batchscan_last_run_exit_code"][""] == 0
    assert found["batchscan_next_run_timestamp_seconds"] == {"nightly": 2000}
    assert found["batchscan_runs"] == {"queued": 0, "running": 0}
    assert found["batchscan_readiness"] == {"ledger": 1, "config": 1, "accepting": 1}
    assert found["process_open_fds"][""] > 0
    assert list(parse_openmetrics(opened.text))  # type: ignore[no-untyped-call]
    assert opened.headers["Content-Type"].startswith("application/openmetrics-text")
    for name in ("batchscan_last_success_timestamp_seconds", "batchscan_last_run_end_timestamp_seconds"):
        assert 0 <= later[name][""] - found[name][""] < 50  # noted in the ledger a moment after
    assert later["batchscan_last_run_exit_code"][""] == 0
    assert later["batchscan_last_run_files"]["reused "] == 3
    assert "CreateSkillScan ok" not in str(later.get("batchscan_api_requests_total"))


async def test_the_probes_are_open_and_metrics_are_not(lab: ServiceLab) -> None:
    token = lab.path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    async with (
        lab.service() as endpoint,
        lab.serving(lab.settings(endpoint, {"token_file": str(token)}), token=TOKEN) as serving,
    ):
        status, checks = await probe(serving, "/healthz")
        assert (status, checks) == (200, {"dispatcher": "ok", "loop": "ok"})
        assert (await probe(serving, "/readyz"))[0] == 200
        refused = await serving.ask("GET", "/metrics", headers={"Authorization": ""})
        refused.problem(401, "unauthorized")
        assert (await serving.ask("GET", "/metrics")).status == 200


async def test_it_is_not_ready_while_the_settings_are_wrong_or_the_ledger_is_held(lab: ServiceLab) -> None:
    async with lab.service() as endpoint:
        settings = lab.settings(endpoint)
        good = settings.read_text()
        settings.write_text(good)
        async with lab.serving(settings) as serving:
            settings.write_text("rate = 'fast'\n" + good.replace("rate = 0\n", ""))
            holder = sqlite3.connect(lab.state / "ledger.sqlite3", isolation_level=None)
            holder.execute("BEGIN IMMEDIATE")
            status, checks = await probe(serving, "/readyz")
            assert (status, checks) == (503, {"accepting": "ok", "config": "failed", "ledger": "failed"})
            metrics = await scraped(serving)
            assert metrics["batchscan_readiness"] == {"accepting": 1, "config": 0, "ledger": 0}
            assert (await probe(serving, "/healthz"))[0] == 200
            holder.execute("ROLLBACK")
            holder.close()
