"""Whatever the service does wrong, each row says what is true: the right verdict, or why there is none."""

import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from torture_checks import Tree, check_report, make_tree, promise
from torture_lab import Lab, Server

REFUSED = {"http-413": "Create:http=413", "hash-mismatch": "Create:wrong-hash=0"}
"""Codes of rows that one fault alone explains, and that fault: the file is given up at once."""

EXPLAINED = frozenset({*REFUSED, "InvalidParameterValue", "scan-failed", "not-found"})
SPENT = frozenset({"bad-reply", "connection-lost", "http-5xx", "InternalError", "reply-too-large", "timeout"})
"""What a row may say after the last of its attempts met a fault as well."""


class Case(NamedTuple):
    """One fault alone. ``code`` is what the rows of those that meet it say; None: they have verdicts."""

    name: str
    drill: str
    code: str | None = None


def _twice(target: str) -> list[Case]:
    """What can go wrong with any answer: the first four of an action."""
    kinds = {
        "refused": "InternalError",
        "reset before it was processed": "reset-before",
        "reset after it was processed": "reset-after",
        "slow head": "delay=1.5",
        "half a body": "truncate",
        "500": "http-500",
        "502 with JSON": "http-502-json",
        "503": "http-503",
        "429": "http-429",
        "429 with JSON": "http-429-json",
        "wrong type": "content-type",
        "wrong charset": "content-type=text/plain; charset=x",
        "invalid JSON": "bad-json",
        "no Response": "no-response",
        "huge body": "huge=16",
        "throttled": "RequestLimitExceeded",
    }
    return [Case(f"{target}: {name}", f"{target}:{kind}*4") for name, kind in kinds.items()]


MATRIX = (
    *_twice("Create"),
    *_twice("Result"),
    Case("Create: 413", "Create:http-413*4", "http-413"),
    Case("Create: refused for its content", "Create:InvalidParameterValue*4", "InvalidParameterValue"),
    Case("Create: another hash", "Create:wrong-hash*4", "hash-mismatch"),
    Case("FAILED in the answer", "Result:failed*4"),
    Case("NOT_FOUND after acceptance", "Result:not-found*4"),
    Case("FAILED twice, then SUCCESS", "Judge:failed*2"),
    Case("FAILED for ever", "Judge:failed", "scan-failed"),
    Case("throttling storm", "Create:RequestLimitExceeded*24"),
)


async def matrix(path: Path, *, skills: int = 8) -> Counter[str]:
    """Each fault alone: exit code, rows and codes are as they should be."""
    figures: Counter[str] = Counter()
    for number, case in enumerate(MATRIX):
        lab = Lab(path / f"{number:02}")
        tree = make_tree(lab.path / "in", skills, first=number * 1000, mixed=False)
        server = Server(lab.path / "server")
        await server.start(case.drill)
        try:
            code, program = await lab.run(*lab.scan(tree, server))
            failures = frozenset() if case.code is None else frozenset({case.code})
            rows = check_report(lab.report, tree, lab.path, failures=failures)
        finally:
            lab.end()
            await server.stop()
        failed = sum(row["verdict"] is None for row in rows.values())
        promise((failed > 0) == (case.code is not None), f"{case.name}: {failed} failed rows")
        promise(code == (3 if failed else 0), f"{case.name}: exit {code}: {program.err}")
        promise(server.faults(), f"{case.name}: never happened")
        figures += Counter({"cases": 1, "inputs": len(rows), "faults": server.faults().total()})
    figures += await slow_body(path / "drip", skills=skills)
    figures += await clock(path / "clock", skills=skills)
    return figures + await never_ready(path / "never", skills=skills)


async def slow_body(path: Path, *, skills: int) -> Counter[str]:
    """Answers that come a few bytes at a time are waited for."""
    lab, server = Lab(path), Server(path / "server")
    tree = make_tree(path / "in", skills, first=700_000, mixed=False)
    await server.start()
    try:
        await server.tell("drip", count=4)
        code, program = await lab.run(*lab.scan(tree, server))
        promise(code == 0, f"exit {code}: {program.err}")
        check_report(lab.report, tree, path)
        promise(set(server.creates().values()) == {1}, "submitted again")
    finally:
        lab.end()
        await server.stop()
    return Counter({"cases": 1, "inputs": tree.inputs})


async def clock(path: Path, *, skills: int) -> Counter[str]:
    """A service whose clock is a quarter of an hour off, then right, then off again: no file is lost."""
    lab, server = Lab(path), Server(path / "server")
    tree = make_tree(path / "in", skills, first=750_000, mixed=False)
    try:
        await server.start(skew_s=900)
        program = await lab.start(*lab.scan(tree, server, "--rate", "4"))
        for skew_s in (0, -900):
            await server.taken(len(server.arrived()) + 1, program)
            await server.stop()
            await server.start(skew_s=skew_s)
        code = await program.code()
        promise(code == 0, f"exit {code}: {program.err}")
        check_report(lab.report, tree, path)
    finally:
        lab.end()
        await server.stop()
    return Counter({"cases": 1, "inputs": tree.inputs})


