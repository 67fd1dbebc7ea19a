"""Rows of a real run, made once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from batchscan.models import Row
from batchscan.report.lines import read_rows

SAMPLES = Path(__file__).parents[1] / "samples"


@pytest.fixture(scope="session")
def sample_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the sample skills, by the real program."""
    place = tmp_path_factory.mktemp("samples")
    report = place / "samples.jsonl"
    subprocess.run(
        [sys.executable, "-m", "batchscan", "scan", SAMPLES, "-o", report, "--state-dir", place / "state"],
        check=True,
        capture_output=True,
        timeout=60,
        cwd=place,
        env=os.environ | {"HOME": str(place)},
    )
    return report


@pytest.fixture(scope="session")
def sample_rows(sample_report: Path) -> list[Row]:
    return list(read_rows(sample_report))
