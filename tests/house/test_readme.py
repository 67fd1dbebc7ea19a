"""What the README says is so."""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
import readme

from batchscan import cli, errors
from batchscan.config import PRESETS, Config
from batchscan.models import Row

CHANGES = {"run_id", "polls", "submitted_at", "scanned_at", "expires_at"}


@pytest.fixture(scope="module")
def samples_scan(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    """What the first set-up command prints, and the rows it writes."""
    state = tmp_path_factory.mktemp("state")
    printed = readme.batchscan("scan", "tests/samples", "--state-dir", str(state))
    (report,) = (state / "reports").iterdir()
    return printed, [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]


def steady(printed: str) -> str:
    """Leave out what is different in each run."""
    for pattern, instead in (
        (r"^run \S+", "run RUN"),
        (r"^API calls: \d+ \(CreateSkillScan (\d+), DescribeSkillScanResult \d+\)$", r"calls: \1 and polls"),
        (r"^elapsed: .*", "elapsed"),
        (r"^report: .*/reports/\S+\.jsonl$", "report"),
    ):
        printed, count = re.subn(pattern, instead, printed, flags=re.MULTILINE)
        assert count == 1, f"{pattern} is not in\n{printed}"
    return printed.strip()


def test_there_are_exactly_two_set_up_commands_of_one_line_each() -> None:
    commands = readme.blocks(readme.README, "sh")
    assert len(commands) == 2
    assert [command.count("\n") for command in commands] == [1, 1]
    assert commands[0].startswith("python3 -m venv .venv && ")
    assert commands[0].endswith(" && .venv/bin/batchscan scan tests/samples\n")
    assert commands[1].startswith("python3 -m venv .venv-dev && ")  # .ci/run finds it by this
    assert commands[1].endswith(" && .venv-dev/bin/python -m pytest\n")
    assert readme.README.count("python3 -m venv") == 2


def test_the_summary_shown_is_that_of_a_real_run(samples_scan: tuple[str, list[dict[str, Any]]]) -> None:
    (shown, *_) = readme.blocks(readme.section("What you get"), "text")
    assert steady(shown) == steady(samples_scan[0])


def test_the_row_shown_is_that_of_a_real_run(samples_scan: tuple[str, list[dict[str, Any]]]) -> None:
    (shown,) = readme.blocks(readme.section("What you get"), "json")
    row = json.loads(shown)
    assert shown.strip() == readme.shown_row(row)
    (real,) = [r for r in samples_scan[1] if r["path"] == row["path"]]
    assert list(row) == list(real)
    assert {k: v for k, v in row.items() if k not in CHANGES} == {
        k: v for k, v in real.items() if k not in CHANGES
    }


def test_the_table_of_the_row_has_its_keys_in_order() -> None:
    keys = re.findall(r"`(\w+)`", " ".join(readme.first_cells(readme.section("The row"))))
    assert keys == list(Row.__struct_fields__)


def test_the_help_shown_is_the_real_one() -> None:
    (shown,) = readme.blocks(readme.section("Options"), "text")
    assert shown.strip() == readme.batchscan("scan", "--help").strip()


def test_the_exit_codes_are_those_of_the_errors() -> None:
    codes = {int(c) for cell in readme.first_cells(readme.section("Exit codes")) for c in cell.split(", ")}
    raised = {c.exit_code for _, c in inspect.getmembers(errors, inspect.isclass) if hasattr(c, "exit_code")}
    assert codes == raised | {0, 1, cli.INTERNAL_ERROR, 130, 143}


def test_the_settings_named_exist() -> None:
    named = set(re.findall(r"BATCHSCAN_([A-Z_]+)", readme.README))
    assert named
    assert named <= {name.upper() for name in Config.model_fields} | {"CONFIG"}


@pytest.mark.parametrize("name", ["intl", "china"])
def test_the_caps_are_the_presets(name: str) -> None:
    (row,) = re.findall(rf"^\| `{name}` \|.*", readme.README, re.MULTILINE)
    preset = PRESETS[name]
    assert f"| {preset.create_rate} and {preset.result_rate} |" in row
    assert f"| {preset.first_poll_s / 60:.0f} min, {preset.poll_interval_s / 60:.0f} min |" in row


@pytest.mark.parametrize(
    "page",
    [readme.ROOT / "README.md", *sorted(readme.ROOT.glob("[c-d]*/**/*.md"))],
    ids=lambda page: page.name,
)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [to for to in links if "://" not in to and not (page.parent / to).exists()]
    assert missing == []
