"""Fixtures of the service's tests; what they are made of is in ``service_lab``."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))

from service_lab import ServiceLab


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceLab]:
    lab = ServiceLab(tmp_path, monkeypatch.setattr)
    yield lab
    lab.end()
