"""The promises of the design that can be seen from outside, one test each; the numbers are the design's."""

import asyncio
import base64
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cli_lab import (
    FAST,
    POLLS,
    SECRET_KEY,
    TOKEN,
    Lab,
    by_path,
    code_of,
    digest,
    skill,
    skills,
    until,
)

sys.path.insert(0, str(Path(__file__).parent.parent))
import hostile_zips

CAP = 20


async def test_invariant_1_every_input_has_one_row(lab: Lab) -> None:
    """Verdicts, duplicates, failures, broken lists, missing files, pending ones: also over a kill."""
    skills(lab.inputs, 12)
    (lab.inputs / "copy.zip").write_bytes((lab.inputs / "skill-0003.zip").read_bytes())
    (lab.inputs / "broken.zip").write_bytes(skill("broken"))
    (lab.inputs / "text.zip").write_text("no ZIP")
    (lab.inputs / "nothing.zip").touch()
    listed = ["in/skill-0001.zip", "in/skill-0001.zip", "nosuch.zip", "", "# a comment", "in"]
    (lab.path / "list.txt").write_text("\n".join(listed) + "\n")
    inputs = 16 + 4  # in the directory and in the list
    async with lab.service() as service:
        service.detector.gate.clear()
        scan = ("in", "--manifest", "list.txt", "-o", lab.report)
        running = await lab.start("scan", *scan, "--endpoint", service.url, *FAST)
        await until(lambda: len(service.creates) >= 3)
        running.send(signal.SIGKILL)
        await running.process.wait()
        left = await lab.scan(service, *scan, "--no-wait", "--json")
        pending = [row for row in lab.rows_of(inputs) if row["outcome"] == "pending"]
        service.detector.gate.set()
        done = await lab.scan(service, *scan, "--json")
    assert left.summary["counts"]["pending"] == len(pending) == 16
    outcomes = Counter(row["outcome"] for row in lab.rows_of(inputs))
    assert outcomes == {"scanned": 15, "failed": 1, "rejected": 4}
    assert done.summary["inputs"] == inputs
    assert done.code == 3


async def test_invariant_2_nothing_is_submitted_twice(lab: Lab) -> None:
    """Not by two processes at the same time, nor by the run after them, nor for duplicates."""
    for path in skills(lab.inputs, 60):
        path.with_name(f"copy-of-{path.name}").write_bytes(path.read_bytes())
    async with lab.service(drill="Create:delay=0.02") as service:
        both = await asyncio.gather(
            *(lab.scan(service, "in", "-o", lab.path / name, "--json") for name in ("a", "b"))
        )
        again = await lab.scan(service, "in", "-o", lab.report, "--json")
    assert [done.code for done in (*both, again)] == [0, 0, 0]
    for name in ("a", "b", "report.jsonl"):
        rows = lab.rows_of(120, lab.path / name)
        assert {row["outcome"] for row in rows} <= {"scanned", "reused"}
        assert sum(row["duplicate_of"] is not None for row in rows) == 60
    assert len(service.creates) == 60
    assert set(service.creates.values()) == {1}
    assert again.summary["requests"] == {}


@asynccontextmanager
async def loop_lag() -> AsyncIterator[list[float]]:
    """How late this process' event loop ran at most: by so much an arrival may be noted too late."""
    loop = asyncio.get_running_loop()
    worst = [0.0]

    async def beat() -> None:
        while True:
            due = loop.time() + 0.002
            await asyncio.sleep(0.002)
            worst[0] = max(worst[0], loop.time() - due)

    task = asyncio.create_task(beat())
    try:
        yield worst
    finally:
        task.cancel()


async def test_invariant_3_the_cap_holds_in_every_sliding_second(lab: Lab) -> None:
    """Two processes share it, and the service, which has the same cap, never refuses one."""
    paths = skills(lab.inputs, 300)
    for number, path in enumerate(paths):
        (lab.inputs / str(number % 2)).mkdir(exist_ok=True)
        path.rename(lab.inputs / str(number % 2) / path.name)
    async with lab.service(site="intl") as service:
        capped = ("--json", "--endpoint", service.url, *POLLS, "--rate", str(CAP))
        async with loop_lag() as lag:
            done = await asyncio.gather(*(lab.run("scan", f"in/{n}", *capped) for n in range(2)))
        times = sorted(service.engine.arrivals("CreateSkillScan"))
    assert [one.code for one in done] == [0, 0]
    assert service.creates == dict.fromkeys(service.creates, 1)
    assert len(service.creates) == 300
    # A refusal is possible where an arrival was noted late; the one that is tried again counts here too.
    spans = [later - earlier for earlier, later in zip(times, times[CAP:], strict=False)]
    assert min(spans) > 1.0 - lag[0], (min(spans), lag[0], len(times))


