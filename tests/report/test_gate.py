"""The gate: which findings count, which do not and why, in every combination."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from report_samples import judged, unjudged

from batchscan.baseline import Baseline
from batchscan.config import Config
from batchscan.errors import UsageError
from batchscan.gate import Gate, GateTally
from batchscan.gate_options import GateOptions
from batchscan.models import RiskLevel
from batchscan.report.gate import gate_lines
from batchscan.report.rows import encode_row
from batchscan.suppressions import Suppressions

BENIGN, SUSPICIOUS, MALICIOUS = RiskLevel.BENIGN, RiskLevel.SUSPICIOUS, RiskLevel.MALICIOUS
KNOWN, ACCEPTED, BOTH = judged("known", MALICIOUS), judged("accepted", MALICIOUS), judged("both", MALICIOUS)


@pytest.fixture
def suppressions(tmp_path: Path) -> Suppressions:
    file = tmp_path / "accepted.toml"
    file.write_text(
        f'[[suppression]]\nsha256 = ["{ACCEPTED.sha256}", "{BOTH.sha256}"]\n'
        'reason = "reviewed"\nowner = "ann"\nexpires = 2027-01-31\n'
    )
    return Suppressions.load(file, date(2026, 11, 24))


@pytest.mark.parametrize("fail_on", [None, SUSPICIOUS, MALICIOUS])
@pytest.mark.parametrize("level", RiskLevel)
def test_what_is_as_bad_as_asked_or_worse_fails(fail_on: RiskLevel | None, level: RiskLevel) -> None:
    tally = GateTally(Gate(fail_on=fail_on))
    tally.add(unjudged())
    tally.add(judged(level=level))
    order = (BENIGN, SUSPICIOUS, MALICIOUS)
    assert tally.reached() == (fail_on is not None and order.index(level) >= order.index(fail_on))


@pytest.mark.parametrize("baselined", [False, True])
@pytest.mark.parametrize("accepting", [False, True])
def test_known_and_accepted_findings_do_not_count_and_are_counted_apart(
    baselined: bool, accepting: bool, suppressions: Suppressions
) -> None:
    gate = Gate(
        fail_on=MALICIOUS,
        baseline=Baseline([KNOWN, BOTH]) if baselined else None,
        suppressions=suppressions if accepting else None,
    )
    tally = GateTally(gate)
    for row in (KNOWN, ACCEPTED, BOTH, judged("fine")):
        tally.add(row)
    use = tally.use()
    assert use is not None
    standing = {"known": baselined, "accepted": accepting, "both": baselined or accepting}
    counted = sum(not left_out for left_out in standing.values())
    assert use.counted == {MALICIOUS: counted, SUSPICIOUS: 0}
    assert use.suppressed[MALICIOUS] == (2 if accepting else 0)
    assert use.known[MALICIOUS] == (0 if not baselined else 1 if accepting else 2)
    assert tally.reached() is use.reached is (counted > 0)
    tally.add(judged("new", MALICIOUS))
    assert tally.reached()


def test_what_is_said_of_a_gate(suppressions: Suppressions) -> None:
    assert GateTally(Gate()).use() is None
    assert list(gate_lines(None)) == []
    gate = Gate(
        fail_on=SUSPICIOUS,
        baseline=Baseline([KNOWN]),
        suppressions=suppressions,
        baseline_file=Path("old.jsonl"),
        suppressions_file=Path("a.toml"),
    )
    tally = GateTally(gate)
    for row in (KNOWN, ACCEPTED, judged("odd", SUSPICIOUS)):
        tally.add(row)
    (line,) = gate_lines(tally.use())
    assert line == (
        "gate, fail on suspicious: reached; counted: 0 malicious, 1 suspicious; known from the baseline:"
        " 1 malicious, 0 suspicious; suppressed: 1 malicious, 0 suspicious"
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"fail_on": "benign"}, "--fail-on: 'benign' is neither malicious nor suspicious"),
        ({"fail_on": "new-malicious"}, "here --fail-on malicious with --baseline counts only what is new"),
        ({"baseline": "nosuch"}, "--baseline: 'nosuch' is neither a report nor a run in"),
        ({"suppressions": Path("nosuch.toml")}, "nosuch.toml"),
    ],
)
def test_what_cannot_be_used_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        GateOptions(**given).gate(Config(state_dir=tmp_path / "state"))
    assert said in str(caught.value)


def test_a_baseline_that_lacks_verdicts_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "old.jsonl"
    report.write_bytes(encode_row(unjudged()))
    gate = GateOptions(baseline=str(report)).gate(Config(state_dir=tmp_path / "state"))
    assert gate.baseline is not None
    assert "without a verdict" in caplog.text + capsys.readouterr().out
