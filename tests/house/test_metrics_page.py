"""docs/metrics.md shows the metrics that there are, and no other place names one that is none."""

import re

import readme

from batchscan.series import CATALOGUE, PREFIX, Kind

PAGE = (readme.ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")


def test_the_page_shows_every_metric_as_it_is() -> None:
    shown = [line for line in PAGE.splitlines() if line.startswith(f"| `{PREFIX}")]
    expected = [
        f"| `{s.name}` | {s.kind} | {', '.join(f'`{label}`' for label in s.labels) or '-'} | {s.help} |"
        for s in CATALOGUE
    ]
    assert shown == expected


def test_the_names_follow_the_conventions() -> None:
    names = [series.name for series in CATALOGUE]
    assert len(set(names)) == len(names)
    for series in CATALOGUE:
        assert re.fullmatch(r"batchscan_[a-z]+(_[a-z]+)*", series.name)
        assert series.name.endswith("_total") == (series.kind is Kind.COUNTER)
        assert series.help.endswith(".")
        assert not {"path", "sha256", "digest", "file"} & set(series.labels)
        if "timestamp" in series.name or "duration" in series.name or "latency" in series.name:
            assert series.name.endswith("_seconds")


def test_every_label_is_explained() -> None:
    explained = set(re.findall(r"^\| `([a-z]+)` \|", PAGE, re.MULTILINE))
    used = {label for series in CATALOGUE for label in series.labels}
    told_in_the_help = {"stage", "state", "check", "version", "python"}
    assert used - told_in_the_help == explained
