"""Fixtures of the embedded endpoint's tests; what they are made of is in ``engine_lab``."""

from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
from engine_lab import Lab, make_zip

from batchscan.embedded import judge, server


@pytest.fixture(autouse=True)
def plain_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log as an unconfigured program, whatever ran in this process before: loggers keep what they met."""
    structlog.reset_defaults()
    for module in (judge, server):
        monkeypatch.setattr(module, "_log", structlog.get_logger("batchscan.embedded"))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture
def zipped() -> Callable[[str], bytes]:
    return make_zip
