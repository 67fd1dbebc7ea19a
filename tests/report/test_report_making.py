"""Making the file of decisions: what is refused, and that the old file then stands."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from report_samples import judged, unjudged
from structlog.testing import capture_logs

from batchscan.decisions.making import Wanted, make_decisions
from batchscan.errors import BatchscanError, NothingMatchedError, UsageError
from batchscan.models import RunState
from batchscan.report.rows import encode_row

OLD = b"what was there"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a sound report, broken ones, and an older output."""
    row = encode_row(judged())
    (tmp_path / "report.jsonl").write_bytes(row + encode_row(unjudged()))
    (tmp_path / "torn.jsonl").write_bytes(row + row[:-3])
    (tmp_path / "two.jsonl").write_bytes(row + encode_row(judged(run_id="another")))
    (tmp_path / "no-digest.jsonl").write_bytes(row + row.replace(b'"sha256":"', b'"sha256":"zz'))
    (tmp_path / "error.jsonl").write_bytes(
        row.replace(b'"error":null', b'"error":{"code":"x","message":"y"}')
    )
    (tmp_path / "none.jsonl").touch()
    (tmp_path / "wrong.toml").write_text("verdicts.malicious = 'allow'")
    (tmp_path / "grace.toml").write_text("grace.days = 1")
    (tmp_path / "unbound.toml").write_text('[[suppression]]\npath = "a"\n')
    (tmp_path / "directory").mkdir()
    (tmp_path / "out.json").write_bytes(OLD)
    return tmp_path


Want = Callable[[Path], Wanted]


def want(output: str = "out.json", **files: str) -> Want:
    return lambda place: Wanted(output=place / output, **{name: place / file for name, file in files.items()})


@pytest.mark.parametrize(
    ("report", "wanted", "told"),
    [
        ("report.jsonl", want("nosuch/out.json"), "its directory does not exist; create it first"),
        ("report.jsonl", want("directory"), "is not a regular file; name another output file"),
        ("report.jsonl", want("report.jsonl"), "is the report itself; name another --output"),
        ("report.jsonl", want(policy="wrong.toml"), 'add "malicious" to verdicts.may_allow'),
        ("report.jsonl", want(policy="none.toml"), "none.toml: cannot be read: No such file"),
        ("report.jsonl", want(suppressions="unbound.toml"), "rule: is missing"),
        ("report.jsonl", want(policy="grace.toml", previous="nosuch"), "nosuch: cannot be read"),
        ("report.jsonl", want(policy="grace.toml", previous="out.json"), "out.json: these are no decisions"),
        ("report.jsonl", want(policy="grace.toml", previous="directory"), "it is not a regular file"),
        ("torn.jsonl", want(), "torn.jsonl, line 2: is cut off"),
        ("two.jsonl", want(), "has rows of more than one run, 20260618T080000-a1b2c3 and another"),
        ("no-digest.jsonl", want(), "no-digest.jsonl, line 2: has 'zz"),
        ("error.jsonl", want(), "error.jsonl, line 1: is scanned and has an error"),
        ("none.jsonl", want(), "has no rows; there is nothing to decide on"),
        ("out.json", want("new.json"), "out.json, line 1: is cut off"),
        ("nosuch.jsonl", want(), "nosuch.jsonl: cannot be read"),
    ],
)
def test_what_is_refused_leaves_the_old_file(place: Path, report: str, wanted: Want, told: str) -> None:
    before = sorted(path.name for path in place.iterdir())
    with pytest.raises(BatchscanError) as refused:
        make_decisions(place / report, None, wanted(place))
    assert told in str(refused.value)
    assert isinstance(refused.value, NothingMatchedError if report == "none.jsonl" else UsageError)
    assert (place / "out.json").read_bytes() == OLD
    assert sorted(path.name for path in place.iterdir()) == before


def test_an_output_that_is_a_link_to_the_report_is_refused(place: Path) -> None:
    (place / "link").symlink_to("report.jsonl")
    with pytest.raises(UsageError, match="is the report itself"):
        make_decisions(place / "report.jsonl", None, want("link")(place))


def test_the_new_file_has_the_permissions_of_the_old_one(place: Path) -> None:
    (place / "out.json").chmod(0o640)
    head = make_decisions(place / "report.jsonl", RunState.INCOMPLETE, want()(place))
    assert (place / "out.json").stat().st_mode & 0o777 == 0o640
    assert (head.run_state, head.counts.inputs, head.counts.without_verdict) == ("incomplete", 2, 2)
    assert json.loads((place / "out.json").read_bytes())["counts"]["block"] == 2


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, None),
        ({"previous": "anything"}, "previous decisions have no effect: the policy gives no grace"),
        ({"policy": "grace.toml"}, "the policy's grace has no effect without previous decisions"),
        ({"policy": "grace.toml", "previous": "new.json"}, "there are no previous decisions yet"),
    ],
)
def test_a_grace_that_cannot_be_given_is_said(place: Path, files: dict[str, str], said: str | None) -> None:
    with capture_logs() as logs:
        make_decisions(place / "report.jsonl", None, want("new.json", **files)(place))
    assert [entry["event"] for entry in logs] == ([said] if said else [])


def test_a_policy_that_lets_the_unknown_pass_is_said_every_time(place: Path) -> None:
    (place / "loose.toml").write_text("verdicts = {pending = 'allow', may_allow = ['pending']}")
    with capture_logs() as logs:
        head = make_decisions(place / "report.jsonl", None, want(policy="loose.toml")(place))
    assert head.counts.allow == 1
    assert [log["event"] for log in logs] == ["the policy does not block what is pending: it is allowed"]
    assert [log["log_level"] for log in logs] == ["warning"]
