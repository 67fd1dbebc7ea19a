"""Fixtures of the command line's tests; what they are made of is in ``cli_lab``."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_lab import Lab


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    lab = Lab(tmp_path, monkeypatch.setattr)
    yield lab
    lab.end()
