"""Stopped and killed: the run goes on where it was, and nothing is lost, doubled or changed by it."""

import asyncio
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from cli_lab import FAST, POLLS, Done, Lab, Running, Service, code_of, skills, until

KILLS = 6


def verdicts(rows: list[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    kept = ("sha256", "verdict", "score", "primary_rule", "engine_version", "duplicate_of")
    return {row["path"]: (*(row[key] for key in kept), code_of(row)) for row in rows}


def mixed(directory: Path) -> int:
    """Inputs of all kinds; returns how many."""
    skills(directory, 70, "fine")
    skills(directory, 20, "evil")
    skills(directory, 10, "odd")
    for path in sorted(directory.glob("fine-000*")):
        (directory / f"copy-of-{path.name}").write_bytes(path.read_bytes())
    for number in range(3):
        (directory / f"text-{number}.zip").write_text("no ZIP")
    return len(list(directory.iterdir()))


async def killed(running: Running, service: Service, after: int, rng: random.Random) -> bool:
    """Kill a little later than so many further calls have arrived; False when it ended before."""
    goal = service.arrivals + after
    while service.arrivals < goal:
        if running.process.returncode is not None:
            return False
        await asyncio.sleep(0.002)
    await asyncio.sleep(rng.random() * 0.02)
    running.send(signal.SIGKILL)
    await running.process.wait()
    return True


def between_send_and_commit(lab: Lab) -> Counter[str]:
    """What the dead process had claimed for submission and had no answer for, by the ledger."""
    ledger = sqlite3.connect(lab.state / "ledger.sqlite3")
    try:
        found = ledger.execute("SELECT digest FROM scan WHERE state = 'submitting'").fetchall()
    finally:
        ledger.close()
    return Counter(digest.hex() for (digest,) in found)


async def test_killed_again_and_again(lab: Lab) -> None:
    """Rows are inputs exactly once; only what was between send and commit at a kill is sent again."""
    rng = random.Random(20260501)
    inputs = mixed(lab.inputs)
    calm = lab.path / "calm.jsonl"
    async with lab.service() as service:
        await lab.scan(service, "in", "-o", calm, "--state-dir", "calm")
    expected = verdicts(lab.rows_of(inputs, calm))

    async with lab.service(
        drill="Create:delay=0.03,Result:delay=0.02", store_path=lab.path / "second.sqlite3"
    ) as service:
        kills = 0
        exposed: Counter[str] = Counter()
        while kills < KILLS:
            command = (
                ("scan", "in", "-o", str(lab.report), "--endpoint", service.url)
                if kills % 2 == 0
                else ("resume",)
            )
            running = await lab.start(*command, *FAST)
            if not await killed(running, service, rng.choice([1, 7, 15, 30]), rng):
                break
            kills += 1
            exposed += between_send_and_commit(lab)
        done = await lab.scan(service, "in", "-o", lab.report, "--json")
    assert kills == KILLS, "the run ended before it was killed often enough"
    assert done.code == 3, "the three that are no ZIP"
    assert verdicts(lab.rows_of(inputs)) == expected
    assert set(service.creates) == {row["sha256"] for row in lab.rows() if row["verdict"]}
    repeated = service.creates - Counter(dict.fromkeys(service.creates, 1))
    assert repeated <= exposed, (repeated, exposed)


async def started(lab: Lab, service: Service, *args: str) -> Running:
    """A scan of 40 inputs that has submitted some and has no verdict yet."""
    skills(lab.inputs, 40)
    service.detector.gate.clear()
    running = await lab.start(
        "scan", "in", "-o", lab.report, "--json", "--endpoint", service.url, *POLLS, "--rate", "20", *args
    )
    await until(lambda: len(service.creates) >= 5)
    return running


async def finished(lab: Lab, service: Service) -> Done:
    service.detector.gate.set()
    done = await lab.run("resume", "--json", *FAST)
    assert done.code == 0
    assert {row["outcome"] for row in lab.rows_of(40)} == {"scanned"}
    assert set(service.creates.values()) == {1}, "a drained run knows all that it has sent"
    return done


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_the_first_signal_drains(lab: Lab, number: signal.Signals, code: int) -> None:
    async with lab.service() as service:
        running = await started(lab, service)
        running.send(number)
        began = time.monotonic()
        done = await running.done(10)
        assert time.monotonic() - began < 10
        assert done.code == code
        assert done.summary["state"] == "interrupted"
        assert "a second signal stops at once" in done.err
        resumed = await finished(lab, service)
    assert resumed.summary["run_id"] == done.summary["run_id"]


async def test_the_second_signal_stops_at_once(lab: Lab) -> None:
    """Although a submission is under way that the service does not answer."""
    async with lab.service() as service:
        running = await started(lab, service)
        service.hold()
        sent = len(service.creates)
        await until(lambda: len(service.creates) > sent)
        running.send(signal.SIGTERM)
        await asyncio.sleep(0.5)
        assert running.process.returncode is None, "it waits for the answer"
        began = time.monotonic()
        running.send(signal.SIGTERM)
        done = await running.done(10)
        assert time.monotonic() - began < 3
        assert done.code == 143
        assert done.out == ""
        assert "batchscan resume" in done.err
        service.release()
        service.detector.gate.set()
        resumed = await lab.run("resume", "--json", *FAST)
    assert resumed.code == 0
    assert {row["outcome"] for row in lab.rows_of(40)} == {"scanned"}
    assert sum(service.creates.values()) <= 40 + 16


async def test_a_signal_while_the_service_is_silent_and_while_a_list_is_read(lab: Lab) -> None:
    """Drained within 10 s, although nobody answers; and no list on standard input is waited for."""
    import os

    skills(lab.inputs, 2)
    ours, theirs = os.pipe()
    async with lab.service() as service:
        service.hold()
        running = await lab.start("scan", "in", "-o", lab.report, "--json", "--endpoint", service.url, *FAST)
        reading = await lab.start("scan", "-", stdin=ours)
        await until(lambda: len(service.creates) == 2)
        running.send(signal.SIGINT)
        await until((lab.state / "stdin").exists)
        reading.send(signal.SIGINT)
        done, read = await asyncio.gather(running.done(11), reading.done(11))
        service.release()
        resumed = await lab.run("resume", "--json", *FAST)
    os.close(ours)
    os.close(theirs)
    assert (done.code, read.code, resumed.code) == (130, 130, 0)
    lab.rows_of(2)


async def test_the_engine_runs_until_it_is_stopped(lab: Lab) -> None:
    keyless = {"TENCENTCLOUD_SECRET_ID": None, "TENCENTCLOUD_SECRET_KEY": None}
    engine = await asyncio.create_subprocess_exec(
        *("sh", "-c", 'exec "$0" -m batchscan engine --port 0', sys.executable),
        stdout=asyncio.subprocess.PIPE,
        env=lab.environment(keyless),
        start_new_session=True,
    )
    assert engine.stdout is not None
    try:
        async with asyncio.timeout(30):
            url, *exports = [(await engine.stdout.readline()).decode().strip() for _ in range(3)]
        key = dict(line.removeprefix("export ").split("=", 1) for line in exports)
        samples = Path(__file__).parent.parent / "samples" / "malicious"
        name = min(samples.glob("*.zip"))
        done = await lab.run("scan", name, "-o", lab.report, "--endpoint", url, *FAST, env=key)
        engine.send_signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            code = await engine.wait()
    finally:
        if engine.returncode is None:
            engine.kill()
    assert (done.code, code) == (0, 143)
    assert [row["verdict"] for row in lab.rows_of(1)] == ["malicious"]
