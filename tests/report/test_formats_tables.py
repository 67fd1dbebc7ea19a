"""CSV and Parquet, read back by the csv module and by pyarrow: nothing is lost, nothing is run."""

import csv
import io
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from report_samples import judged, unjudged

from batchscan.errors import ReportError, UsageError
from batchscan.formats import csv_table
from batchscan.formats import parquet as parquet_table
from batchscan.formats.csv_table import CELL_LIMIT, COLUMNS
from batchscan.models import Capability, Outcome, RiskLevel, Row, Rule
from batchscan.publish import Document, name_documents, publish, survey
from batchscan.report.rows import encode_row
from batchscan.suppressions import Suppression

ACCEPTED = Suppression(reason="=known(), see T-1", owner="@lena", expires="2027-01-31")
HOSTILE = (
    "=cmd|'/C calc'!A0",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "  =1+1",
    "\u200b=1+1",
    "\u00a0=1+1",
    "\ufeff=1+1",
    "＝1+1",
    "＋1",
    "－1",
    "＠x",
    "﹦1",
    "'=1+1",
    'a";=1+1;"',
    "a;=1+1",
    'a;"=1+1',
    'a; "" @x;+1',
    "b;",
    'a","=1+1',
    "a\r\n=1+1,b",
    "a\x00b\x1b[31m",
    "技能/\u202egpj.zip",
)


def written(tmp_path: Path, name: str, rows: list[Row], suppressed: str | None = None) -> bytes:
    """A report of these rows, in a format."""
    report, output = tmp_path / "report.jsonl", tmp_path / f"out.{name}"
    report.write_bytes(b"".join(map(encode_row, rows)))

    def suppressor(row: Row) -> Suppression | None:
        return ACCEPTED if row.path == suppressed else None

    publish(report, [Document(name, output)], survey(report, suppressor), suppressor, state="complete")
    return output.read_bytes()


def cells(document: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(document.decode("utf-8-sig"), newline=""), strict=True))


def loosely(document: bytes, separator: str) -> list[list[str]]:
    """As a spreadsheet reads it that takes another character for the separator."""
    return list(csv.reader(io.StringIO(document.decode("utf-8-sig"), newline=""), delimiter=separator))


def test_csv_is_what_rfc_4180_says_with_a_byte_order_mark(tmp_path: Path) -> None:
    document = written(tmp_path, "csv", [judged("a.zip"), unjudged("b.zip")])
    assert document.startswith(b'\xef\xbb\xbf"path","verdict",')
    assert document.count(b"\r\n") == document.count(b"\n") == 3
    header, first, second = cells(document)
    assert tuple(header) == COLUMNS
    by_name = dict(zip(header, first, strict=True))
    assert (by_name["path"], by_name["verdict"], by_name["score"]) == ("a.zip", "benign", "")
    assert dict(zip(header, second, strict=True))["error_code"] == "deadline"
    assert b'"benign",,"scanned"' in document, "a number that is not there is an empty cell and not a text"


@pytest.mark.parametrize("field", ["path", "summary", "reason"])
def test_no_cell_of_the_csv_is_a_formula_wherever_it_is_cut(tmp_path: Path, field: str) -> None:
    rows = [
        judged(name if field == "path" else "a.zip", RiskLevel.MALICIOUS, verdict={"summary": name})
        for name in HOSTILE
    ]
    document = written(tmp_path, "csv", rows, "a.zip" if field == "reason" else None)
    table = cells(document)
    assert len(table) == len(document.splitlines()) == len(rows) + 1, "a row is a line"
    assert all(cell.isprintable() for line in table for cell in line)
    for separator in (",", ";", "\t"):  # the list separator of the reader's country
        for cell in (cell for line in loosely(document, separator) for cell in line):
            assert not re.match(r'[\s\u200b\ufeff"]*[=+\-@＝＋－＠﹦]', cell), (separator, cell)
    back = [line[COLUMNS.index("summary")] for line in table[1:]]
    assert back[0] == "'" + HOSTILE[0]
    assert back[HOSTILE.index("a;=1+1")] == "a;'=1+1"
    assert back[HOSTILE.index('a","=1+1')] == 'a","=1+1'


def test_a_cell_of_the_csv_fits_a_spreadsheet(tmp_path: Path) -> None:
    row = judged(verdict={"summary": "x" * 40_000 + "=1+1"})
    text = cells(written(tmp_path, "csv", [row]))[1][COLUMNS.index("summary")]
    assert len(text) < CELL_LIMIT + 100 < 32_767
    assert text.endswith("... (cut, 40,004 characters)")


