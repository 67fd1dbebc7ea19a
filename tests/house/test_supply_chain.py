"""What is shipped can be listed, and known weaknesses in it fail the build."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "configs" / "requirements.lock"
GUIDE = ROOT / "docs" / "security.md"


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pinned() -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE))


def test_the_documented_command_lists_all_that_is_shipped(tmp_path: Path) -> None:
    (command,) = re.findall(
        r"^\.venv-dev/bin/(cyclonedx-py .*) -o sbom\.json$", GUIDE.read_text(), re.MULTILINE
    )
    out = tmp_path / "sbom.json"
    tool, *args = command.split()
    program = Path(sys.executable).with_name(tool)
    subprocess.run([program, *args, "-o", out], cwd=ROOT, check=True, capture_output=True, timeout=50)
    listed: dict[str, Any] = json.loads(out.read_text())
    components = {component["name"]: component for component in listed["components"]}
    assert {name: component["version"] for name, component in components.items()} == pinned()
    assert all(component["purl"].startswith("pkg:pypi/") for component in components.values())
    hashed = [component["externalReferences"][0]["hashes"] for component in components.values()]
    assert all(hashes[0]["alg"] == "SHA-256" for hashes in hashed)
    assert listed["metadata"]["component"]["name"] == "batchscan"


# What pip-audit 2.10 prints for the three cases.
CLEAN = {"name": "aiohttp", "version": "3.14.5", "vulns": []}
SKIPPED = {"name": "aiohttp", "skip_reason": "Dependency not found on PyPI and could not be audited: aiohttp"}
WEAK = {
    "name": "aiohttp",
    "version": "3.9.1",
    "vulns": [{"id": "PYSEC-2024-24", "fix_versions": ["3.9.2"], "aliases": [], "description": "x"}],
}


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        ([CLEAN], 0, "asked about 1 packages\nno known weakness was found"),
        ([WEAK], 1, "aiohttp 3.9.1: PYSEC-2024-24, fixed in 3.9.2"),
        ([SKIPPED], 0, "*** NOT CHECKED"),
        ([WEAK, SKIPPED], 1, "*** NOT CHECKED"),
    ],
)
def test_a_weakness_fails_and_what_was_not_checked_is_said(
    audit: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    found: list[dict[str, Any]],
    code: int,
    said: str,
) -> None:
    asked: list[int] = []

    def audited(entries: list[str]) -> list[dict[str, Any]]:
        asked.append(len(entries))
        return found

    monkeypatch.setattr(audit, "audited", audited)
    assert audit.main(LOCK) == code
    assert said in capsys.readouterr().out
    assert asked == ([1] if SKIPPED in found else [1, len(pinned())])


def test_without_a_network_nothing_is_checked_and_that_is_said(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(audit.UncheckedError, match="ProxyError"):
        audit.audited(audit.requirements(LOCK.read_text(encoding="utf-8"))[:1])