async def test_invariant_4_what_a_row_says_is_in_the_ledger(lab: Lab) -> None:
    """At a kill in the middle, no row is ahead of the ledger."""
    skills(lab.inputs, 80)
    async with lab.service(drill="Result:delay=0.02") as service:
        running = await lab.start("scan", "in", "-o", lab.report, "--endpoint", service.url, *FAST)
        await until(lambda: lab.report.exists() and lab.report.read_bytes().count(b"\n") > 10)
        running.send(signal.SIGKILL)
        await running.process.wait()
        whole, _, _ = lab.report.read_bytes().rpartition(b"\n")
        lab.report.with_name("copy.jsonl").write_bytes(whole + b"\n")
        rows = lab.rows(lab.report.with_name("copy.jsonl"))
        ledger = sqlite3.connect(lab.state / "ledger.sqlite3")
        known = {found.hex() for (found,) in ledger.execute("SELECT digest FROM verdict")}
        ledger.close()
    assert len(rows) > 10
    assert {row["sha256"] for row in rows} <= known


async def test_invariant_5_failure_is_not_a_verdict(lab: Lab) -> None:
    """A detector that breaks, levels nobody knows, garbled answers: neither benign nor malicious."""
    for text in ("broken", "strange", "fine", "evil"):
        skills(lab.inputs / text, 1, text)
    async with lab.service(drill="Create:content-type*1,Result:bad-json*1,Result:http-503*1") as service:
        done = await lab.scan(service, "in", "-o", lab.report, "--fail-on", "suspicious", "--json")
        sole = await lab.scan(service, "in/broken", "--fail-on", "suspicious", "--json")
    rows = {row["path"].split("/")[0]: row for row in lab.rows_of(4)}
    assert {name: row["verdict"] for name, row in rows.items()} == {
        "broken": None,
        "strange": None,
        "fine": "benign",
        "evil": "malicious",
    }
    assert (rows["broken"]["outcome"], code_of(rows["broken"])) == ("failed", "scan-failed")
    assert rows["strange"]["outcome"] in {"failed", "pending"}
    assert (done.code, sole.code) == (3, 3), "incomplete, which is worse than malicious"
    assert sole.summary["verdicts"] == {"malicious": 0, "suspicious": 0, "benign": 0}


async def test_invariant_6_an_answer_for_other_bytes_is_none(lab: Lab) -> None:
    skills(lab.inputs, 3)
    async with lab.service(drill="Create:wrong-hash*1") as service:
        done = await lab.scan(service, "in", "-o", lab.report, "--json")
    rows = lab.rows_of(3)
    for row in rows:
        assert row["sha256"] == digest(lab.inputs / row["path"])
    assert service.creates.keys() == {row["sha256"] for row in rows}
    refused = [row for row in rows if row["outcome"] != "scanned"]
    assert len(refused) == done.summary["counts"]["failed"] + done.summary["counts"]["pending"]
    assert all(row["verdict"] is None for row in refused)
    assert refused or max(service.creates.values()) > 1, "the answer was not believed"


async def test_invariant_7_suspicious_is_not_rejected(lab: Lab) -> None:
    """Only what the service cannot take is not sent; the rest is sent, whole, and noted on its row."""
    noted = {
        "traversal": "path-traversal",
        "symlink": "symlink",
        "encrypted": "encrypted",
        "flat_bomb": "zip-bomb-ratio",
        "nested": "nested-archive",
        "no_skill_md": "no-skill-md",
    }
    lab.inputs.mkdir()
    for name in (*noted, "text_file", "truncated"):
        (lab.inputs / f"{name}.zip").write_bytes(hostile_zips.CORPUS[name]())
    (lab.inputs / "nothing.zip").touch()
    (lab.inputs / "large.zip").write_bytes(bytes(7_000_001))
    async with lab.service() as service:
        await lab.scan(service, "in", "-o", lab.report)
    rows = by_path(lab.rows_of(len(noted) + 4))
    for name, note in noted.items():
        assert note in rows[f"{name}.zip"]["notes"]
        assert rows[f"{name}.zip"]["outcome"] == "scanned"
    assert service.creates == {digest(lab.inputs / f"{name}.zip"): 1 for name in noted}
    rejected = {path: code_of(row) for path, row in rows.items() if row["outcome"] == "rejected"}
    assert rejected == {
        "text_file.zip": "not-a-zip",
        "truncated.zip": "not-a-zip",
        "nothing.zip": "empty",
        "large.zip": "too-large",
    }


