"""What holds for every machine format: any text makes a valid document, and rows are not held."""

import io
import json
import tracemalloc
from collections.abc import Iterator
from xml.etree import ElementTree as ET

import pytest
from formats_lab import MADE_AT, SCHEMAS, finding, hostile_rows, validator, write
from hypothesis import given, settings
from hypothesis import strategies as st
from xsd_check import Schema

from batchscan.formats.entry import Context, Entry
from batchscan.formats.registry import find_format
from batchscan.models import Row
from batchscan.report.survey import Survey

JENKINS = Schema(SCHEMAS / "junit-10.xsd")
JSON = {
    "sarif": validator("sarif-schema-2.1.0.json"),
    "defectdojo": validator("defectdojo-generic-findings.json"),
    "ocsf": validator("ocsf-1.5.0-detection-finding.json"),
}
PIECES = [
    "<",
    "&",
    "]]>",
    '"',
    "'",
    "{",
    "[",
    "](",
    "\\",
    "/",
    "..",
    "://",
    "\x1b",
    "\u202e",
    "\n",
    "\x00",
    "`",
    "技",
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(st.characters(codec="utf-8"), max_size=3), max_size=6).map(
    "".join
)


class Counting(io.RawIOBase):
    """Takes bytes and keeps none."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, content: object) -> int:
        assert isinstance(content, bytes)
        self.size += len(content)
        return len(content)


@given(names=st.lists(TEXTS, min_size=1, max_size=3))
@settings(max_examples=20, deadline=None)
def test_any_text_makes_valid_documents(names: list[str]) -> None:
    rows = hostile_rows(names)
    assert JENKINS.problems(ET.fromstring(write("junit", rows))) == []
    for name in ("sarif", "defectdojo"):
        JSON[name].validate(json.loads(write(name, rows)))
    for line in write("ocsf", rows).splitlines():
        JSON["ocsf"].validate(json.loads(line))


def peak_of(name: str, count: int) -> int:
    """Bytes that converting so many rows took at most."""

    def rows() -> Iterator[Row]:
        return (finding(f"{number}.zip", score=number % 101) for number in range(count))

    tracemalloc.start()
    try:
        found = Survey()
        for row in rows():
            found.add(row)
        out = Counting()
        context = Context(survey=found, name="report.jsonl", made_at=MADE_AT)
        writer = find_format(name).opener()(out, context)  # type: ignore[arg-type] # it only writes
        for row in rows():
            writer.add(Entry(row))
        writer.finish()
        assert out.size > count * 100
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["sarif", "junit", "defectdojo", "ocsf"])
def test_ten_times_the_rows_take_no_more_memory(name: str) -> None:
    peak_of(name, 10)  # what is loaded and cached once
    assert peak_of(name, 2_000) < peak_of(name, 200) + 50_000
