"""The files of configs/, read; and the tools that judge them, where they are installed."""

import os
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from batchscan.series import CATALOGUE, PREFIX, Kind

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
KUBERNETES = CONFIGS / "kubernetes"
RUNBOOKS = {
    *("nightly-audit-failed", "throttled", "quota-low", "backlog-old", "engine-upgraded"),
    *("key-rotation", "move-the-state-directory", "damaged-ledger", "newly-malicious", "service-down"),
}

REQUIRED = "TEST_TOOLS"
"""The variable that names the tools which must be there; .ci/run sets it to what it installed."""


def tool(name: str) -> str:
    """Find a program; without it the test is skipped, unless it is said to be there."""
    found = shutil.which(name)
    if found is None:
        assert name not in os.environ.get(REQUIRED, "").split(), f"{name} is said to be installed"
        pytest.skip(f"{name} is not installed; .ci/run tries to")
    return found


def documents(path: Path) -> list[dict[str, Any]]:
    """The documents of a YAML file."""
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


def named(kind: str) -> dict[str, Any]:
    """The one Kubernetes object of a kind."""
    (found,) = (
        document
        for path in sorted(KUBERNETES.glob("*.yaml"))
        for document in documents(path)
        if document["kind"] == kind
    )
    return found


def settings_texts() -> dict[str, str]:
    """The settings files that are written inside of others, by what they are for."""
    compose = documents(CONFIGS / "compose.yaml")[0]
    return {
        "kubernetes": named("ConfigMap")["data"]["batchscan.toml"],
        "compose": compose["configs"]["settings"]["content"],
    }


def settings() -> dict[str, dict[str, Any]]:
    return {name: tomllib.loads(text) for name, text in settings_texts().items()}


def metric_names() -> dict[str, set[str]]:
    """Every name that can be asked for, with its labels."""
    names: dict[str, set[str]] = {}
    for series in CATALOGUE:
        labels = {*series.labels, "schedule", "instance", "job"}
        names[series.name] = labels
        if series.kind is Kind.HISTOGRAM:
            names |= {f"{series.name}_{part}": {*labels, "le"} for part in ("bucket", "sum", "count")}
    return names


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Names of metrics in an expression, each with the labels that are matched."""
    for name, matchers in re.findall(rf"\b((?:{PREFIX}|kube_|up\b)\w*)(?:\{{([^}}]*)\}})?", expression):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
