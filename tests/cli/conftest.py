"""Fixtures of the command line's tests; what they are made of is in ``cli_lab``."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cli_lab import Lab


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    lab = Lab(tmp_path, monkeypatch.setattr)
    yield lab
    lab.end()


@pytest.fixture
def open_lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A lab that other users can enter; pytest keeps its own directories to itself."""
    with TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        lab = Lab(Path(place), monkeypatch.setattr)
        yield lab
        lab.end()
