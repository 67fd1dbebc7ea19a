"""The systemd units: understood by systemd itself, and shut to what they do not need."""

import ctypes.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from deployment_files import CONFIGS, ROOT, tool

UNITS = CONFIGS / "systemd"
SERVICES = ("batchscan.service", "batchscan-nightly.service")
SYSTEM_UNITS = Path("/lib/systemd/system")
GUIDE = ROOT / "docs" / "operations.md"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The root of a machine where everything is installed."""
    etc = tmp_path / "etc" / "systemd" / "system"
    etc.mkdir(parents=True)
    for unit in (*UNITS.glob("*.service"), *UNITS.glob("*.timer")):
        shutil.copy(unit, etc)
    program = tmp_path / "opt" / "batchscan" / "bin" / "batchscan"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return tmp_path


def analyzed(machine: Path, *args: str) -> str:
    done = subprocess.run(
        [tool("systemd-analyze"), f"--root={machine}", *args],
        cwd=machine / "etc" / "systemd" / "system",
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    return done.stdout + done.stderr


def test_systemd_understands_every_line(machine: Path) -> None:
    tool("systemd-analyze")
    shutil.copytree(SYSTEM_UNITS, machine / SYSTEM_UNITS.relative_to("/"), symlinks=True)
    units = sorted(path.name for path in (machine / "etc" / "systemd" / "system").iterdir())
    assert units == sorted([*SERVICES, "batchscan-nightly.timer"])
    assert analyzed(machine, "verify", "--man=no", *units) == ""


@pytest.mark.parametrize("unit", SERVICES)
def test_the_exposure_is_what_the_guide_says(machine: Path, unit: str) -> None:
    told = analyzed(machine, "security", "--offline=true", unit)
    score = re.findall(rf"Overall exposure level for {re.escape(unit)}: (\S+)", told)
    (documented,) = re.findall(rf"^\| `{re.escape(unit)}` \| (\S+) \|", GUIDE.read_text(), re.MULTILINE)
    assert score == [documented]
    assert float(documented) < 1.5


@pytest.mark.parametrize("unit", SERVICES)
def test_what_shuts_a_unit_is_the_same_in_each_and_nobody_is_root(unit: str) -> None:
    texts = [
        (UNITS / name).read_text().partition("\nUser=")[2].partition("\n[Install]")[0] for name in SERVICES
    ]
    assert texts[0].strip() == texts[1].strip()
    settings = dict(re.findall(r"^(\w+)=(.*)$", (UNITS / unit).read_text(), re.MULTILINE))
    assert settings["User"] == settings["Group"] == "batchscan"
    assert settings["ExecStart"].startswith("/opt/batchscan/bin/batchscan ")
    assert "BATCHSCAN_STATE_DIR=/var/lib/batchscan" in settings["Environment"]
    assert settings["StateDirectory"] == "batchscan"


def test_a_scan_lives_with_the_calls_that_a_unit_allows(tmp_path: Path) -> None:
    tool("systemd-analyze")
    if ctypes.util.find_library("seccomp") is None:
        pytest.skip("libseccomp is not installed")
    done = subprocess.run(
        [
            *(sys.executable, str(Path(__file__).with_name("filtered.py")), str(UNITS / SERVICES[0])),
            *(sys.executable, "-m", "batchscan", "scan", str(ROOT / "tests" / "samples")),
            *(
                "--state-dir",
                str(tmp_path / "state"),
                "--metrics-textfile",
                str(tmp_path / "m.prom"),
                "--json",
            ),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["counts"]["scanned"] == 16