FULL: dict[str, Any] = {
    "score": 5,
    "skill_name": "技能",
    "file_count": 3,
    "primary_rule": "90002",
    "rules": (Rule("90002", "Exfiltration", "AI", "told \U0001f600"), Rule("90003", None, "STATIC", "")),
    "capabilities": (Capability("net", "Uses the network"),),
    "summary": "s",
    "mitigation": "m",
    "report_url": "https://reports.example/x?token=hunter2",
    "scanned_at": 1_781_769_600.25,
}


def test_parquet_has_types_and_nested_rules(tmp_path: Path) -> None:
    rows = [
        judged("a.zip", RiskLevel.MALICIOUS, verdict=FULL, notes=("symlink",)),
        unjudged("b.zip", Outcome.FAILED),
    ]
    document = written(tmp_path, "parquet", rows, "a.zip")
    table = parquet.read_table(io.BytesIO(document))
    first, second = table.to_pylist()
    assert set(first) == set(Row.__struct_fields__) - {"schema", "report_url"} | {"suppression"}
    assert table.schema.field("rules").type.value_type.field("engine").type == pa.string()
    assert table.schema.field("score").type == pa.int16()
    assert table.schema.metadata[b"batchscan.schema"] == b"batchscan.result/1"
    assert first["rules"][0] == {
        "id": "90002",
        "name": "Exfiltration",
        "engine": "AI",
        "description": "told 😀",
    }
    assert first["rules"][1]["name"] is None
    assert first["skill"] == {"name": "技能", "description": None, "file_count": 3}
    assert first["scanned_at"] == datetime(2026, 6, 18, 8, 0, 0, 250_000, tzinfo=UTC)
    assert (first["notes"], first["error"]) == (["symlink"], None)
    assert first["suppression"] == {"reason": ACCEPTED.reason, "owner": "@lena", "expires": "2027-01-31"}
    assert (second["verdict"], second["score"], second["suppression"]) == (None, None, None)
    assert second["error"]["code"] == "deadline"
    assert b"hunter2" not in document


def test_parquet_keeps_every_row_and_hostile_names_in_groups_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_table, "GROUP_ROWS", 10)
    rows = [judged(f"{n} {name}") for n, name in enumerate(HOSTILE)]
    file = parquet.ParquetFile(io.BytesIO(written(tmp_path, "parquet", rows)))
    sizes = [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)]
    assert sizes == [10, 10, len(HOSTILE) - 20]
    assert file.read(["path"]).column("path").to_pylist() == [row.path for row in rows]
    monkeypatch.setattr(parquet_table, "GROUP_CHARACTERS", 100)
    long = [judged(str(n), verdict={"summary": "x" * 60}) for n in range(4)]
    file = parquet.ParquetFile(io.BytesIO(written(tmp_path, "parquet", long)))
    assert file.metadata.num_row_groups == 2
    empty = parquet.read_table(io.BytesIO(written(tmp_path, "parquet", [])))
    assert (empty.num_rows, empty.schema.names[0]) == (0, "run_id")


def test_parquet_refuses_a_value_without_a_place_and_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for broken in ({"size": 2**63}, {"score": 2**40}, {"scanned_at": "yesterday"}):
        report = tmp_path / "report.jsonl"
        line = encode_row(judged("a.zip")).decode()
        for name, value in broken.items():
            shown = f'"{value}"' if isinstance(value, str) else str(value)
            line = re.sub(rf'"{name}":[^,]*', f'"{name}":{shown}', line)
        report.write_text(line, encoding="utf-8")
        counted = survey(report, lambda _: None)
        document = Document("parquet", tmp_path / "out.parquet")
        with pytest.raises(ReportError, match=r"report\.jsonl: a value does not fit its column"):
            publish(report, [document], counted, lambda _: None, state=None)
    assert [path.name for path in tmp_path.iterdir()] == ["report.jsonl"]
    assert capfd.readouterr() == ("", "")


def test_parquet_without_its_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "batchscan.formats.parquet")
    with pytest.raises(UsageError, match=r"needs pyarrow.*pip install 'batchscan\[parquet\]'"):
        name_documents(["parquet"], [], "x")


def test_parquet_is_not_written_to_a_terminal(tmp_path: Path) -> None:
    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    found = survey_of(tmp_path)
    with pytest.raises(UsageError, match="name an --output"):
        parquet_table.open_writer(Terminal(), found)
    assert csv_table.open_writer(Terminal(), found)


def survey_of(tmp_path: Path) -> Any:
    from batchscan.formats.entry import Context

    report = tmp_path / "report.jsonl"
    report.write_bytes(encode_row(judged()))
    return Context(survey=survey(report, lambda _: None), name="report.jsonl", made_at=datetime.now(UTC))
