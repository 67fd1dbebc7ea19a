"""The alerts: promtool's own tests of each, a page for each, and no metric that there is not."""

import re
import subprocess
from typing import Any

import pytest
from deployment_files import CONFIGS, ROOT, RUNBOOKS, documents, metric_names, selectors, tool

PROMETHEUS = CONFIGS / "prometheus"
FOREIGN = {
    "up": {"job", "instance"},
    "kube_cronjob_status_last_successful_time": {"namespace", "cronjob"},  # of kube-state-metrics
}
RULES: list[dict[str, Any]] = [
    rule for group in documents(PROMETHEUS / "alerts.yml")[0]["groups"] for rule in group["rules"]
]


def test_promtool_sees_each_alert_fire_and_stay_silent() -> None:
    done = subprocess.run(
        [tool("promtool"), "test", "rules", "alerts_test.yml"],
        cwd=PROMETHEUS,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    checks = [c for t in documents(PROMETHEUS / "alerts_test.yml")[0]["tests"] for c in t["alert_rule_test"]]
    for fires in (True, False):
        seen = {check["alertname"] for check in checks if bool(check["exp_alerts"]) == fires}
        assert {rule["alert"] for rule in RULES} == seen


def test_promtool_takes_the_configuration() -> None:
    done = subprocess.run(
        [tool("promtool"), "check", "config", "--syntax-only", "prometheus.yml"],
        cwd=PROMETHEUS,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_says_what_it_is_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    annotations = rule["annotations"]
    assert set(annotations) == {"summary", "description", "runbook"}
    page = re.fullmatch(r"docs/runbooks/([a-z-]+)\.md", annotations["runbook"])
    assert page is not None
    assert page[1] in RUNBOOKS
    if (ROOT / "docs" / "runbooks").is_dir():
        assert (ROOT / annotations["runbook"]).is_file()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_asks_for_metrics_and_labels_that_there_are(rule: dict[str, Any]) -> None:
    known = metric_names() | FOREIGN
    used = list(selectors(rule["expr"]))
    assert used
    for name, labels in used:
        assert name in known
        assert labels <= known[name]
    shown = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    assert shown <= set.union(*(known[name] for name, _ in used))


def test_what_the_issue_asks_for_has_an_alert() -> None:
    pages = {rule["annotations"]["runbook"].rpartition("/")[2].removesuffix(".md") for rule in RULES}
    assert pages == RUNBOOKS - {"move-the-state-directory"}  # a job, not an alarm