DRILL = ",".join(
    [
        *(f"Create:{fault}*2@0.2" for fault in ("InternalError", "RequestLimitExceeded", "http-503")),
        *(f"Create:{fault}*2@0.2" for fault in ("reset-before", "reset-after", "truncate", "content-type")),
        *(f"Create:{fault}*2@0.2" for fault in ("bad-json", "no-response", "wrong-hash", "http-502-json")),
        *(f"Create:{fault}*2@0.2" for fault in ("AuthFailure.SignatureExpire", "InvalidParameterValue")),
        *(
            f"Result:{fault}*2@0.2"
            for fault in ("InternalError", "ResourceNotFound", "reset-before", "truncate")
        ),
        *(f"Result:{fault}*2@0.2" for fault in ("failed", "not-found", "bad-json", "RequestLimitExceeded")),
        "seed=3",
    ]
)


async def test_invariant_8_secrets_stay_secret(lab: Lab) -> None:
    """Whatever goes wrong, at the most talkative level: neither keys nor contents nor links get out."""
    rng = random.Random(8)
    marker = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=40))
    skills(lab.inputs, 60, "xxx")
    for path in lab.inputs.iterdir():
        path.write_bytes(skill(f"{marker} {path.name}"))
    key = {"TENCENTCLOUD_TOKEN": TOKEN}
    loud = ("--log-level", "debug")
    async with lab.service(drill=DRILL, token=TOKEN) as service:
        done = await lab.scan(service, "in", "-o", lab.report, *loud, env=key)
        bad = await lab.scan(
            service, "in", "--rehash", "--max-age", "0", *loud, env={"TENCENTCLOUD_TOKEN": f"{TOKEN}X"}
        )
        codes = dict(service.engine.codes)
        links = set(service.links)
    gone = await lab.run(
        *("scan", "in", "--max-age", "0", *loud, "--endpoint", service.url),
        env={**key, "BATCHSCAN_UNREACHABLE_S": "0.2"},
    )
    assert done.code in {0, 3}, done.err
    assert (bad.code, gone.code) == (4, 4)
    assert codes["drill"] >= 10, codes
    assert links, "report links were given out"

    printed = "\n".join(part for one in (done, bad, gone) for part in (one.out, one.err))
    texts = {"stdout and stderr": printed.encode()}
    files = [path for path in (lab.report, *lab.state.rglob("*")) if path.is_file()]
    texts |= {path.name: path.read_bytes() for path in files}
    assert "ledger.sqlite3" in texts
    content = base64.b64encode((lab.inputs / "xxx-0000.zip").read_bytes())[:60].decode()
    secrets = {
        *("Authorization", "Signature=", "TC3-HMAC-SHA256 C", SECRET_KEY, TOKEN, marker, content),
        *(link.partition("?")[2] for link in links),
    }
    for name, text in texts.items():
        for secret in secrets:
            assert secret.encode() not in text, (name, secret)
    lab.rows_of(60)


async def test_invariant_10_every_wait_has_a_limit(lab: Lab) -> None:
    """A verdict that never comes, and a service that answers nothing: both end by themselves."""
    skills(lab.inputs, 2)
    async with lab.service() as service:
        service.detector.gate.clear()
        began = time.monotonic()
        done = await lab.scan(service, "in", "-o", lab.report, "--deadline", "500ms", "--json")
        assert time.monotonic() - began < 30
    assert done.code == 3
    assert done.summary["counts"]["pending"] == 2
    assert {code_of(row) for row in lab.rows_of(2)} == {"no-verdict-yet"}
