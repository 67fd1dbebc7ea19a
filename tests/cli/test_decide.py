"""`decide`: from a report to the file that a marketplace enforces, and what is left when it fails."""

import asyncio
import json
import re
import signal
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
from cli_lab import Done, Lab, digest, skills, until

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
    assert suppressed["suppressions"] == {"entries": 1, "unused": 0, "expired": 0, "expiring": 1}
    assert "a suppression expires soon" in third.err
    assert "the policy's grace has no effect without --previous" in third.err
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
    row = json.loads(lab.report.read_bytes().splitlines()[0])
    return b"".join(json.dumps(row | {"path": f"{n}.zip"}).encode() + b"\n" for n in range(count))


async def test_what_fails_leaves_the_old_file(lab: Lab) -> None:
    """No room, no directory, a torn or foreign report, a wrong policy, a kill in the middle."""
    skills(lab.inputs, 1, "fine")
    async with lab.service() as service:
        await lab.scan(service, "in", "-o", lab.report)
    made = await lab.run("decide", "-o", "decisions.json")
    old = (lab.path / "decisions.json").read_bytes()
    (lab.path / "many.jsonl").write_bytes(rows_of_one_run(lab, 30_000))
    (lab.path / "torn.jsonl").write_bytes(lab.report.read_bytes()[:-3])
    two = json.loads(lab.report.read_bytes()) | {"run_id": "other"}
    (lab.path / "two.jsonl").write_text(lab.report.read_text() + json.dumps(two) + "\n")
    (lab.path / "none.jsonl").touch()
    (lab.path / "wrong.toml").write_text("verdicts.malicious = 'allow'")
    (lab.path / "dir").mkdir()
    (lab.path / "old.json").write_bytes(b"{}")

    async def fail(*args: str, limit: str = "unlimited") -> Done:
        running = await lab.start("decide", *args, wrapped=("prlimit", f"--fsize={limit}"))
        return await running.done()

    results = await asyncio.gather(
        fail("many.jsonl", "-o", "decisions.json", limit="100000"),
        fail("-o", "nosuch/decisions.json"),
        fail("-o", "dir"),
        fail("-o", "report.jsonl"),
        fail("torn.jsonl", "-o", "decisions.json"),
        fail("two.jsonl", "-o", "decisions.json"),
        fail("none.jsonl", "-o", "decisions.json"),
        fail("-o", "decisions.json", "--policy", "wrong.toml"),
        fail("-o", "decisions.json", "--previous", "old.json", "--policy", "grace.toml"),
        fail(),
    )
    killed = await lab.start("decide", "many.jsonl", "-o", "decisions.json")
    await until(lambda: any(p.stat().st_size for p in lab.path.glob(".decisions.json.*")))
    killed.send(signal.SIGKILL)
    dead = await killed.done()
    assert (made.code, dead.code) == (0, -signal.SIGKILL)
    assert [done.code for done in results] == [2, 2, 2, 2, 2, 2, 5, 2, 2, 2]
    told = (
        "could not be written (File too large); make room, and do it again: what was there is as it was",
        "its directory does not exist; create it first",
        "is not a regular file; name another output file",
        "is the report itself; name another --output",
        "is cut off",
        "has rows of more than one run",
        "has no rows; there is nothing to decide on",
        'add "malicious" to verdicts.may_allow',
        "grace.toml: cannot be read",
        "name the file of decisions with --output",
    )
    for done, text in zip(results, told, strict=True):
        assert text in done.err
        assert done.out == ""
    assert (lab.path / "decisions.json").read_bytes() == old
    (litter,) = lab.path.glob(".decisions.json.*")
    litter.unlink()
    again = await lab.run("decide", "many.jsonl", "-o", "decisions.json")
    assert again.code == 0
    assert document(lab)["counts"]["allow"] == 30_000


async def test_the_policy_is_shown(lab: Lab) -> None:
    policy = lab.path / "policy.toml"
    policy.write_text(block_of("toml"))
    shown = await lab.run("decide", "--show-policy", "--policy", policy)
    assert shown.code == 0
    policy.write_text(shown.out)
    assert f"# fingerprint {read_policy(policy).fingerprint()}" in shown.out
    assert read_policy(policy).rules_block == {"90001"}
