"""`rescan`: what was judged before is submitted again, and nothing else changes for anybody."""

import json
import signal
import socket
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from cli_lab import ENGINE_VERSION, FAST, Done, Lab, Service, by_path, code_of, skill, skills, until
from msgspec import structs

from batchscan.embedded.detection import Detection

NEWER = ENGINE_VERSION + 100
DAY_S = 86400.0


@pytest.fixture
def port() -> int:
    """One that is free: the host with its port says whose verdicts they are, so it has to stay."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        number: int = found.getsockname()[1]
    return number


def judging_odd(service: Service, level: str) -> None:
    """Let a service change its mind about what is odd."""
    before = service.detector.detect

    async def detect(content: bytes) -> Detection:
        found = await before(content)
        return structs.replace(found, risk_level=level) if b"odd" in content else found

    service.detector.detect = detect  # type: ignore[method-assign]  # another engine


async def rescan(lab: Lab, service: Service, *args: str | Path, **how: Any) -> Done:
    return await lab.run("rescan", *args, "--endpoint", service.url, *FAST, **how)


async def first_night(lab: Lab, port: int, *texts: str) -> None:
    """Scan one skill of each text, by the old engine."""
    for text in texts:
        skills(lab.inputs, 1, text)
    async with lab.service(port=port) as service:
        done = await lab.scan(service, "in", "-o", lab.path / "first.jsonl")
    assert done.code in {0, 3}, done.err


def verdicts(lab: Lab, report: Path | None = None) -> dict[str, tuple[str, str | None]]:
    return {Path(row["path"]).name: (row["outcome"], row["verdict"]) for row in lab.rows(report)}


async def test_after_an_upgrade_what_older_engines_judged_is_submitted_again(lab: Lab, port: int) -> None:
    await first_night(lab, port, "fine", "odd", "evil")
    skills(lab.inputs, 1, "later")
    (lab.inputs / "copy.zip").write_bytes(skill("odd 0"))
    async with lab.service(port=port, engine_version=NEWER) as service:
        judging_odd(service, "malicious")
        news = await lab.scan(service, "in", "-o", lab.path / "second.jsonl", "--json")
        assert news.summary["new_engine_versions"] == [NEWER]
        assert news.err.count("new engine version") == 1
        assert f"rescan --engine-before {NEWER}" in news.err
        before = service.arrivals
        plan = await rescan(lab, service, "--engine-before", str(NEWER), "--dry-run", "--json")
        assert service.arrivals == before, "a dry run sends nothing"
        done = await rescan(lab, service, "--engine-before", str(NEWER), "-o", lab.report, "--json")
        again = await rescan(lab, service, "--engine-before", str(NEWER))
    found = json.loads(plan.out)
    assert (found["digests"], found["billed_files"], found["inputs"], found["unknown_paths"]) == (3, 3, 4, 0)
    assert done.code == 0
    assert done.summary["new_engine_versions"] == [], "said once"
    rescanned = done.summary["rescan"]
    assert (rescanned["judged"], rescanned["flipped"], rescanned["held"]) == (3, 1, 0)
    assert {"before": "suspicious", "after": "malicious", "count": 1} in rescanned["verdicts"]
    assert verdicts(lab) == {
        "fine-0000.zip": ("scanned", "benign"),
        "odd-0000.zip": ("scanned", "malicious"),
        "evil-0000.zip": ("scanned", "malicious"),
        "copy.zip": ("scanned", "malicious"),
    }
    rows = lab.rows()
    assert {row["engine_version"] for row in rows} == {NEWER}
    assert {row["source"] for row in rows} == {f"rescan --engine-before {NEWER}"}
    assert sum(row["duplicate_of"] is not None for row in rows) == 1
    assert again.code == 5
    assert "nothing to submit again" in again.err
    explained = json.loads((await lab.run("explain", lab.inputs / "odd-0000.zip", "--json")).out)
    assert [(v["verdict"], v["engine_version"], v["stands"]) for v in explained["verdicts"]] == [
        ("malicious", NEWER, True),
        ("suspicious", ENGINE_VERSION, False),
    ]


async def test_a_sample_comes_first_and_the_rest_waits_to_be_resumed(lab: Lab, port: int) -> None:
    skills(lab.inputs, 12, "odd")
    async with lab.service(port=port) as service:
        await lab.scan(service, "in")
    async with lab.service(port=port, engine_version=NEWER) as service:
        judging_odd(service, "benign")
        first = await rescan(
            lab, service, "--all", "--sample", "3", "-o", lab.report, "--budget", "11", "--json"
        )
        assert (first.code, len(service.creates)) == (3, 3)
        assert first.summary["rescan"] == {
            "selection": "--all",
            "judged": 3,
            "flipped": 3,
            "verdicts": [{"before": "suspicious", "after": "benign", "count": 3}],
            "held": 9,
        }
        rows = lab.rows_of(12)
        assert sum(code_of(row) == "sample" for row in rows) == 9
        everyday = await lab.scan(service, "in", "--json")
        assert everyday.summary["counts"]["reused"] == 12, "what was not sent again keeps its verdict"
        rest = await lab.run("resume", first.summary["run_id"], *FAST, "--json")
        assert (rest.code, len(service.creates)) == (8, 11), "one budget for the sample and the rest"
        assert rest.summary["rescan"]["flipped"] == 11
        sampled = set(service.creates)
    assert {row["sha256"] for row in rows if row["outcome"] == "scanned"} <= sampled
    assert sum(code_of(row) == "budget" for row in lab.rows_of(12)) == 1


async def test_with_yes_the_rest_follows_the_sample(lab: Lab, port: int) -> None:
    await first_night(lab, port, "odd", "fine", "evil")
    async with lab.service(port=port, engine_version=NEWER) as service:
        done = await rescan(lab, service, "--all", "--sample", "1", "--yes", "-o", lab.report, "--json")
        assert (done.code, len(service.creates)) == (0, 3)
        assert sum(done.summary["requests"].values()) == service.arrivals
    assert "sample judged" in done.err
    assert (done.summary["rescan"]["judged"], done.summary["inputs"]) == (3, 3)
    assert {outcome for outcome, _ in verdicts(lab).values()} == {"scanned"}


async def test_each_choice_chooses_what_it_says(lab: Lab, port: int) -> None:
    await first_night(lab, port, "fine", "odd", "evil", "broken")
    async with lab.service(port=port) as service:
        for args, names in (
            (("--verdict", "suspicious"), {"odd-0000.zip"}),
            (("--verdict", "malicious"), {"evil-0000.zip"}),
            (("--failed",), {"broken-0000.zip"}),
            (("--all",), {"fine-0000.zip", "odd-0000.zip", "evil-0000.zip", "broken-0000.zip"}),
        ):
            await rescan(lab, service, *args, "-o", lab.report, "--overwrite")
            assert verdicts(lab).keys() == names, args
        assert (await rescan(lab, service, "--expired")).code == 5
        age(lab, 91 * DAY_S, "fine")
        done = await rescan(lab, service, "--expired", "-o", lab.report, "--overwrite", "--json")
        assert verdicts(lab) == {"fine-0000.zip": ("scanned", "benign")}
    assert done.code == 0


def age(lab: Lab, seconds: float, name: str) -> None:
    """Let a verdict be so much older."""
    with sqlite3.connect(lab.state / "ledger.sqlite3") as ledger:
        changed = ledger.execute(
            "UPDATE verdict SET scanned_at = scanned_at - ?, expires_at = expires_at - ? WHERE digest ="
            " (SELECT digest FROM file WHERE CAST(location AS TEXT) LIKE ?)",
            (seconds, seconds, f"%{name}%"),
        )
        assert changed.rowcount == 1
    ledger.close()


async def test_an_expired_verdict_is_fetched_anew_and_both_are_kept(lab: Lab, port: int) -> None:
    await first_night(lab, port, "fine", "odd")
    age(lab, 91 * DAY_S, "odd")
    (lab.path / "service.sqlite3").unlink()  # the service has forgotten it, too
    async with lab.service(port=port) as service:
        judging_odd(service, "benign")
        status = await lab.run("status")
        listed = await lab.run("status", "--expiring", "3", "--json")
        all_of_them = await lab.run("status", "--expiring", "90")
        done = await lab.scan(service, "in", "-o", lab.report)
    assert "1 have expired" in status.out
    (one,) = [json.loads(line) for line in listed.out.splitlines()]
    assert (Path(one["path"]).name, one["expired"], one["verdict"]) == ("odd-0000.zip", True, "suspicious")
    assert all_of_them.out.count("\n") == 2
    assert done.code == 0
    assert verdicts(lab) == {
        "fine-0000.zip": ("reused", "benign"),
        "odd-0000.zip": ("scanned", "benign"),
    }
    explained = json.loads((await lab.run("explain", "odd-0000.zip", "--json")).out)
    assert [(v["verdict"], v["expired"], v["stands"]) for v in explained["verdicts"]] == [
        ("benign", False, True),
        ("suspicious", True, False),
    ]


async def test_files_that_went_or_changed_since(lab: Lab, port: int) -> None:
    await first_night(lab, port, "fine", "odd", "evil")
    (lab.inputs / "fine-0000.zip").unlink()
    (lab.inputs / "odd-0000.zip").write_bytes(skill("another"))
    async with lab.service(port=port, engine_version=NEWER) as service:
        done = await rescan(lab, service, "--all", "-o", lab.report, "--json")
    rows = {Path(path).name: row for path, row in by_path(lab.rows_of(3)).items()}
    assert done.code == 3
    assert code_of(rows["fine-0000.zip"]) == "missing"
    assert (rows["odd-0000.zip"]["outcome"], rows["odd-0000.zip"]["verdict"]) == ("scanned", "benign")
    assert done.summary["rescan"]["judged"] == 1, "the changed one is no second judgement"


async def test_killed_in_the_middle_it_goes_on_and_the_rest_keeps_its_verdict(lab: Lab, port: int) -> None:
    skills(lab.inputs, 30, "odd")
    async with lab.service(port=port) as service:
        await lab.scan(service, "in")
    async with lab.service("Create:delay=0.05", port=port, engine_version=NEWER) as service:
        running = await lab.start(
            *("rescan", "--all", "-o", lab.report, "--rate", "20"), "--endpoint", service.url, *FAST[:4]
        )
        await until(lambda: len(service.creates) >= 5)
        running.send(signal.SIGKILL)
        await running.process.wait()
        ledger = sqlite3.connect(lab.state / "ledger.sqlite3")
        (standing,) = ledger.execute("SELECT count(*) FROM scan WHERE state = 'done'").fetchone()
        ledger.close()
        assert standing >= 10, "what was not sent again still has its verdict"
        done = await lab.run("resume", *FAST, "--json")
    assert done.code == 0
    assert {row["engine_version"] for row in lab.rows_of(30)} == {NEWER}
    assert done.summary["rescan"]["judged"] == 30


async def test_exactly_one_choice_is_wanted(lab: Lab) -> None:
    nothing = await lab.run("rescan", "--all")
    assert (nothing.code, "no ledger" in nothing.err) == (5, True)
    for args, said in (
        ((), "exactly one of --engine-before, --expired, --failed, --verdict, --all"),
        (("--all", "--failed"), "exactly one of"),
        (("--verdict", "nice"), "'nice' is not one of malicious, suspicious, benign"),
        (("--all", "--yes"), "--yes goes on after a --sample"),
        (("--engine-before", "old"), "--engine-before"),
    ):
        done = await lab.run("rescan", *args)
        assert done.code == 2, args
        assert said in done.err


async def test_what_the_same_engine_tells_again_is_not_billed(lab: Lab, port: int) -> None:
    skills(lab.inputs, 3, "fine")
    async with lab.service(port=port) as service:
        await lab.scan(service, "in", "--daily-budget", "6")
        first = billed(lab), await used(service)
        metrics = lab.path / "metrics.prom"
        done = await rescan(
            lab,
            service,
            "--all",
            "--daily-budget",
            "6",
            "-o",
            lab.report,
            "--json",
            "--metrics-textfile",
            metrics,
        )
        again = await rescan(lab, service, "--all", "--daily-budget", "6", "--json")
        second = billed(lab), await used(service)
    assert first == second == (3, 3)
    assert (done.code, again.code) == (0, 0), "a second and a third time, within a budget for two"
    assert done.summary["requests"]["CreateSkillScan"] == 3
    assert done.summary["billed_files"] == again.summary["billed_files"] == 0
    rows = lab.rows()
    assert [(row["outcome"], row["notes"], row["skill"]["file_count"]) for row in rows] == [
        ("scanned", ["told-again"], 1)
    ] * 3
    (counted,) = [
        line for line in metrics.read_text().splitlines() if line.startswith("batchscan_billed_files_total{")
    ]
    assert float(counted.split()[-1]) == 0


async def used(service: Service) -> int:
    """What the account was billed."""
    return (await service.engine._store.account()).used_units


def billed(lab: Lab) -> int:
    """What the ledger says was spent on this day, and no file is reserved."""
    with sqlite3.connect(lab.state / "ledger.sqlite3") as ledger:
        query = "SELECT sum(spent), sum(reserved) FROM purse WHERE name LIKE 'day %'"
        spent, reserved = ledger.execute(query).fetchone()
    assert reserved == 0
    return int(spent)