async def never_ready(path: Path, *, skills: int) -> Counter[str]:
    """Verdicts that do not come: pending rows at the deadline, and nothing is submitted anew for them."""
    lab, server = Lab(path), Server(path / "server")
    tree = make_tree(path / "in", skills, first=800_000, mixed=False)
    await server.start("Judge:delay=600")
    try:
        code, program = await lab.run(*lab.scan(tree, server, "--deadline", "1s"))
        promise(code == 3, f"exit {code}: {program.err}")
        rows = check_report(lab.report, tree, path, failures=frozenset({"no-verdict-yet"}))
        promise({row["outcome"] for row in rows.values()} == {"pending"}, "not pending")
        await server.kill()
        await server.start()
        code, program = await lab.run(*lab.scan(tree, server), limit_s=400)
        promise(code == 0, f"exit {code}: {program.err}")
        check_report(lab.report, tree, path)
        promise(set(server.creates().values()) == {1}, "submitted again")
    finally:
        lab.end()
        await server.stop()
    return Counter({"cases": 1, "inputs": tree.inputs})


def storm_drill(share: float, seed: int, *, gentle: bool = False) -> str:
    """All faults at once: of the requests of each action, this share meets one."""
    creates = [
        *("InternalError", "RequestLimitExceeded", "http-500", "http-502-json", "http-503", "http-429"),
        *("reset-before", "reset-after", "truncate", "content-type", "bad-json", "no-response"),
        *("wrong-hash", "http-413", "InvalidParameterValue"),
    ]
    results = [
        *("RequestLimitExceeded", "http-429-json", "reset-before", "truncate", "content-type", "bad-json"),
        *("no-response", "not-found", "failed", "http-502"),
    ]
    if not gentle:
        creates += ["delay=0.5", "delay=2"]
        results += ["delay=0.5", "InternalError", "http-503-json"]
    rules = []
    for target, kinds in (("Create", creates), ("Result", results)):
        # Of the rules that would fire the first one does, so the shares are not quite added up.
        each = 1.0 - (1.0 - share) ** (1.0 / len(kinds))
        rules += [f"{target}:{kind}@{each:.6f}" for kind in kinds]
    rules += ["Judge:failed*2@0.02"]
    if not gentle:
        rules += ["Create:huge=16@0.002"]
    return ",".join((*rules, f"seed={seed}"))


async def storm(
    path: Path, *, files: int, seed: int, share: float = 0.15, gentle: bool = False
) -> Counter[str]:
    """Many files through all faults, a dying server and a jumping clock, and then once more in peace."""
    lab, server = Lab(path), Server(path / "server")
    tree = make_tree(path / "in", files, first=1_000_000, mixed=False)
    drill = storm_drill(share, seed, gentle=gentle)
    began = time.monotonic()
    await server.start(drill)
    try:
        program = await lab.start(*lab.scan(tree, server))
        if not gentle:
            for part, skew_s in ((0.3, 900.0), (0.6, 0.0)):
                await server.taken(round(part * files), program)
                await server.kill()
                await server.start(drill, skew_s=skew_s)
        code = await program.code(1500)
        took = time.monotonic() - began
        failed = _check_failures(lab, tree, server)
        promise(code == (3 if failed else 0), f"exit {code}: {program.err}")
        requests = program.summary["requests"]
        await server.stop()
        await server.start()
        peace = path / "peace.jsonl"
        code, calm = await lab.run(*lab.scan(tree, server, report=peace))
        promise(code == 0, f"exit {code}: {calm.err}")
        check_report(peace, tree, path)
    finally:
        lab.end()
        await server.stop()
    faults = server.faults()
    return Counter(
        {
            "inputs": tree.inputs,
            "rows with a verdict": tree.inputs - failed.total(),
            "rows that say why not": failed.total(),
            "faults": faults.total(),
            "requests per 1,000 files": round(1000 * sum(requests.values()) / files),
            "submissions per 1,000 files": round(1000 * requests["CreateSkillScan"] / files),
            "storm, s": round(took),
        }
    )


def _check_failures(lab: Lab, tree: Tree, server: Server) -> Counter[str]:
    """No row without a verdict but for a fault that explains it; returns them by code."""
    rows = check_report(lab.report, tree, lab.path, failures=EXPLAINED | SPENT)
    failed = Counter(row["error"]["code"] for row in rows.values() if row["verdict"] is None)
    faults = server.faults()
    for code, fault in REFUSED.items():
        promise(failed[code] <= faults[fault], f"{failed[code]} rows {code} after {faults[fault]} faults")
    spent = sum(failed[code] for code in SPENT)
    promise(spent <= max(3, tree.inputs // 200), f"{spent} files were given up: {failed}")
    return failed
