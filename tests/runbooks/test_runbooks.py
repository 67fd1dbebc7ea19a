"""Every command of every runbook, typed where the thing it is for has happened; what it shows is compared."""

import re
import shutil
import signal
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]
from cli_lab import SECRET_ID, SECRET_KEY, skill, skills
from runbook_lab import RunbookLab
from runbook_pages import INDEX, ROOT, RUNBOOKS, SECTIONS, Page, mismatch, page_names, parse, read_page

SCAN = 'batchscan scan "$SKILLS" --quiet --metrics-textfile "$METRICS" {flags}; echo "exit $?"'
ORDER = """curl -sS --fail-with-body -X POST "$URL/api/v1/runs" -H "Content-Type: application/json" \\
    -d '{"sources": ["/srv/skills"]}' > run.json
curl -sSN "$URL/api/v1/runs/$(grep -o '"run_id":"[^"]*"' run.json | cut -d'"' -f4)/events" > events.txt"""
ALERTS = ROOT / "configs" / "prometheus" / "alerts.yml"
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="the page uses curl")


def drill(page: Page) -> str:
    """The faults that the page says rehearse it."""
    found = re.search(r"^Drill: `--drill '([^']+)'`", page.text, re.MULTILINE)
    assert found is not None, f"{page.name} names no drill"
    return found[1]


def market(lab: RunbookLab) -> None:
    """Three good skills, and one that is not."""
    skills(lab.inputs, 3)
    (lab.inputs / "pdf-tools.zip").write_bytes(skill("evil"))


async def audit(lab: RunbookLab, code: int, flags: str = "") -> None:
    """The nightly run, and how it is to end."""
    assert (await lab.type(SCAN.format(flags=flags))).splitlines()[-1] == f"exit {code}"


async def nightly_audit_failed(lab: RunbookLab, page: Page) -> None:
    market(lab)
    lab.write_settings(f'[schedule.nightly]\ncron = "15 2 * * *"\nsources = ["{lab.inputs}"]\n')
    async with lab.shell():
        async with lab.engine(drill(page)):
            await audit(lab, 4)
            await lab.follow(page.name, "Look")
        async with lab.engine():
            await lab.follow(page.name, "Do", "Over")


async def throttled(lab: RunbookLab, page: Page) -> None:
    market(lab)
    async with lab.shell(), lab.engine(drill(page), caps={"CreateSkillScan": 10}):
        await audit(lab, 0)
        await lab.follow(page.name, "Look")
        lab.write_settings(table="rate = 8")
        await lab.follow(page.name, "Do")
        skills(lab.inputs, 4, "new")
        await lab.follow(page.name, "Over")


async def quota_low(lab: RunbookLab, page: Page) -> None:
    market(lab)
    async with lab.shell():
        async with lab.engine(total_quota=2):
            await audit(lab, 4)
            await lab.follow(page.name, "Look")
        async with lab.engine(total_quota=100):
            await lab.follow(page.name, "The order is used up")
            lab.write_settings(top="daily_budget = 5")
            skills(lab.inputs, 3, "new")
            await audit(lab, 8)
            await lab.follow(page.name, "The day's budget is used up", "Over")


async def backlog_old(lab: RunbookLab, page: Page) -> None:
    market(lab)
    async with lab.shell():
        async with lab.engine(drill(page)):
            await audit(lab, 3, "--deadline 1s")
            await lab.follow(page.name, "Look")
        async with lab.engine():
            await lab.follow(page.name, "Do", "Over")


async def engine_upgraded(lab: RunbookLab, page: Page) -> None:
    market(lab)
    async with lab.shell():
        async with lab.engine(engine_version=20260501):
            await audit(lab, 0)
        skills(lab.inputs, 1, "new")
        async with lab.engine(engine_version=20260601):
            await audit(lab, 0)
            await lab.follow(page.name, "Look", "Do", "Over")


