"""`compare` on real reports: two nights with changes between them, gates, and runs that did not end."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import jsonschema
from cli_lab import ENGINE_VERSION, FAST, Done, Lab, skill, skills, until

from batchscan.comparison_output import comparison_schema

SCHEMA = jsonschema.Draft202012Validator(comparison_schema())


def told(done: Done) -> dict[str, Any]:
    assert done.code in {0, 1, 3}, done.err
    document: dict[str, Any] = json.loads(done.out)
    SCHEMA.validate(document)
    assert document["exit_code"] == done.code
    return document


def counted(document: dict[str, Any]) -> dict[str, int]:
    return {change: count for change, count in document["counts"].items() if count}


def changes(document: dict[str, Any]) -> dict[str, tuple[str, str, str, bool]]:
    found = {}
    for item in document["items"]:
        seen = item["before"] if item["after"] is None else item["after"]
        found[seen["path"]] = (item["change"], item["place"], item["content"], item["fresh"])
    return found


def first_night(inputs: Path) -> None:
    for kind, count in (("evil", 5), ("odd", 2), ("fine", 5)):
        skills(inputs, count, kind)


def next_day(inputs: Path) -> None:
    """Move, edit, copy, replace, remove, add."""
    (inputs / "moved").mkdir()
    (inputs / "evil-0000.zip").rename(inputs / "moved" / "elsewhere.zip")
    (inputs / "evil-0001.zip").write_bytes(skill("evil, and edited"))
    (inputs / "evil-0002.zip").write_bytes(skill("cleaned"))
    (inputs / "evil-0003.zip").unlink()
    (inputs / "copy.zip").write_bytes((inputs / "evil-0004.zip").read_bytes())
    (inputs / "odd-0000.zip").write_bytes(skill("evil once odd"))
    (inputs / "fine-0000.zip").write_bytes(skill("evil once fine"))
    (inputs / "fine-0001.zip").unlink()
    (inputs / "fine-0002.zip").write_bytes(skill("edited"))
    (inputs / "added.zip").write_bytes(skill("added"))
    (inputs / "arrived.zip").write_bytes(skill("odd arrival"))


EXPECTED = {
    "moved/elsewhere.zip": ("still-there", "moved", "same", False),
    "evil-0001.zip": ("still-there", "same", "changed", True),
    "evil-0002.zip": ("fixed", "same", "changed", False),
    "evil-0003.zip": ("gone", "same", "unknown", False),
    "evil-0004.zip": ("still-there", "same", "same", False),
    "copy.zip": ("still-there", "copy-added", "same", False),
    "odd-0000.zip": ("changed-verdict", "same", "changed", True),
    "odd-0001.zip": ("still-there", "same", "same", False),
    "fine-0000.zip": ("new", "same", "changed", True),
    "fine-0001.zip": ("gone", "same", "unknown", False),
    "arrived.zip": ("new", "same", "unknown", True),
}


async def test_two_nights_by_run_and_by_file(lab: Lab) -> None:
    """The same, however the reports are named; with another engine in between, which is said."""
    first_night(lab.inputs)
    async with lab.service() as service:
        port = int(service.url.rpartition(":")[2])
        first = await lab.scan(service, "in", "-o", "one.jsonl", "--json")
    next_day(lab.inputs)
    async with lab.service(port=port, engine_version=ENGINE_VERSION + 1) as service:
        second = await lab.scan(service, "in", "--json")
    runs = first.summary["run_id"], second.summary["run_id"]
    by_run, by_file, latest, other_way, comment, gate, milder, into = await asyncio.gather(
        lab.run("compare", *runs, "--json"),
        lab.run("compare", "one.jsonl", second.summary["report"], "--json", "--state-dir", "nowhere"),
        lab.run("compare", "--format", "json"),
        lab.run("compare", *runs[::-1], "--json"),
        lab.run("compare", *runs, "--format", "markdown"),
        lab.run("compare", *runs, "--fail-on", "new-malicious"),
        lab.run("compare", *runs, "--fail-on", "new-suspicious", "--fail-on-incomplete", "--limit", "2"),
        lab.run("compare", *runs, "-o", "table.txt"),
    )
    document = told(by_run)
    assert changes(document) == EXPECTED
    assert document["items"] == told(by_file)["items"] == told(latest)["items"]
    assert counted(document)["unchanged"] == 3, "one of them was edited, and stayed benign"
    assert counted(document)["added"] == 1
    (warning,) = document["warnings"]
    assert "the engines differ, 20260501 before and 20260501, 20260502 after" in warning
    assert "the first report is the newer one" in told(other_way)["warnings"][0]
    assert counted(told(other_way))["fixed"] + counted(told(other_way))["gone"] == 3
    assert (gate.code, milder.code, into.code, into.out) == (1, 1, 0, "")
    assert "not shown: 4 more" in milder.out
    assert "`arrived.zip`" in comment.out
    assert "3 newly malicious, 1 newly suspicious" in comment.out
    table = (lab.path / "table.txt").read_text()
    assert table.splitlines()[3:] == gate.out.splitlines()[3:]
    assert "content changed" in table


def cut_off(report: Path, torn: Path) -> None:
    torn.write_bytes(report.read_bytes()[:-20])


async def test_what_cannot_be_told_is_unknown(lab: Lab) -> None:
    """Failed, pending, interrupted: nothing of it is fixed or gone, and no gate lets it pass."""
    skills(lab.inputs, 3, "evil")
    skills(lab.inputs, 2, "fine")
    async with lab.service() as service:
        whole = await lab.scan(service, "in", "--json")
        for name in ("evil-0000.zip", "fine-0000.zip"):
            (lab.inputs / name).write_bytes(skill(f"broken {name}"))
        (lab.inputs / "evil-0001.zip").unlink()
        failed = await lab.scan(service, "in", "-o", "failed.jsonl", "--json")
        skills(lab.inputs, 4, "more")
        service.hold()
        running = await lab.start("scan", "in", "-o", "killed.jsonl", "--endpoint", service.url, *FAST)
        await until(lambda: (lab.path / "killed.jsonl").exists() and service.creates.total() > 7)
        running.send(signal.SIGKILL)
        await running.process.wait()
    before, after = whole.summary["run_id"], failed.summary["run_id"]
    torn = lab.path / "torn.jsonl"
    cut_off(Path(whole.summary["report"]), torn)
    plain, gate, strict, killed, twice, cut = await asyncio.gather(
        lab.run("compare", before, after, "--json"),
        lab.run("compare", before, after, "--fail-on", "new-malicious"),
        lab.run("compare", before, after, "--json", "--fail-on-incomplete"),
        lab.run("compare", before, "killed.jsonl", "--json", "--fail-on", "new-malicious"),
        lab.run("compare", "killed.jsonl", "killed.jsonl", "--json", "--fail-on-incomplete"),
        lab.run("compare", torn, before, "--json", "--fail-on-incomplete"),
    )
    assert counted(told(plain)) == {"unknown": 2, "gone": 1, "still-there": 1, "unchanged": 1}
    assert (plain.code, gate.code, strict.code) == (0, 3, 3)
    assert "Incomplete: 2 inputs are unknown" in gate.out
    document = told(killed)
    assert killed.code == 3
    assert document["after"]["whole"] is False
    assert set(counted(document)) <= {"unknown", "still-there", "unchanged"}, "absent there is not gone"
    assert counted(document)["unknown"] >= 3
    assert twice.code == 3
    assert (cut.code, told(cut)["before"]["whole"]) == (3, False)
    assert counted(told(cut))["unknown"] == 1


async def test_what_is_refused(lab: Lab) -> None:
    skills(lab.inputs, 1)
    broken = lab.path / "broken.jsonl"
    broken.write_text("{}\n")
    async with lab.service() as service:
        old = await lab.scan(service, "in", "-o", lab.report, "--json")
        new = await lab.scan(service, "in", "-o", lab.report, "--json", "--overwrite")
    content = lab.report.read_bytes()
    replaced, unknown, alone, odd, both, onto, damaged, gate = await asyncio.gather(
        lab.run("compare", old.summary["run_id"], new.summary["run_id"]),
        lab.run("compare", lab.report, "nosuch"),
        lab.run("compare"),
        lab.run("compare", lab.report, lab.report, "--format", "html"),
        lab.run("compare", lab.report, lab.report, "--json", "--format", "markdown"),
        lab.run("compare", lab.report, lab.report, "-o", lab.report),
        lab.run("compare", lab.report, broken, "-o", "out.txt"),
        lab.run("compare", lab.report, lab.report, "--fail-on", "malicious"),
    )
    assert [done.code for done in (replaced, unknown, alone, odd, both, onto, damaged, gate)] == [2] * 6 + [
        3,
        2,
    ]
    assert f"holds the rows of run {new.summary['run_id']}" in replaced.err
    assert "neither a report nor a run" in unknown.err
    assert "no complete run before" in alone.err
    assert "'html' is none of table, json, markdown" in odd.err
    assert "give one of them" in both.err
    assert "is the report itself" in onto.err
    assert "line 1: is not a row" in damaged.err
    assert "neither new-malicious nor new-suspicious" in gate.err
    assert lab.report.read_bytes() == content
    assert not (lab.path / "out.txt").exists()
