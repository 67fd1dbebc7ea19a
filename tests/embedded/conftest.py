"""Fixtures of the embedded endpoint's tests; what they are made of is in ``engine_lab``."""

from collections.abc import Callable
from pathlib import Path

import pytest
from engine_lab import Lab, make_zip


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture
def zipped() -> Callable[[str], bytes]:
    return make_zip
