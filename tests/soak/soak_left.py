"""What a soak has left in its directory, read for the checks, and where these write what they find."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from soak_lab import environment, read_notes

ENDS = {"complete", "incomplete", "cancelled", "failed"}


@dataclass
class Findings:
    """Figures for the table, and the claims that do not hold."""

    figures: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def figure(self, what: str, figure: object) -> None:
        self.figures[what] = f"{figure:,}" if isinstance(figure, int) else str(figure)

    def claim(self, held: object, otherwise: object) -> None:
        if not held:
            self.broken.append(str(otherwise))


@dataclass(frozen=True)
class Run:
    """A run of the queue, with its end and its rows."""

    run_id: str
    state: str
    origin: str
    key: str | None
    problem: str | None
    queued_at: float
    ended_at: float | None
    sources: tuple[str, ...]
    manifests: tuple[str, ...]
    rescan: bool
    sample: int | None
    summary: dict[str, Any] | None
    report: Path | None

    def rows(self) -> list[dict[str, Any]]:
        if self.report is None or not self.report.exists():
            return []
        return [json.loads(line) for line in self.report.read_text().splitlines()]


class Left:
    """One soak's directory."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.told = list(read_notes(work / "told.jsonl"))
        self.samples = list(read_notes(work / "samples.jsonl"))
        self.tasks = list(read_notes(work / "tasks.jsonl"))
        self.began = self.note("began")
        self.stopping = self.note("stopping")
        self.stopped = self.note("stopped")
        self.log = (work / "service.log").read_text()

    def note(self, name: str) -> dict[str, Any]:
        return next(note for note in self.told if name in note)

    def notes(self, name: str) -> Iterator[dict[str, Any]]:
        return (note for note in self.told if name in note)

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """Lines of the service's log; what is none is for the check of the log itself."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    @cached_property
    def runs(self) -> list[Run]:
        rows = self.select(
            "SELECT q.run_id, q.state, q.origin, q.idempotency_key, q.problem, q.queued_at, q.ended_at,"
            " q.work, r.summary, r.report FROM queue q LEFT JOIN run r ON r.run_id = q.run_id ORDER BY q.id"
        )
        return [_run(*row) for row in rows]

    @property
    def last_run(self) -> str:
        """What was under way when the service was stopped."""
        return str([note["order"] for note in self.notes("order")][-1])

    def select(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the ledger, which nobody has open any more."""
        with closing(sqlite3.connect(f"file:{self.work}/state/ledger.sqlite3?mode=ro", uri=True)) as ledger:
            return ledger.execute(query).fetchall()

    def batchscan(self, *args: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command over what is left, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "batchscan", *args],
            env=environment(self.work),
            cwd=self.work,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


def _run(run_id: str, state: str, origin: str, key: str | None, problem: str | None, *rest: Any) -> Run:
    queued_at, ended_at, work, summary, report = rest
    wanted = json.loads(work)["request"]
    return Run(
        run_id=run_id,
        state=state,
        origin=origin,
        key=key,
        problem=None if problem is None else json.loads(problem)["code"],
        queued_at=queued_at,
        ended_at=ended_at,
        sources=tuple(wanted["sources"]),
        manifests=tuple(wanted["manifests"]),
        rescan=wanted["rescan"] is not None,
        sample=wanted["sample"],
        summary=None if summary is None else json.loads(summary),
        report=None if report is None else Path(report.decode()),
    )
