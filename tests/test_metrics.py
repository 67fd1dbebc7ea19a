"""Metrics: plain numbers become samples that Prometheus' own parsers take, and none is counted twice."""

import asyncio
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from structlog.testing import capture_logs

from batchscan.api.reactions import TABLE, known_code
from batchscan.ledger.store import open_ledger
from batchscan.metrics import Metrics, render
from batchscan.models import Outcome, RiskLevel
from batchscan.series import CATALOGUE
from batchscan.stats import Histogram, Meter, Stats

SCOPE = "default@embedded"
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def filled() -> Metrics:
    """Every series has a value."""
    metrics = Metrics(clock=lambda: 1000.0)
    meter = metrics.meter(SCOPE, daily_budget=100)
    meter.answered("CreateSkillScan", "ok", 0.2)
    meter.waited("CreateSkillScan", 1.5)
    meter.judged(330.0, 2, 7)
    meter.quota_left = 5
    stats = Stats(meter=meter)
    stats.outcomes[Outcome.REUSED] = 3
    metrics.last_run("nightly").began(900.0)
    metrics.last_run("nightly").ended(1000.0, 0, stats, complete=True)
    metrics.next_runs["nightly"] = 2000.0
    metrics.runs["queued"] = 1
    metrics.ready["ledger"] = True
    return metrics


def values(metrics: Metrics) -> dict[tuple[str, str], float]:
    """Each sample by its name and its label values, in the order of the labels' names."""
    text = render(metrics.registry)[0].decode()
    return {
        (sample.name, ",".join(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in parse_text(text)
        for sample in family.samples
    }


async def test_every_series_can_be_scraped_in_both_formats(tmp_path: Path) -> None:
    metrics = filled()
    async with open_ledger(tmp_path / "ledger.sqlite3", SCOPE):
        await metrics.look(tmp_path / "ledger.sqlite3")
    plain, plain_type = render(metrics.registry)
    opened, open_type = render(metrics.registry, OPENMETRICS)
    assert plain_type.startswith("text/plain")
    assert open_type.startswith("application/openmetrics-text; version=1.0.0")
    names = {series.name.removesuffix("_total") for series in CATALOGUE}
    without = {"batchscan_oldest_pending_timestamp_seconds", "batchscan_engine_first_seen_timestamp_seconds"}
    assert {f.name.removesuffix("_total") for f in parse_text(plain.decode())} == names - without
    families = parse_openmetrics(opened.decode())  # type: ignore[no-untyped-call]
    assert {family.name for family in families} == names - without


def test_the_global_registry_stays_empty_of_ours() -> None:
    filled()
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("batchscan")]


def test_a_histogram_counts_up_to_and_including_each_bound() -> None:
    histogram = Histogram((1, 5))
    for value in (0.5, 1, 2, 5, 9):
        histogram.add(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.total == 17.5
    metrics = Metrics()
    metrics.meter(SCOPE).judged(330.0, 2, 1)
    found = values(metrics)
    assert found["batchscan_verdict_latency_seconds_bucket", f"300.0,{SCOPE}"] == 0
    assert found["batchscan_verdict_latency_seconds_bucket", f"330.0,{SCOPE}"] == 1
    assert found["batchscan_verdict_latency_seconds_bucket", f"+Inf,{SCOPE}"] == 1


def test_rows_of_a_resumed_report_are_counted_by_whoever_wrote_them() -> None:
    meter = Meter()
    stats = Stats(meter=meter)
    stats.resume({"CreateSkillScan": 5})
    stats.outcomes[Outcome.SCANNED] = 500  # of the process before
    with meter.following(stats):
        stats.outcomes[Outcome.SCANNED] += 2
        stats.verdicts[RiskLevel.BENIGN] += 2
        stats.retries += 1
        assert meter.rows().outcomes[Outcome.SCANNED] == 2
    stats.resume({})
    with meter.following(stats):
        stats.outcomes[Outcome.SCANNED] += 3
        assert meter.rows().outcomes[Outcome.SCANNED] == 5
    rows = meter.rows()
    assert (rows.outcomes[Outcome.SCANNED], rows.verdicts[RiskLevel.BENIGN], rows.retries) == (5, 2, 1)


def test_a_run_that_could_not_begin_hides_neither_success_nor_findings() -> None:
    metrics = Metrics()
    run = metrics.last_run("nightly")
    stats = Stats(newly_malicious=2)
    stats.outcomes[Outcome.SCANNED] = 9
    run.began(100.0)
    run.ended(200.0, 0, stats, complete=True)
    run.began(300.0)
    assert values(metrics)["batchscan_last_run_exit_code", "nightly"] == 0  # until the next one has ended
    run.ended(301.0, 4, Stats(), complete=False)
    found = values(metrics)
    assert found["batchscan_last_run_exit_code", "nightly"] == 4
    assert found["batchscan_last_success_timestamp_seconds", "nightly"] == 200
    assert found["batchscan_last_run_end_timestamp_seconds", "nightly"] == 301
    assert found["batchscan_last_run_newly_malicious", "nightly"] == 2
    assert found["batchscan_last_run_files", "scanned,nightly"] == 9


def test_codes_are_bounded() -> None:
    assert known_code("InternalError.Whatever-4711") == "InternalError"
    assert known_code("AuthFailure.SignatureExpire") == "AuthFailure.SignatureExpire"
    assert known_code("http-503") == "other"
    assert known_code("/etc/passwd") == "other"
    assert all(known_code(entry.code) == entry.code for entry in TABLE)


async def test_the_ledger_is_looked_at_once_in_a_while(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    metrics = Metrics(clock=lambda: 1000.0)
    with capture_logs() as logged:
        await metrics.look(path)
        assert not values(metrics).get(("batchscan_engines", SCOPE))
        async with open_ledger(path, SCOPE):
            await asyncio.gather(*(metrics.look(path) for _ in range(5)))  # it is resting
            assert ("batchscan_engines", SCOPE) not in values(metrics)
            await metrics.look(path, at_once=True)
    assert [entry["event"] for entry in logged] == ["no metrics of the ledger"]
    found = values(metrics)
    assert found["batchscan_engines", SCOPE] == 0
    assert found["batchscan_in_progress", f"{SCOPE},scanning"] == 0


@pytest.mark.parametrize("process", [True, False])
def test_only_a_service_tells_of_its_process(process: bool) -> None:
    names = {name for name, _ in values(Metrics(process=process))}
    assert ("process_resident_memory_bytes" in names) == process


def test_a_stamp_marks_everything_and_nothing_twice() -> None:
    metrics = Metrics(stamp="nightly")
    metrics.meter(SCOPE).judged(1.0, 1, 1)
    metrics.last_run("nightly").began(1.0)
    for family in metrics.registry.collect():
        assert {sample.labels["schedule"] for sample in family.samples} == {"nightly"}
