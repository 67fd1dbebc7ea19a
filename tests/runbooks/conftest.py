"""Fixtures of the runbooks' tests; what they are made of is in ``runbook_lab``."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))

from runbook_lab import RunbookLab


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunbookLab]:
    lab = RunbookLab(tmp_path, monkeypatch.setattr)
    yield lab
    lab.end()
