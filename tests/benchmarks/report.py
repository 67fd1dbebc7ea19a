"""The written reports: results kept as JSON, and the two documents rendered from them."""

from pathlib import Path
from string import Template

import msgspec
from figures import Check, Finding, shown, table
from machine import Testimony
from measure import BenchmarkError
from slopes import slopes

NAMES = ("start", "submit", "cap", "cold", "night", "poll")

_HERE = Path(__file__).parent
REPORTS = {
    _HERE / "performance.template.md": _HERE.parents[1] / "docs" / "performance.md",
    _HERE / "scaling.template.md": _HERE.parents[1] / "docs" / "scaling.md",
}


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One benchmark as it was run."""

    command: str
    rounds: int
    quick: bool
    witness: Testimony
    finding: Finding


_RECORDS = msgspec.json.Decoder(dict[str, Record])


def load(file: Path) -> dict[str, Record]:
    """The kept results by name.

    Raises:
        BenchmarkError: the file is not one of ours.
    """
    if not file.exists():
        return {}
    try:
        return _RECORDS.decode(file.read_bytes())
    except (OSError, msgspec.MsgspecError) as error:
        raise BenchmarkError(f"{file}: no results of this harness: {error}; choose another --json") from error


def save(file: Path, name: str, record: Record) -> None:
    """Enter one result; those of other benchmarks stay."""
    text = msgspec.json.encode({**load(file), name: record}, order="sorted")
    file.write_bytes(msgspec.json.format(text, indent=1) + b"\n")


def render(records: dict[str, Record]) -> None:
    """Write the reports."""
    parts = dict.fromkeys(NAMES, "Not measured.")
    parts |= slopes({name: record.finding for name, record in records.items()})
    parts |= {name: _section(record) for name, record in records.items()}
    parts["budgets"] = _budgets(records)
    calm = all(record.witness.calm and not record.quick for record in records.values())
    parts["status"] = "" if calm else "**Some of them are preliminary**: the machine was busy."
    parts["circumstances"] = _circumstances(records)
    for template, report in REPORTS.items():
        report.write_text(Template(template.read_text()).substitute(parts))


def _section(record: Record) -> str:
    told = (
        f"`{record.command}`, rounds: {record.rounds}; {record.finding.about}. {record.witness.sentence()}."
    )
    return f"{told}\n\n{table(record.finding.series)}"


def _budgets(records: dict[str, Record]) -> str:
    lines = ["| budget | bound | found | of the bound | | measured at |", "|---|---:|---:|---:|---|---|"]
    for name in NAMES:
        if name in records:
            lines += [_line(check, records[name]) for check in records[name].finding.checks]
    return "\n".join(lines)


def _line(check: Check, record: Record) -> str:
    bound = f"{'<=' if check.most else '>='} {shown(check.budget)}"
    share = f"{check.found / check.budget:.2f}" if check.budget else ""
    met = "met" if check.met else "**missed**"
    certain = "" if record.witness.calm and not record.quick else ", preliminary"
    return f"| {check.what} | {bound} | {shown(check.found)} | {share} | {met}{certain} | {check.of} |"


def _circumstances(records: dict[str, Record]) -> str:
    told = dict.fromkeys(f"- {r.witness.machine}\n- {r.witness.versions}" for r in records.values())
    return "\n".join(told)
