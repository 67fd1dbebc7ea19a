"""`--budget` and `--daily-budget`: files in ZIPs are what is billed, and no more than was allowed."""

import asyncio
import io
import signal
import zipfile
from pathlib import Path

from cli_lab import Lab, Service, code_of, skills, until

from batchscan.embedded.detection import Detection

DAILY = "--daily-budget"


def sized(directory: Path, sizes: list[int], text: str = "fine") -> None:
    """ZIPs that hold so many files."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, size in enumerate(sizes):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for part in range(size):
                archive.writestr(f"{'SKILL' if part == 0 else part}.md", f"{text} {number} {part}")
        (directory / f"{text}-{number:03}.zip").write_bytes(buffer.getvalue())


def bill_all_files(service: Service) -> None:
    """Let the service count as the vendor says: each file in the ZIP."""

    async def detect(content: bytes) -> Detection:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            count = len(archive.namelist())
        return Detection(risk_level="benign", score=100, file_count=count)

    service.detector.detect = detect  # type: ignore[method-assign]  # a service that counts otherwise


async def used(service: Service) -> int:
    """What the account was billed."""
    return (await service.engine._store.account()).used_units


async def test_a_run_stops_at_its_budget_says_what_is_left_and_is_resumed_with_more(lab: Lab) -> None:
    sized(lab.inputs, [8, 1, 5, 2, 3])
    async with lab.service() as service:
        bill_all_files(service)
        done = await lab.scan(service, "in", "-o", lab.report, "--budget", "7", "--json")
        assert done.code == 8
        spent = await used(service)
        rows = lab.rows_of(5)
        again = await lab.run("resume", "--budget", str(19 - spent), "--json")
        assert again.code == 0
        assert await used(service) == 19
    sizes = {f"fine-{number:03}.zip": size for number, size in enumerate([8, 1, 5, 2, 3])}
    sent = {row["path"] for row in rows if row["outcome"] == "scanned"}
    left = {path: size for path, size in sizes.items() if path not in sent}
    assert spent == sum(sizes[path] for path in sent)
    assert min(left.values()) > 7 - spent >= 0, "nothing of what is left fits"
    for row in rows:
        if row["path"] in left:
            assert (row["outcome"], code_of(row)) == ("pending", "budget")
            size = left[row["path"]]
            assert f"it holds {size} files, and the budget has {7 - spent} left" in row["error"]["message"]
    assert done.summary["budget"] == {
        "allowance": 7,
        "spent": spent,
        "reserved": 0,
        "left": 7 - spent,
        "unaffordable_inputs": len(left),
        "unaffordable_files": 19 - spent,
    }
    assert (done.summary["state"], done.summary["error"]["code"]) == ("incomplete", "budget")
    assert again.summary["budget"]["left"] == 0
    assert all(row["outcome"] == "scanned" for row in lab.rows_of(5))


async def test_what_is_billed_less_than_it_looked_is_spent_on_something_else(lab: Lab) -> None:
    """Each ZIP holds two files, and the service bills one."""
    sized(lab.inputs, [2] * 8)
    async with lab.service() as service:
        done = await lab.scan(service, "in", "-o", lab.report, "--budget", "5", "--json")
        assert (done.code, await used(service)) == (8, 4)
    assert done.summary["budget"]["spent"] == 4
    assert done.summary["counts"]["scanned"] == 4


async def test_a_scan_that_fails_is_not_billed(lab: Lab) -> None:
    skills(lab.inputs, 2, "broken")
    skills(lab.inputs, 4, "fine")
    async with lab.service() as service:
        done = await lab.scan(service, "in", "-o", lab.report, "--budget", "4", "--json")
    assert done.code == 3, "the broken ones failed; the budget was enough for the others"
    assert done.summary["counts"]["scanned"] == 4
    assert done.summary["budget"]["spent"] == 4


async def test_processes_share_the_day(lab: Lab) -> None:
    for name in ("a", "b", "c"):
        skills(lab.inputs / name, 20, name)
    async with lab.service() as service:
        done = await asyncio.gather(
            *(lab.scan(service, f"in/{name}", DAILY, "25", "--json") for name in ("a", "b", "c"))
        )
        assert await used(service) == 25
        assert {one.code for one in done} <= {0, 8}
        assert 8 in {one.code for one in done}
        later = await lab.scan(service, "in", DAILY, "25", "--json")
        assert (later.code, await used(service)) == (8, 25)
        more = await lab.scan(service, "in", "--json", env={"BATCHSCAN_DAILY_BUDGET": "60"})
        assert (more.code, await used(service)) == (0, 60)
    assert sum(one.summary["counts"]["scanned"] for one in done) == 25


async def test_an_interrupted_run_goes_on_with_what_is_left(lab: Lab) -> None:
    skills(lab.inputs, 12)
    async with lab.service() as service:
        service.detector.gate.clear()
        running = await lab.start(
            *("scan", "in", "-o", lab.report, "--endpoint", service.url, "--budget", "6"),
            *("--first-poll", "50ms", "--poll-interval", "100ms", "--rate", "0"),
        )
        await until(lambda: len(service.creates) == 6)
        running.send(signal.SIGKILL)
        await running.process.wait()
        service.detector.gate.set()
        done = await lab.run("resume", "--json")
        assert (done.code, await used(service)) == (8, 6)
        anew = await lab.run("resume", "--json")
        assert (anew.code, await used(service)) == (0, 12), "a run that has ended has its budget anew"


async def test_nothing_is_sent_without_money_and_a_budget_is_a_number(lab: Lab) -> None:
    skills(lab.inputs, 2)
    async with lab.service() as service:
        broke = await lab.scan(service, "in", "-o", lab.report, "--budget", "0")
        wrong = await lab.scan(service, "in", "--budget", "-1")
        worse = await lab.scan(service, "in", DAILY, "lots")
        assert service.creates == {}
    assert (broke.code, wrong.code, worse.code) == (8, 2, 2)
    assert "budget: 0 of 0 spent, 0 reserved, 0 left; not sent for it: 2 skills with 2 files" in broke.out
    assert "--daily-budget" in worse.err
    assert {code_of(row) for row in lab.rows_of(2)} == {"budget"}
