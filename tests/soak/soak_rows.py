"""The runs of a soak and their rows: each input has one row, and that says what its bytes deserve.

Which files there were, and when, is known from the harness's own notes; what each content deserves from a
scan of all of them afterwards, in peace, at an endpoint without faults.
"""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soak_lab import read_notes
from soak_left import ENDS, Findings, Left, Run

SLACK_S = 0.05
"""A file's time of arrival is noted around its renaming, beside a clock of another process."""

Verdict = tuple[str, int, str | None]


@dataclass(frozen=True)
class Content:
    """What a path stood for, for a while, in epoch seconds."""

    sha256: str
    valid: bool
    since: float
    sure_since: float
    until: float

    def meets(self, begin: float, end: float) -> bool:
        return self.since <= end + SLACK_S and self.until >= begin - SLACK_S


def histories(work: Path) -> dict[str, list[Content]]:
    """All contents of each path, in their order."""
    notes: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for note in read_notes(work / "files.jsonl"):
        notes[note["path"]].append(note)
    found = {}
    for path, puts in notes.items():
        untils = [*(put["at"] for put in puts[1:]), float("inf")]
        found[path] = [
            Content(put["sha256"], put["valid"], put["before"], put["at"], until)
            for put, until in zip(puts, untils, strict=True)
        ]
    return found


def truth(left: Left) -> dict[str, Verdict]:
    """Judge each content in peace."""
    report = left.work / "peace.jsonl"
    if not report.exists():
        done = left.batchscan(
            *("scan", "contents", "--endpoint", "embedded", "--state-dir", "peace", "--output", report),
            *("--first-poll", "50ms", "--poll-interval", "100ms", "--rate", "0", "--quiet"),
        )
        if done.returncode:
            report.unlink(missing_ok=True)
            raise RuntimeError(f"the scan in peace ended with {done.returncode}: {done.stderr}")
    return {row["sha256"]: _verdict(row) for row in map(json.loads, report.read_text().splitlines())}


def _verdict(row: dict[str, Any]) -> Verdict:
    return row["verdict"], row["score"], row["primary_rule"]


def check_runs(left: Left, found: Findings) -> None:
    """Runs end as they should, and none for a reason of the program's own."""
    states = Counter(run.state for run in left.runs)
    found.figure("runs", ", ".join(f"{state} {count}" for state, count in sorted(states.items())))
    origins = Counter(run.origin.partition(" ")[0] for run in left.runs)
    found.figure("asked for by", ", ".join(f"{name} {count}" for name, count in sorted(origins.items())))
    asked = {note["order"] for note in left.notes("order")}
    known = {run.run_id for run in left.runs if run.origin == "api"}
    found.claim(asked == known, f"runs of the API: told {len(asked)}, in the ledger {len(known)}")
    for run in left.runs:
        fine = run.state in {"complete", "cancelled"}
        fine |= run.state == "incomplete" and run.sample is not None
        fine |= run.state == "failed" and run.problem == "nothing-matched" and run.rescan
        fine |= run.run_id == left.last_run and run.state in {"queued", "running"}
        found.claim(fine, f"run {run.run_id} of {run.origin} is {run.state}: {run.problem}")


def check_rows(left: Left, found: Findings) -> Counter[str]:
    """Each input of each run has one row, and it is right.

    Returns:
        Rows by outcome and by verdict, of all runs but the one that was stopped.
    """
    paths, right = histories(left.work), truth(left)
    counted: Counter[str] = Counter()
    found.figure("contents", len(right))
    for run in left.runs:
        rows = run.rows()
        keys = Counter((row["source"], row["path"], row["manifest_line"]) for row in rows)
        doubled = len(rows) - len(keys)
        found.claim(not doubled, f"{run.run_id}: {doubled} doubled rows")
        for row in rows:
            _check_row(run, row, paths, right, found)
        if run.state in ENDS and run.state != "failed":
            _check_inputs(run, rows, paths, found)
        if run.run_id != left.last_run:
            counted.update(row["outcome"] for row in rows)
            counted.update(row["verdict"] for row in rows if row["verdict"] is not None)
    found.figure(
        "rows", sum(counted[outcome] for outcome in ("scanned", "reused", "rejected", "failed", "pending"))
    )
    names = ("scanned", "reused", "rejected", "failed", "pending", "malicious", "suspicious", "benign")
    found.figure("of these", ", ".join(f"{name} {counted[name]:,}" for name in names))
    return counted


def _check_row(
    run: Run,
    row: dict[str, Any],
    paths: dict[str, list[Content]],
    right: dict[str, Verdict],
    found: Findings,
) -> None:
    where = f"{run.run_id}: {row['path']}"
    judged = row["outcome"] in {"scanned", "reused"}
    found.claim(judged == (row["verdict"] is not None), f"{where}: {row['outcome']}, but {row['verdict']}")
    found.claim(judged != (row["error"] is not None), f"{where}: {row['outcome']}, error {row['error']}")
    found.claim(row["outcome"] != "failed", f"{where}: failed, {row['error']}")
    sampled_out = run.sample is not None or run.state == "cancelled"
    found.claim(row["outcome"] != "pending" or sampled_out, f"{where}: pending, {row['error']}")
    place = row["path"] if row["path"].startswith("/") else f"{row['source']}/{row['path']}"
    end = float("inf") if run.ended_at is None else run.ended_at
    contents = [each for each in paths.get(place, []) if each.meets(run.queued_at, end)]
    if run.rescan:  # of what the ledger has chosen, which may be of any time before
        contents = paths.get(place, [])
    found.claim(contents, f"{where}: was not there")
    if row["sha256"] is not None:
        stood = [each for each in contents if each.sha256 == row["sha256"]]
        found.claim(stood, f"{where}: never had the content {row['sha256']} while the run went on")
        found.claim(all(each.valid for each in stood) or not judged, f"{where}: no ZIP, but {row['verdict']}")
    if judged:
        wanted = right.get(row["sha256"])
        found.claim(_verdict(row) == wanted, f"{where}: {_verdict(row)} instead of {wanted}")
    elif row["outcome"] == "rejected":
        found.claim(any(not each.valid for each in contents), f"{where}: rejected, {row['error']}")


def _check_inputs(
    run: Run, rows: list[dict[str, Any]], paths: dict[str, list[Content]], found: Findings
) -> None:
    """So many rows as inputs were found, and every file that was there all the time is among them."""
    if run.summary is not None:
        inputs, counts = run.summary["inputs"], run.summary["counts"]
        found.claim(len(rows) == inputs, f"{run.run_id}: {len(rows)} rows for {inputs} inputs")
        told = {outcome: count for outcome, count in counts.items() if count}
        found.claim(told == Counter(row["outcome"] for row in rows), f"{run.run_id}: the summary says {told}")
    if run.state == "cancelled" or run.rescan:
        return
    there = {f"{row['source']}/{row['path']}" for row in rows} | {row["path"] for row in rows}
    for source in run.sources:
        for path, contents in paths.items():
            must = path.startswith(f"{source}/") and contents[0].sure_since < run.queued_at - SLACK_S
            found.claim(not must or path in there, f"{run.run_id}: {path} has no row")
    for manifest in run.manifests:
        listed = Path(manifest).read_bytes().rstrip(b"\0").split(b"\0")
        found.claim(len(listed) == len(rows), f"{run.run_id}: {len(rows)} rows for {len(listed)} arrivals")
