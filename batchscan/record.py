"""Record: each input's one row, written when its fate is known, and counted as it is written.

A row is written only after what it says is committed to the ledger; the ledger forgets that an input
waits only after its row is synced. So a kill can leave a row that the ledger does not know of yet,
and resuming drops the wait, never the row.
"""

from collections.abc import Iterable, Sequence

from batchscan.file_log import tell_rows
from batchscan.gate import Gate, GateTally
from batchscan.ledger.runs import RunRecord
from batchscan.ledger.standing import Decision, Standing, Waiting
from batchscan.ledger.waiting import WaitingInputs
from batchscan.models import Artifact, Candidate, Outcome, Problem, Rejection, Row, ScanState
from batchscan.report.jsonl import ReportWriter
from batchscan.report.rows import ScanFacts, build_row
from batchscan.report.tally import Tally
from batchscan.stats import Stats


class Recorder:
    """Writes the rows of one run.

    Attributes:
        endpoint: who judges.
        tally: what the rows add up to.
        gate: which of the findings count for the exit code.
        billed_files: files in the ZIPs that this run got a verdict for by submitting them.
    """

    def __init__(
        self,
        report: ReportWriter,
        waiting: WaitingInputs,
        run: RunRecord,
        endpoint: str,
        stats: Stats,
        gate: Gate,
    ) -> None:
        self.tally = Tally()
        self.gate = GateTally(gate)
        self.billed_files = 0
        self._report = report
        self._waiting = waiting
        self._run = run
        self.endpoint = endpoint
        self._stats = stats

    async def resume(self) -> None:
        """Take in what the report holds already; rows that were left pending are taken out."""
        pending = 0
        await self._waiting.begin_anew()
        async for rows in self._report.existing():
            final = [row for row in rows if row.outcome is not Outcome.PENDING]
            pending += len(rows) - len(final)
            self._count(final)
            await self._waiting.note_reported(final)
        if pending:
            await self._report.drop(lambda row: row.outcome is Outcome.PENDING)
        await self._waiting.take_up()
        self._stats.waiting = await self._waiting.count()
        self._stats.found = self.tally.inputs + self._stats.waiting

    async def admitted(
        self, decisions: Iterable[Decision], rejections: Iterable[tuple[Candidate, Rejection]]
    ) -> int:
        """Write the rows of inputs that need not wait.

        Returns:
            How many rows that were.
        """
        rows = [self._decided(decision) for decision in decisions if not decision.waits]
        rows += [self._rejected(candidate, rejection) for candidate, rejection in rejections]
        await self._write(rows)
        return len(rows)

    async def settled(self, inputs: Sequence[Waiting]) -> None:
        """Write the rows of inputs whose digest is done or failed, and end their wait."""
        await self._write([self._judged(w.candidate, w.standing, w.artifact, w.duplicate_of) for w in inputs])
        await self.forget(inputs)

    async def lost(self, inputs: Iterable[tuple[Waiting, Problem]]) -> None:
        """Write the rows of inputs whose files were lost or spoilt while they waited."""
        await self._write(
            [
                self._row(
                    w.candidate,
                    Outcome.FAILED,
                    content=w.artifact,
                    duplicate_of=w.duplicate_of,
                    problem=problem,
                )
                for w, problem in inputs
            ]
        )

    async def forget(self, inputs: Sequence[Waiting]) -> None:
        """Make the rows safe, then end the wait of their inputs."""
        await self.sync()
        await self._waiting.forget(inputs)
        self._stats.waiting -= len(inputs)

    async def pending(self, inputs: Iterable[tuple[Waiting, Problem | None]]) -> None:
        """Write the rows of inputs that have no verdict at the end; they wait on for the next run.

        Where no reason is given, it is how the digest stands.
        """
        await self._write([self._left(waited, problem) for waited, problem in inputs])

    async def sync(self) -> None:
        """Make all rows so far safe."""
        await self._report.sync()

    async def finish(self) -> None:
        """Make the report complete."""
        await self._report.finish()

    async def _write(self, rows: Sequence[Row]) -> None:
        self._count(rows)  # first: a write whose caller is cancelled is still carried out
        await self._report.write(rows)
        tell_rows(rows)

    def _count(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.tally.add(row)
            self.gate.add(row)
            self._stats.outcomes[row.outcome] += 1
            if row.verdict is not None:
                self._stats.verdicts[row.verdict] += 1
            self.billed_files += row.billed_files

    def _decided(self, decision: Decision) -> Row:
        item = decision.item
        if decision.standing is not None:
            return self._judged(
                item.candidate, decision.standing, item.content.artifact, decision.duplicate_of
            )
        return self._row(
            item.candidate,
            Outcome.REJECTED,
            content=item.content.artifact,
            duplicate_of=decision.duplicate_of,
            problem=item.content.problem,
        )

    def _judged(
        self, candidate: Candidate, standing: Standing, content: Artifact, duplicate_of: str | None
    ) -> Row:
        mine = standing.run == self._run.id
        if standing.state is ScanState.DONE:
            outcome, problem = (Outcome.SCANNED if mine else Outcome.REUSED), None
        else:
            outcome, problem = Outcome.FAILED, standing.problem or Problem("failed", "no reason on record")
        return self._row(
            candidate,
            outcome,
            content=content,
            duplicate_of=duplicate_of,
            standing=standing,
            problem=problem,
        )

    def _rejected(self, candidate: Candidate, rejection: Rejection) -> Row:
        return build_row(
            run_id=self._run.run_id,
            endpoint=self.endpoint,
            candidate=candidate,
            outcome=Outcome.REJECTED,
            size=rejection.size,
            digest=rejection.digest,
            problem=rejection.problem,
        )

    def _left(self, waited: Waiting, problem: Problem | None) -> Row:
        return self._row(
            waited.candidate,
            Outcome.PENDING,
            content=waited.artifact,
            duplicate_of=waited.duplicate_of,
            standing=waited.standing,
            problem=problem or waited.standing.problem or _WAITING[waited.standing.state],
        )

    def _row(
        self,
        candidate: Candidate,
        outcome: Outcome,
        *,
        content: Artifact,
        problem: Problem | None,
        duplicate_of: str | None = None,
        standing: Standing | None = None,
    ) -> Row:
        judged = standing if outcome in (Outcome.SCANNED, Outcome.REUSED) else None
        return build_row(
            run_id=self._run.run_id,
            endpoint=self.endpoint,
            candidate=candidate,
            outcome=outcome,
            size=content.size,
            digest=content.digest,
            notes=content.notes,
            duplicate_of=duplicate_of,
            verdict=None if judged is None else judged.verdict,
            facts=_facts(standing, outcome),
            problem=problem,
        )


_WAITING = {
    ScanState.ADMITTED: Problem("not-submitted", "the run ended before it was submitted"),
    ScanState.SUBMITTING: Problem("not-submitted", "the run ended while it was being submitted"),
    ScanState.SCANNING: Problem("no-verdict-yet", "submitted; the service had no verdict when the run ended"),
    ScanState.DONE: Problem("no-verdict-yet", "judged by another run as this one ended"),
    ScanState.FAILED: Problem("no-verdict-yet", "given up by another run as this one ended"),
}


def _facts(standing: Standing | None, outcome: Outcome) -> ScanFacts:
    if standing is None:
        return ScanFacts()
    reused = outcome is Outcome.REUSED  # no call was made for it
    return ScanFacts(
        attempts=0 if reused else standing.attempts,
        polls=0 if reused else standing.polls,
        submitted_at=standing.submitted_at,
        expires_at=standing.expires_at,
    )
