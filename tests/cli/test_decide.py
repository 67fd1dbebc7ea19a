"""`decide`: from a report to the file that a marketplace enforces, and what is left when it fails."""

import csv
import io
import json
import re
import signal
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
from cli_lab import UNMEASURED, Lab, digest, skills, until

from batchscan.decisions.document import decisions_schema
from batchscan.decisions.policy import Policy
from batchscan.decisions.policy_file import TABLES, read_policy

PAGE = (Path(__file__).parents[2] / "docs" / "enforcement.md").read_text(encoding="utf-8")
SCHEMA = jsonschema.Draft202012Validator(
    decisions_schema(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)


def block_of(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return str(found)


def document(lab: Lab, name: str = "decisions.json") -> dict[str, Any]:
    read: dict[str, Any] = json.loads((lab.path / name).read_bytes())
    SCHEMA.validate(read)
    counts = read["counts"]
    assert counts["inputs"] == len(read["decisions"])
    assert counts["allow"] + counts["warn"] + counts["block"] == counts["inputs"]
    return read


def decisions(read: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["path"]: (one["decision"], one["reason"]["code"]) for one in read["decisions"]}


def decide(lab: Lab, *args: str | Path) -> Any:
    return lab.run("decide", *args, "-o", "decisions.json", "--previous", "decisions.json")


async def test_night_after_night(lab: Lab) -> None:
    """The page's policy: a scan, its decisions; a night without verdicts, and what is kept through it."""
    for name in ("evil", "odd", "fine"):
        skills(lab.inputs, 1, name)
    (lab.inputs / "text.zip").write_text("no ZIP")
    policy = lab.path / "policy.toml"
    policy.write_text(block_of("toml"))
    accepted = lab.path / "accepted.toml"
    ends = (datetime.now(UTC) + timedelta(days=5)).date()
    accepted.write_text(
        f'[[suppression]]\nsha256 = "{digest(lab.inputs / "evil-0000.zip")}"\nrule = "90002"\n'
        f'reason = "known"\nowner = "ann"\nexpires = {ends}\n'
    )
    async with lab.service() as service:
        scanned = await lab.scan(service, "in", "-o", lab.report)
        first = await decide(lab, "--policy", policy)
        whole = document(lab)
        service.detector.gate.clear()
        skills(lab.inputs, 2, "fine")
        left = await lab.scan(
            service,
            "in",
            "-o",
            "later.jsonl",
            "--state-dir",
            "other",
            "--no-wait",
            env={"TCCLI_PROFILE": "p"},
        )
        second = await decide(lab, "later.jsonl", "--policy", policy)
        kept = document(lab)
        table = await lab.run("report", "--format", "csv", "-o", "r.csv", "--suppressions", accepted)
        third = await lab.run("decide", "-o", "third.json", "--suppressions", accepted, "--policy", policy)
        service.detector.gate.set()
    assert (scanned.code, first.code, left.code, second.code, third.code) == (3, 3, 3, 3, 3), second.err
    assert decisions(whole) == {
        "evil-0000.zip": ("block", "malicious"),
        "odd-0000.zip": ("warn", "suspicious"),
        "fine-0000.zip": ("allow", "benign"),
        "text.zip": ("block", "rejected"),
    }
    assert whole["run_state"] == "complete"
    assert whole["policy_fingerprint"] == read_policy(policy).fingerprint()
    assert "there are no previous decisions yet" in first.err
    assert "allow 1, warn 1, block 2\nwithout a verdict 1, of these carried 0\n" in first.out
    assert decisions(kept) == {
        "evil-0000.zip": ("block", "carried"),
        "odd-0000.zip": ("warn", "carried"),
        "fine-0000.zip": ("allow", "carried"),
        "fine-0001.zip": ("block", "pending"),
        "text.zip": ("block", "rejected"),
    }
    until_when = datetime.fromisoformat(whole["made_at"]) + timedelta(days=3)
    ends_at = {one["carried"]["until"] for one in kept["decisions"] if one["carried"]}
    assert {datetime.fromisoformat(end) for end in ends_at} == {until_when}
    suppressed = document(lab, "third.json")
    assert decisions(suppressed)["evil-0000.zip"] == ("allow", "suppressed")
    assert suppressed["suppressions"] == {"entries": 1, "unused": 0, "expired": 0, "expiring": 1, "kept": 0}
    assert "a suppression expires soon" in third.err
    assert "the policy's grace has no effect without previous decisions" in third.err
    lines = list(csv.DictReader(io.StringIO((lab.path / "r.csv").read_text(encoding="utf-8-sig"))))
    shown = {line["path"]: line["suppressed"] for line in lines}
    assert (table.code, shown.pop("evil-0000.zip"), set(shown.values())) == (0, "yes", {""})
    assert "a suppression expires soon" in table.err
    check_the_pages_reader(whole, lab)


def check_the_pages_reader(whole: dict[str, Any], lab: Lab) -> None:
    names: dict[str, Any] = {}
    exec(block_of("python"), names)
    made_at = datetime.fromisoformat(whole["made_at"])

    def say(path: str, *, of: str | None = None, at: timedelta = timedelta(0), **changes: Any) -> str:
        sha256 = digest(lab.inputs / (of or path))
        return str(names["decision_on"](whole | changes, path, sha256, made_at + at))

    assert say("fine-0000.zip") == "allow"
    assert say("odd-0000.zip") == "warn"
    assert say("evil-0000.zip") == "block"
    assert say("fine-0000.zip", of="odd-0000.zip") == "block", "other content under an allowed name"
    assert say("fine-0001.zip") == "block", "absent"
    assert say("fine-0000.zip", at=timedelta(days=2)) == "block", "the file is old"
    assert say("fine-0000.zip", at=-timedelta(hours=2)) == "block", "the file is of the future"
    assert say("fine-0000.zip", schema="batchscan.decisions/2") == "block"
    ended = [one | {"expires_at": whole["made_at"]} for one in whole["decisions"]]
    assert say("fine-0000.zip", decisions=ended) == "block"
    strict = [*whole["decisions"], *(one | {"decision": "warn"} for one in whole["decisions"])]
    assert say("fine-0000.zip", decisions=strict) == "warn"
    unheard_of = [one | {"decision": "maybe"} for one in whole["decisions"]]
    assert say("fine-0000.zip", decisions=unheard_of) == "block"


def test_the_pages_policy_shows_every_key() -> None:
    shown = tomllib.loads(block_of("toml"))
    keys = {f"{table}.{key}" for table, values in shown.items() for key in values}
    known = {f"{table}.{key}" for table, values in TABLES.items() for key in values}
    assert keys == known - {"verdicts.may_allow"}
    assert list(Policy().dangers()) == []


def rows_of_one_run(lab: Lab, count: int) -> bytes:
    """A report of many inputs, made of one row of a real one."""
    row = lab.report.read_bytes().splitlines(keepends=True)[0]
    return b"".join(row.replace(b"fine-0000", b"%d" % number, 1) for number in range(count))


async def test_no_room_and_a_kill_in_the_middle_leave_the_old_file(lab: Lab) -> None:
    skills(lab.inputs, 1, "fine")
    async with lab.service() as service:
        await lab.scan(service, "in", "-o", lab.report)
    made = await lab.run("decide", "-o", "decisions.json")
    old = (lab.path / "decisions.json").read_bytes()
    (lab.path / "many.jsonl").write_bytes(rows_of_one_run(lab, 60_000))
    small = ("prlimit", "--fsize=100000")
    full = await lab.start("decide", "many.jsonl", "-o", "decisions.json", wrapped=small, env=UNMEASURED)
    failed = await full.done()
    assert list(lab.path.glob(".decisions.json.*")) == []
    killed = await lab.start("decide", "many.jsonl", "-o", "decisions.json")
    await until(lambda: any(path.stat().st_size for path in lab.path.glob(".decisions.json.*")))
    killed.send(signal.SIGKILL)
    dead = await killed.done()
    assert (made.code, failed.code, dead.code) == (0, 2, -signal.SIGKILL)
    assert "could not be written (File too large); make room, and do it again" in failed.err
    assert failed.out == ""
    assert (lab.path / "decisions.json").read_bytes() == old
    again = await lab.run("decide", "-o", "decisions.json")
    assert again.code == 0
    assert decisions(document(lab)) == {"fine-0000.zip": ("allow", "benign")}


async def test_the_policy_is_shown(lab: Lab) -> None:
    """And without an output nothing else is done."""
    nowhere = await lab.run("decide")
    assert (nowhere.code, nowhere.out) == (2, "")
    assert "name the file of decisions with --output" in nowhere.err
    policy = lab.path / "policy.toml"
    policy.write_text(block_of("toml"))
    shown = await lab.run("decide", "--show-policy", "--policy", policy)
    assert shown.code == 0
    policy.write_text(shown.out)
    assert f"# fingerprint {read_policy(policy).fingerprint()}" in shown.out
    assert read_policy(policy).rules_block == {"90001"}
