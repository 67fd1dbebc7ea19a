"""Every hostile ZIP through the real command line, the embedded endpoint and the real detector.

What becomes of each is written down here; none of it takes long or much memory, and nothing that an
attacker named reaches a terminal or a log as he wrote it.
"""

import io
import json
import os
import re
import sys
import time
import zipfile
from pathlib import Path

import pytest
from cli_lab import Done, Lab, by_path, code_of

sys.path.insert(0, str(Path(__file__).parent.parent))
from hostile_zips import CORPUS

MALICIOUS = "traversal backslash_traversal absolute unc drive symlink"
BENIGN = "plain_skill emoji_name lying_count split suffixed zip64 zip64_lying_count zip64_extra cut_comment"
"""All that is in them was looked at, and nothing was found."""
NOT_ZIPS = "text_file truncated without_end"
REFUSED = "signature_in_comment undecodable_name bad_extra_field"
"""By the endpoint: Python's zipfile, which it looks with, cannot open them."""

EXPECTED = {
    **dict.fromkeys(CORPUS, ("scanned", "suspicious", None)),
    **dict.fromkeys(MALICIOUS.split(), ("scanned", "malicious", None)),
    **dict.fromkeys(BENIGN.split(), ("scanned", "benign", None)),
    **dict.fromkeys(NOT_ZIPS.split(), ("rejected", None, "not-a-zip")),
    **dict.fromkeys(REFUSED.split(), ("failed", None, "InvalidParameterValue")),
}
BY_PYTHON = (EXPECTED.pop("zip64_elsewhere"), EXPECTED["signature_in_comment"])
"""Newer releases of each Python refuse a ZIP64 record that is not where its locator says."""
LONGEST_S = 45.0  # far above the usual 5: what hangs takes the detector's 60
LARGEST_MIB = 320  # of any process; the largest bomb alone would be 3 GiB

WATCHED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""
"""Runs a command and tells the peak memory, in KiB, of its largest process; workers are among them."""


@pytest.mark.timeout(120)
async def test_every_hostile_zip_ends_as_it_should(lab: Lab) -> None:
    lab.inputs.mkdir()
    for name, make in CORPUS.items():
        (lab.inputs / f"{name}.zip").write_bytes(make())
    peak = lab.path / "peak"
    began = time.monotonic()
    done = await lab.run(
        *("scan", "in", "-o", lab.report, "--json", "--log-level", "debug"),
        wrapped=(sys.executable, "-c", WATCHED, str(peak)),
    )
    elapsed_s = time.monotonic() - began
    rows = by_path(lab.rows_of(len(CORPUS)))
    found = {
        path.removesuffix(".zip"): (row["outcome"], row["verdict"], code_of(row))
        for path, row in rows.items()
    }
    assert found.pop("zip64_elsewhere") in BY_PYTHON
    assert found == EXPECTED
    assert done.code == 3, "some have no verdict"
    assert done.summary["state"] == "complete"
    assert elapsed_s < LONGEST_S
    assert int(peak.read_text()) < LARGEST_MIB * 1024
    clean(done)
    for row in rows.values():
        told = [rule["description"] for rule in row["rules"]] + [
            row["summary"] or "",
            row["mitigation"] or "",
        ]
        assert all(text.isprintable() for text in told), row


def clean(done: Done) -> None:
    """Each line of both streams is made of what prints."""
    for stream in (done.out, done.err):
        assert [line for line in stream.split("\n") if not line.isprintable()] == []


NAMES = (
    b"title\x1b]0;owned\x07.zip",
    b"red\x1b[31m.zip",
    b"two\nbatchscan: all is well.zip",
    b"back\r\x08\x7f.zip",
    "eight-bit\x9b31m.zip".encode(),
    "reversed\u202egpj.zip".encode(),
    "lines\u2028and\u2029paragraphs.zip".encode(),
    b"\xff\x9b[not-text].zip",
    "[bold]\U0001f600.zip".encode(),
)
RAW = re.compile("\x1b\\]|\x1b\\[31m|\x07|\x08|\x7f|[\x80-\x9f]|\u202e|\u2028|\u2029|\nbatchscan: all|\r\x08")


def malicious(number: int) -> bytes:
    """Leads out of the skill, and says so in the words of a terminal."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        title = "own\x1b]0;owned\x07ed\u202e"
        archive.writestr("SKILL.md", f"---\nname: {title}\ndescription: {title} {number}\n---\n# {title}\n")
        archive.writestr("../out\x1b[31m\u202e.md", "x")
    return buffer.getvalue()


def hostile_names(directory: Path) -> None:
    directory.mkdir()
    for number, name in enumerate(NAMES):
        (directory / os.fsdecode(name)).write_bytes(malicious(number))


@pytest.mark.timeout(120)
async def test_no_name_reaches_a_terminal_or_a_log_as_it_is(lab: Lab) -> None:
    hostile_names(lab.inputs)
    gone = lab.inputs / os.fsdecode(b"gone\x1b[31m\n.zip")
    gone.symlink_to("nowhere\x1b[31m")
    (lab.path / "list\x1b[31m.txt").write_bytes(b"in/no\x1b[31mwhere.zip\nbroken\0\x1b[31m.zip\n")
    scan = ("scan", "in", "--manifest", "list\x1b[31m.txt", "--log-level", "debug", "--endpoint", "embedded")
    as_json = await lab.run(*scan, "-o", lab.report, "--json")
    rows = lab.rows_of(len(NAMES) + 3)
    assert sum(row["verdict"] == "malicious" for row in rows) == len(NAMES)
    assert {finding["path"] for finding in as_json.summary["worst"]} == {
        row["path"] for row in rows if row["verdict"] == "malicious"
    }, "escaped in the text of the JSON only"
    clean(as_json)
    assert all(json.loads(line) for line in lab.report.read_bytes().splitlines())
    assert b"\x1b" not in lab.report.read_bytes()

    table = await lab.run(*scan, "-o", lab.path / "again\x1b[31m.jsonl")
    listed = await lab.run("status")
    refused = await lab.run(*scan, "-o", lab.path / "again\x1b[31m.jsonl")
    assert table.out.count("malicious") > len(NAMES)
    assert refused.code == 2
    assert "again\\x1b[31m.jsonl" in refused.err
    for done in (table, listed, refused):
        clean(done)


async def test_a_terminal_is_shown_nothing_raw_either(lab: Lab) -> None:
    from test_streams import on_a_terminal

    hostile_names(lab.inputs)
    scan = ("scan", "in", "--log-level", "debug")
    code, shown = await on_a_terminal(lab, *scan, width=200, env={"NO_COLOR": "1"})
    assert code == 0
    assert "malicious" in shown
    assert RAW.findall(shown) == []
