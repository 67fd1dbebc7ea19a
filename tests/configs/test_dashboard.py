"""The dashboard: tied to no data source, asks only for what there is, and in PromQL that Prometheus takes."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from deployment_files import CONFIGS, metric_names, selectors, tool

from batchscan.series import CATALOGUE

TEXT = (CONFIGS / "grafana" / "batchscan.json").read_text(encoding="utf-8")
DASHBOARD: dict[str, Any] = json.loads(TEXT)
NOT_SHOWN = {
    "batchscan_build_info",  # chooses the instance
    "batchscan_newly_malicious_total",  # shown by run
    "batchscan_billed_files_total",  # shown by day
    "batchscan_engine_first_seen_timestamp_seconds",
    "batchscan_last_run_start_timestamp_seconds",  # an annotation
    "batchscan_last_run_end_timestamp_seconds",
    "batchscan_last_run_verdicts",
}


def expressions() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (annotation["expr"] for annotation in DASHBOARD["annotations"]["list"])


def data_sources(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if "uid" in value.get("datasource", ()) or isinstance(value.get("datasource"), str):
            source = value["datasource"]
            yield source if isinstance(source, str) else source["uid"]
        for inner in value.values():
            yield from data_sources(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from data_sources(inner)


def test_it_takes_whichever_prometheus_is_chosen() -> None:
    assert set(data_sources(DASHBOARD)) == {"${datasource}"}
    assert DASHBOARD["templating"]["list"][0]["type"] == "datasource"
    assert "id" not in DASHBOARD


def test_its_panels_have_names_and_places_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (column, line)
            for column in range(place["x"], place["x"] + place["w"])
            for line in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(column for column, _ in cells) < 24
        taken |= cells


def test_it_asks_for_metrics_and_labels_that_there_are_and_leaves_none_out() -> None:
    known = metric_names()
    used = {name for expression in expressions() for name, _ in selectors(expression)}
    assert used <= set(known)
    for expression in expressions():
        for name, labels in selectors(expression):
            assert labels <= known[name], expression
    shown = {name for series in CATALOGUE for name in (series.name,) if any(u.startswith(name) for u in used)}
    assert {series.name for series in CATALOGUE} - shown <= NOT_SHOWN


def test_prometheus_takes_every_expression(tmp_path: Path) -> None:
    plain = [
        e.replace("$__rate_interval", "5m").replace("$instance", ".*").replace("$scope", ".*")
        for e in expressions()
    ]
    assert not [expression for expression in plain if "$" in expression]
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(plain)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        [tool("promtool"), "check", "rules", str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(rules)} rules found" in done.stdout
