"""The sample skills: their ZIPs are their sources, and each gets the verdict that it was written for."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from batchscan.embedded.detector import open_detector

SAMPLES = Path(__file__).parents[1] / "samples"
MEMORY = 512 * 1024 * 1024


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("samples_build", SAMPLES / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_zips_are_what_their_sources_build(build: ModuleType) -> None:
    assert build.differences() == []


def test_a_difference_is_seen(build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for kind in build.KINDS:
        (tmp_path / "sources" / kind / "one").mkdir(parents=True)
        (tmp_path / "sources" / kind / "one" / "SKILL.md").write_text("# one")
        (tmp_path / kind).mkdir()
    monkeypatch.setattr(build, "HERE", tmp_path)
    monkeypatch.setattr("sys.argv", ["build.py"])
    assert build.main() == 0
    assert build.differences() == []
    (tmp_path / "sources/benign/one/SKILL.md").write_text("# two")
    (tmp_path / "malicious/one.zip").rename(tmp_path / "malicious/other.zip")
    assert build.differences() == [
        "benign/one: the ZIP is not what its source builds",
        "malicious/one: only one of source and ZIP",
        "malicious/other: only one of source and ZIP",
    ]


def test_the_archives_are_deterministic(build: ModuleType) -> None:
    source = SAMPLES / "sources" / "benign" / "api-style-guide"
    assert build.build(source) == build.build(source)
    names = [entry[0] for entry in build.entries(build.build(source))]
    assert names == sorted(names, key=str.encode)
    assert len(names) == 5


async def test_every_sample_gets_its_verdict() -> None:
    found = {}
    async with open_detector(workers=1, time_limit_s=30, memory_limit_bytes=MEMORY) as opened:
        for archive in sorted(SAMPLES.glob("*/*.zip")):
            detection = await opened.detect(archive.read_bytes())
            found[f"{archive.parent.name}/{archive.stem}"] = (detection.risk_level, detection.primary_rule_id)
    assert {name for name, (level, _) in found.items() if level != name.partition("/")[0]} == set()
    assert {
        name.partition("/")[2]: rule for name, (level, rule) in found.items() if level == "malicious"
    } == {
        "auto-run-hook": "90006",
        "credential-exfiltration": "90003",
        "curl-to-shell": "90006",
        "hidden-unicode-tags": "90005",
        "hidden-unicode-zero-width": "90005",
        "install-hook": "90006",
        "obfuscated-payload": "90007",
        "prompt-injection": "90005",
        "trojan-source": "90007",
    }
    assert sum(level == "benign" for level, _ in found.values()) >= 6