async def key_rotation(lab: RunbookLab, page: Page) -> None:
    market(lab)
    async with lab.shell({"TENCENTCLOUD_SECRET_ID": "AKIDold0000000000000000000000000000"}), lab.engine():
        await audit(lab, 4)
        await lab.follow(page.name, "Look")
        (lab.etc / "credentials.env").write_text(
            f"TENCENTCLOUD_SECRET_ID={SECRET_ID}\nTENCENTCLOUD_SECRET_KEY={SECRET_KEY}\n"
        )
        await lab.follow(page.name, "Do", "Over")


async def move_the_state_directory(lab: RunbookLab, page: Page) -> None:
    market(lab)
    async with lab.shell(), lab.engine():
        await audit(lab, 0)
        await lab.follow(page.name, "Look", "Do", "Over")


def damage(ledger: Path) -> None:
    """Overwrite the pages that the verdicts and how each content stands begin on."""
    with closing(sqlite3.connect(ledger)) as found:
        size: int = found.execute("PRAGMA page_size").fetchone()[0]
        rows = found.execute(
            "SELECT rootpage FROM sqlite_master WHERE name IN ('verdict', 'scan')"
        ).fetchall()
    with ledger.open("r+b") as file:
        for (page,) in rows:
            file.seek((page - 1) * size)
            file.write(b"\xab" * size)


async def damaged_ledger(lab: RunbookLab, page: Page) -> None:
    market(lab)
    async with lab.shell(), lab.engine():
        await audit(lab, 0)
        await lab.follow(page.name, "Backup")
        skills(lab.inputs, 2, "new")
        await audit(lab, 0)
        damage(lab.state / "ledger.sqlite3")
        await audit(lab, 3)
        await lab.follow(page.name, "Look", "With a backup")
        damage(lab.state / "ledger.sqlite3")
        await lab.follow(page.name, "Without a backup", "Over")


async def newly_malicious(lab: RunbookLab, page: Page) -> None:
    skills(lab.inputs, 3)
    found = [lab.inputs / name for name in ("pdf-tools.zip", "pdf-copy.zip")]
    async with lab.shell(), lab.engine():
        await audit(lab, 0)
        for path in found:
            path.write_bytes(skill("evil"))
        await audit(lab, 0)
        await lab.follow(page.name, "Look", "Do")
        for path in found:
            path.unlink()
        await lab.follow(page.name, "Over")


async def service_down(lab: RunbookLab, page: Page) -> None:
    market(lab)
    right = f'[service]\nport = {lab.port}\nroots = ["{lab.inputs}"]\n'
    async with lab.shell(), lab.engine():
        lab.write_settings(right.replace("service", "servce"))
        await lab.follow(page.name, "It is down")
        lab.write_settings(right)
        running = await lab.serve()
        lab.write_settings(right.replace("service", "servce"))
        await lab.follow(page.name, "It is up and takes no work")
        lab.write_settings(right)
        assert await lab.type("batchscan status") == "no runs yet\n"
        await lab.type(ORDER)
        await lab.follow(page.name, "Over")
        running.send(signal.SIGTERM)
        assert (await running.done()).code == 0


WALKS: dict[str, Callable[[RunbookLab, Page], Awaitable[None]]] = {
    walk.__name__.replace("_", "-"): walk
    for walk in (
        nightly_audit_failed,
        throttled,
        quota_low,
        backlog_old,
        engine_upgraded,
        key_rotation,
        move_the_state_directory,
        damaged_ledger,
        newly_malicious,
        service_down,
    )
}
NEEDS = {"service-down": needs_curl}


@pytest.mark.timeout(180)  # a dozen starts of the program, on a busy machine
@pytest.mark.parametrize("name", [pytest.param(name, marks=NEEDS.get(name, ())) for name in WALKS])
async def test_each_command_of_a_page_shows_what_the_page_says(lab: RunbookLab, name: str) -> None:
    page = read_page(name)
    await WALKS[name](lab, page)
    assert lab.all_was_typed(page), "a command of the page was not tried"


