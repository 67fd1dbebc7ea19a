"""``[schedule.NAME]`` of the settings file: what is read, and all that is wrong told at once."""

from pathlib import Path

import pytest

from batchscan.errors import UsageError
from batchscan.ledger.chosen import Selection, Which
from batchscan.schedules.schedule import Schedule, selection
from batchscan.settings_file import read_settings_file

FULL = """
[endpoints.night]
url = "intl"

[schedule.nightly]
cron = "30 2 * * *"
timezone = "Europe/Berlin"
sources = ["skills", "/srv/more/one.zip", "~/mine"]
include = ["*.zip"]
exclude = ["draft-*"]
endpoint = "night"
profile = "audit"
budget = 5000
policy = "policy.toml"
suppressions = "accepted.toml"
reports = ["csv", "markdown"]
reports_dir = "out"
notify = false
priority = 5
enabled = false
catch_up = false
watch = true
watch_settle = "500ms"

[schedule.again]
cron = "0 4 * * SUN"
rescan = "engine-older"

[schedule.list]
cron = "0 * * * *"
manifest = "list.txt"
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("policy.toml", "accepted.toml"):
        (tmp_path / name).touch()


def read(directory: Path, text: str) -> tuple[dict[str, Schedule], list[str]]:
    path = directory / "settings.toml"
    path.write_text(text)
    file, problems = read_settings_file(path)
    return dict(file.schedules), [problem.removeprefix(f"{path}: ") for problem in problems]


def test_every_key_is_read_and_paths_start_at_the_file(tmp_path: Path) -> None:
    schedules, problems = read(tmp_path, FULL)
    assert problems == []
    assert list(schedules) == ["nightly", "again", "list"]
    nightly = schedules["nightly"]
    assert nightly.model_fields_set == set(Schedule.model_fields) - {"manifest", "rescan"}
    assert nightly.sources == (f"{tmp_path}/skills", "/srv/more/one.zip", f"{tmp_path / 'home'}/mine")
    assert (nightly.policy, nightly.reports_dir) == (tmp_path / "policy.toml", tmp_path / "out")
    assert (nightly.budget, nightly.priority, nightly.watch_settle) == (5000, 5, 0.5)
    assert nightly.timetable.explain() == "At 02:30 every day, Europe/Berlin"
    assert schedules["list"].manifest == tmp_path / "list.txt"
    again = schedules["again"]
    assert (again.timezone, again.enabled, again.catch_up, again.watch) == ("UTC", True, True, False)


WRONG = """
rate = "fast"
[schedule.a]
cron = "61 * * * *"
timezone = "Europe/Berlln"
sources = "skills"
endpoint = "nihgt"
budget = "5000"
policy = "nosuch.toml"
reports = ["csv", "pdf"]
priority = 1000
enabled = 1
watch_settle = true
sauces = ["x"]
secret_key = "hush"
[schedule.b]
sources = ["x", "-", 3]
manifest = "list.txt"
watch = true
reports_dir = ""
[schedule.c]
cron = "0 0 30 2 *"
rescan = "oldest"
watch = true
[schedule.d]
cron = "0 0 * * *"
timezone = 3
sources = []
[schedule.e]
cron = "0 0 * * *"
[schedule."x y"]
cron = "0 0 * * *"
sources = ["-"]
[schedule.endpoint]
cron = "0 0 * * *"
sources = ["x"]
endpoint = "http://scan.example"
[schedule]
nightly = "30 2 * * *"
"""


def test_all_that_is_wrong_with_all_schedules_is_told_at_once_with_the_key(tmp_path: Path) -> None:
    schedules, problems = read(tmp_path, WRONG.replace("[schedule]\nnightly", "[schedule.f]\nnightly"))
    expected = (
        "rate: 'fast' is not a number",
        "schedule.a.sauces: no such key; is sources meant?",
        "schedule.a.secret_key: keys of an account do not belong in this file",
        "schedule.a.cron: '61 * * * *': bad minute",
        "schedule.a.timezone: 'Europe/Berlln' is no time zone",
        "schedule.a.sources: 'skills' is not a list",
        "schedule.a.endpoint: endpoint 'nihgt': not known;",
        "schedule.a.budget: '5000' is not a whole number",
        f"schedule.a.policy: {tmp_path}/nosuch.toml: cannot be read: No such file",
        "schedule.a.reports: 'pdf' is none of ",
        "schedule.a.reports_dir: missing; name the directory",
        "schedule.a.priority: 1000 is out of range; it must be at most 100",
        "schedule.a.enabled: 1 is not true or false",
        "schedule.a.watch_settle: True is not a number",
        "schedule.b.cron: missing",
        "schedule.b.sources: is not a text",
        "schedule.b.manifest: says what to scan; give one of sources, manifest, rescan, not sou",
        "schedule.b.reports_dir: is empty",
        "schedule.c.cron: '0 0 30 2 *': bad day-of-month",
        "schedule.c.rescan: 'oldest' is no selection; write engine-older,",
        "schedule.c.watch: only sources can be watched; give sources",
        "schedule.d.timezone: is not a text",
        "schedule.d.sources: is empty",
        "schedule.e.rescan: says what to scan; give one of sources, manifest, rescan",
        "schedule.x y: not a name; use letters",
        "schedule.x y.sources: a schedule has no standard input",
        "schedule.endpoint.endpoint: endpoint 'http://scan.example': files and keys",
        "schedule.f.cron: missing",
        "schedule.f.nightly: no such key",
        "schedule.f.rescan: says what to scan",
    )
    left = list(problems)
    for text in expected:
        assert any(problem.startswith(text) for problem in left), text
        left.remove(next(problem for problem in left if problem.startswith(text)))
    assert left == []
    assert schedules == {}
    assert "hush" not in " ".join(problems)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('schedule = "nightly"', "schedule: not a table; write [schedule.NAME]"),
        ('[schedule]\ncron = "* * * * *"', "schedule.cron: not a table; write [schedule.cron]"),
    ],
)
def test_what_is_no_table_is_told(tmp_path: Path, text: str, problem: str) -> None:
    assert read(tmp_path, text) == ({}, [problem])


def test_selections() -> None:
    assert selection("expired") == Selection(which=Which.EXPIRED)
    assert selection("verdict=malicious") == Selection(which=Which.VERDICT, value="malicious")
    assert selection("engine-before=20260501") == Selection(which=Which.ENGINE_BEFORE, value="20260501")
    assert selection("engine-older", 20260601) == Selection(which=Which.ENGINE_BEFORE, value="20260601")
    assert selection("engine-older") is None
    for text in (
        "",
        "oldest",
        "verdict",
        "verdict=",
        "verdict=bad",
        "engine-before=x",
        "engine-before=²",
        "all=1",
        "failed=",
    ):
        with pytest.raises(UsageError, match="is no selection"):
            selection(text)
