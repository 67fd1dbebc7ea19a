"""What the measured figures add up to at other sizes: the numbers of docs/scaling.md."""

import math
from collections.abc import Mapping

from figures import Finding, shown

RATE = 20 * 0.99
"""Submissions a second of one account on the international site, with pacing's margin."""

_DAY_S = 86_400


class _Medians:
    """Medians by benchmark, case and metric; NaN where a figure was not measured."""

    def __init__(self, findings: Mapping[str, Finding]) -> None:
        self._found = {
            (name, one.case, one.metric): one.median
            for name, finding in findings.items()
            for one in finding.series
        }

    def of(self, bench: str, case: str, metric: str) -> float:
        return self._found.get((bench, case, metric), math.nan)

    def cold(self, metric: str) -> float:
        """At 100,000 files where that was measured, else at 10,000."""
        large = self.of("cold", "100,000 files: batchscan", metric)
        return self.of("cold", "10,000 files: batchscan", metric) if math.isnan(large) else large

    def night_us(self) -> float:
        """Wall microseconds that one more file takes, between 100,000 and 1,000,000."""
        large, small = (
            self.of("night", f"{count} files: batchscan", "wall s") for count in ("1,000,000", "100,000")
        )
        return (large - small) / 0.9


def slopes(findings: Mapping[str, Finding]) -> dict[str, str]:
    """Placeholders of the scaling template, by name; a figure that was not measured says so."""
    medians = _Medians(findings)
    cpu_ms, rate = medians.cold("CPU ms per file"), medians.cold("files/s")
    ledger, report = medians.cold("ledger bytes per file"), medians.cold("report bytes per file")
    run_ms = medians.of("submit", "7 MB: batchscan, whole run", "CPU ms")
    night_us, find_us = medians.night_us(), medians.of("night", "1,000,000 files: find", "us per file")
    polls = medians.of("poll", "model, first poll 300 s, then every 60 s", "polls per verdict")
    found = {
        "rate": RATE,
        "files_a_day_m": RATE * _DAY_S / 1e6,
        "days_10m": 1e7 / RATE / _DAY_S,
        "cold_cpu_ms": cpu_ms,
        "cold_rate": rate,
        "accounts_per_core": 1000 / cpu_ms / RATE,
        "accounts_by_rate": rate / RATE,
        "cap_core_share_percent": RATE * cpu_ms / 10,
        "run_ms_7mb": run_ms,
        "cap_core_share_7mb_percent": RATE * run_ms / 10,
        "ledger_bytes": ledger,
        "ledger_gb_10m": ledger / 100,
        "report_bytes": report,
        "report_gb_10m": report / 100,
        "night_us": night_us,
        "night_min_10m": night_us * 10 / 60,
        "find_us": find_us,
        "find_min_10m": find_us * 10 / 60,
        "night_rss_100k": medians.of("night", "100,000 files: batchscan", "RSS MB"),
        "night_rss_1m": medians.of("night", "1,000,000 files: batchscan", "RSS MB"),
        "polls": polls,
        "polls_per_s": polls * RATE,
    }
    return {name: "(not measured)" if math.isnan(value) else shown(value) for name, value in found.items()}
