"""The optional second engine: refused with advice when it is not installed, used for real when it is."""

import importlib.util
from pathlib import Path

import pytest

from batchscan.embedded.detector import engine_version, open_detector
from batchscan.errors import UsageError

SAMPLES = Path(__file__).parents[1] / "samples"
MEMORY = 2 * 1024 * 1024 * 1024
INSTALLED = importlib.util.find_spec("skill_scanner") is not None


@pytest.mark.skipif(INSTALLED, reason="batchscan[deep] is installed")
async def test_not_installed_says_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"pip install 'batchscan\[deep\]'"):
        engine_version("deep")
    with pytest.raises(UsageError, match=r"pip install 'batchscan\[deep\]'"):
        async with open_detector("deep", workers=1, time_limit_s=60, memory_limit_bytes=MEMORY):
            pass


@pytest.mark.skipif(not INSTALLED, reason="batchscan[deep] is not installed")
async def test_every_sample_gets_its_verdict() -> None:
    assert engine_version("deep") > engine_version("skilltotal")
    wrong = []
    async with open_detector("deep", workers=1, time_limit_s=60, memory_limit_bytes=MEMORY) as opened:
        for archive in sorted(SAMPLES.glob("*/*.zip")):
            detection = await opened.detect(archive.read_bytes())
            if detection.risk_level != archive.parent.name:
                wrong.append((archive.stem, detection.hits))
    assert wrong == []