def test_every_page_is_walked_and_every_page_that_an_alert_names_is_there() -> None:
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    named: dict[str, set[str]] = {name: set() for name in page_names()}
    for rule in rules:
        path = ROOT / rule["annotations"]["runbook"]
        assert path.parent == RUNBOOKS
        assert path.is_file(), f"{rule['alert']} names a page that is not there: {path.name}"
        named[path.stem].add(rule["alert"])
    index = read_page(INDEX).text
    for name, alerts in named.items():
        page = read_page(name)
        head = re.search(r"^Alerts: (.+)$", page.text, re.MULTILINE)
        assert head is not None
        assert set(re.findall(r"`(\w+)`", head[1])) == alerts, f"{name} and alerts.yml name other alerts"
        rows = re.findall(rf"^\| (.+) \| \[{name}\]\({name}\.md\) \|$", index, re.MULTILINE)
        assert set(re.findall(r"`(Batchscan\w+)`", " ".join(rows))) == alerts, f"the index and {name} differ"
        assert rows, f"{name} is not in the index"
    assert set(WALKS) == set(named)


@pytest.mark.parametrize("name", page_names())
def test_a_page_has_its_sections_in_order(name: str) -> None:
    assert [heading for heading in read_page(name).headings if heading in SECTIONS] == SECTIONS


def test_what_is_not_typed_names_what_configs_has() -> None:
    """What needs systemd, a cluster or root is not run (``-rP`` lists it); its units are of configs/."""
    units = {path.name for path in (ROOT / "configs" / "systemd").iterdir()}
    objects = {"deploy/batchscan", "cronjob/batchscan-nightly"}
    unrun = [
        line
        for name in (*page_names(), INDEX)
        for block in read_page(name).unrun
        for line in block.splitlines()
    ]
    for line in unrun:
        print(f"not run: {line}")
        assert set(re.findall(r"batchscan[\w-]*\.(?:service|timer)", line)) <= units
        assert set(re.findall(r"\b(?:deploy|cronjob)/[\w-]+", line)) <= objects
        assert line.split()[0] in {"systemctl", "journalctl", "kubectl", "systemd-run", "dmesg", "fuser"}, (
            line
        )
    assert 0 < len(unrun) < 30


@pytest.mark.parametrize(
    ("shown", "came", "fits"),
    [
        ("a  b", "a      b\n", True),
        ("a  b", "a b\n", False),
        ("scanned  4", "scanned  40\n", False),
        ("run <run> ends\nsee <run>", "run x1 ends\nsee x1\n", True),
        ("run <run> ends\nsee <run>", "run x1 ends\nsee x2\n", False),
        ("<run>  /<run>.jsonl", "x  /y.jsonl\n", False),
        ("a\n...\nb", "a\nx\ny\nb\n", True),
        ("a\n...\nb", "a\nb\n", True),
        ("a\n...\nb", "a\nx\n", False),
        ("a", "a\nb\n", False),
        ("a\nb", "a\n", False),
        ("", "told\n", False),
        ("took ... s", "took 1.5 s\n", True),
        ("took ... s", "took  s\n", False),
        ("1.5", "115\n", False),
    ],
)
def test_what_is_shown_must_come(shown: str, came: str, *, fits: bool) -> None:
    assert (mismatch(shown, came, {}) is None) == fits


def test_a_name_stands_for_the_same_all_over_a_page() -> None:
    names: dict[str, str] = {}
    assert mismatch("run <run>", "run x1", names) is None
    assert mismatch("...\nrun <run>", "a\nrun x2", names) is not None
    assert mismatch("...\nrun <run>", "a\nrun x1", names) is None


@pytest.mark.parametrize(
    "text", ["```sh\ntrue\n", "```python\n1\n```\n", "```text\nx\n```\n", "```sh\na\n```\nb\n```text\nx\n```"]
)
def test_a_block_that_would_not_be_looked_at_is_an_error(text: str) -> None:
    with pytest.raises(AssertionError):
        parse("page", text)
