"""The two sides of a comparison: a report's rows, what they are, and whether the report is whole."""

from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import msgspec

from batchscan.changes import Seen, SideFacts
from batchscan.errors import ReportError
from batchscan.ledger.runs import RunRecord
from batchscan.models import Outcome, RiskLevel, Row, RunState
from batchscan.pairing import Input, Workspace
from batchscan.report.gaps import extent_of
from batchscan.report.lines import CutOffError, digest_of, read_rows
from batchscan.report.summary import UNREAD
from batchscan.report.text import encodable

_NAMES_LIMIT = 100
_LEVELS: Final = (RiskLevel.BENIGN, RiskLevel.SUSPICIOUS, RiskLevel.MALICIOUS)
_RANKS: Final = {level: rank for rank, level in enumerate(_LEVELS)}
_MAX_NUMBER = (1 << 63) - 1

_encode = msgspec.msgpack.Encoder().encode
_More = tuple[Outcome, int | None, str | None, str | None, tuple[str, ...], str | None]
_more = msgspec.msgpack.Decoder(_More)


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a comparison.

    Attributes:
        name: what to call it.
        rows: of its report, read once.
        whole: its run has written a row for each input.
        inputs: how many rows there must be, where that is known; with fewer it is not whole.
    """

    name: str
    rows: Iterable[Row]
    whole: bool = True
    inputs: int | None = None


def side_of(name: str, report: Path, record: RunRecord | None) -> Side:
    """Make a side of a report and the run that wrote it, None where the ledger does not know that.

    A report that nothing is known of is taken for whole, unless it is empty or cut off. That of a run which
    could not read a directory is not.
    """
    rows = read_rows(report)
    if record is None:
        return Side(name=name, rows=rows)
    ended = record.state in {RunState.COMPLETE, RunState.INCOMPLETE}  # in the latter, rows are pending
    found = extent_of(record.summary)
    whole = ended and not found.skipped.get(UNREAD)
    return Side(name=name, rows=rows, whole=whole, inputs=found.inputs if ended else None)


def take_in(workspace: Workspace, number: int, side: Side) -> SideFacts:
    """Put the rows of a side (0 is before, 1 is after) into the workspace, and say what they are.

    Raises:
        BatchscanError: they cannot be read.
    """
    runs: dict[str, None] = {}
    endpoints: dict[str, None] = {}
    engines: dict[int, None] = {}
    verdicts: Counter[RiskLevel | None] = Counter()
    torn = False

    def inputs() -> Iterator[Input]:
        nonlocal torn
        try:
            for row in side.rows:
                _note(runs, row.run_id)
                verdicts[row.verdict] += 1
                if row.verdict is not None:
                    _note(endpoints, row.endpoint)
                    _note(engines, row.engine_version)
                yield _input(row)
        except CutOffError:
            torn = True

    workspace.load(number, inputs())
    count = verdicts.total()
    lacking = torn or not count or (side.inputs is not None and count < side.inputs)
    return SideFacts(
        name=side.name,
        runs=tuple(runs),
        endpoints=tuple(endpoints),
        engine_versions=tuple(sorted(engines)),
        inputs=count,
        verdicts={level: verdicts[level] for level in RiskLevel},
        missing=verdicts[None],
        whole=side.whole and not lacking,
    )


def _note(names: dict[Any, None], name: object) -> None:
    if name is not None and name not in names and len(names) < _NAMES_LIMIT:
        names[name] = None


def _input(row: Row) -> Input:
    finding = row.verdict is not None and row.verdict is not RiskLevel.BENIGN
    ids = tuple(sorted({encodable(rule.id) for rule in row.rules})) if finding else ()
    name = next((rule.name for rule in row.rules if rule.id == row.primary_rule), None) if finding else None
    for value in (row.manifest_line, row.score, row.engine_version):
        if value is not None and not -_MAX_NUMBER <= value <= _MAX_NUMBER:
            raise ReportError(f"a row has {value} for a number; this is not a report of batchscan")
    return Input(
        source=encodable(row.source),
        path=encodable(row.path),
        line=row.manifest_line,
        digest=digest_of(row),
        rank=None if row.verdict is None else _RANKS[row.verdict],
        score=row.score,
        rules=blake2b("\0".join(ids).encode(), digest_size=16).digest() if finding else None,
        more=_encode(
            (
                row.outcome,
                row.engine_version,
                row.primary_rule if finding else None,
                name,
                ids,
                None if row.error is None else row.error.code,
            )
        ),
    )


def seen(found: Input) -> Seen:
    """Make of what the workspace gave back what was put in."""
    outcome, engine_version, primary_rule, rule_name, rules, error_code = _more.decode(found.more)
    return Seen(
        path=found.path,
        source=found.source,
        manifest_line=found.line,
        sha256=None if found.digest is None else found.digest.hex(),
        outcome=outcome,
        verdict=None if found.rank is None else _LEVELS[found.rank],
        score=found.score,
        engine_version=engine_version,
        primary_rule=primary_rule,
        rule_name=rule_name,
        rules=rules,
        error_code=error_code,
    )


def warnings(before: SideFacts, after: SideFacts) -> Iterator[str]:
    """Say what makes the comparison weaker than it looks."""
    if before.runs and before.runs == after.runs:
        yield "both sides are the same run"
    elif before.runs and after.runs and max(before.runs) > max(after.runs):
        yield "the first report is the newer one: what it says is new is what went, and the other way round"
    for facts in (before, after):
        if not facts.whole:
            yield f"{facts.name} may lack rows: what is not in it is unknown, not absent"
    if before.endpoints and after.endpoints and before.endpoints != after.endpoints:
        yield (
            f"different services judged, {_listed(before.endpoints)} before and {_listed(after.endpoints)}"
            " after: a changed verdict may be theirs"
        )
    elif before.engine_versions and after.engine_versions and before.engine_versions != after.engine_versions:
        yield (
            f"the engines differ, {_listed(before.engine_versions)} before and"
            f" {_listed(after.engine_versions)} after: a changed verdict may be the engine's"
        )


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(str, names))
