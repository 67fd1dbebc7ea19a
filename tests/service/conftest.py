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


@pytest.fixture(scope="module")
def shared_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceLab]:
    """For a service that all tests of a module ask."""
    with pytest.MonkeyPatch.context() as patch:
        lab = ServiceLab(tmp_path_factory.mktemp("lab"), patch.setattr)
        yield lab
        lab.end()
