"""The example in docs/suppressions.md does what the page says, to the samples that are bundled."""

import hashlib
import re
from datetime import date
from pathlib import Path

import pytest
from report_samples import judged

from batchscan.errors import UsageError
from batchscan.models import RiskLevel, Rule
from batchscan.report.rows import encode_row
from batchscan.suppressions import Suppressions

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "suppressions.md").read_text(encoding="utf-8")


def test_the_example_suppresses_what_it_says(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    file = tmp_path / "accepted.toml"
    file.write_text(example)
    suppressions = Suppressions.load(file, date(2026, 11, 24))
    suppressed = {}
    for name, rule in (
        ("curl-to-shell", "90006"),
        ("hidden-unicode-tags", "90005"),
        ("hidden-unicode-zero-width", "90005"),
        ("prompt-injection", "90005"),
    ):
        path = f"malicious/{name}.zip"
        digest = hashlib.sha256((ROOT / "tests" / "samples" / path).read_bytes()).digest()
        rules = (Rule(rule, None, "STATIC", "x"),)
        row = judged(path, RiskLevel.MALICIOUS, digest=digest, verdict={"rules": rules})
        match = suppressions.match(row)
        suppressed[name] = match and match.owner
    assert suppressed == {
        "curl-to-shell": "ann@example.com",
        "hidden-unicode-tags": "prompt-team",
        "hidden-unicode-zero-width": "prompt-team",
        "prompt-injection": None,
    }
    audit = suppressions.audit()
    assert (audit.unused, audit.expired, audit.expiring, audit.kept) == ((), (), (), ())


def test_the_lines_to_add_are_printed_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shown,) = re.findall(r"^```text\n(batchscan: accepted.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    path = "malicious/prompt-injection.zip"
    digest = hashlib.sha256((ROOT / "tests" / "samples" / path).read_bytes()).digest()
    rules = (Rule("90005", None, "STATIC", "x"),)
    row = judged(path, RiskLevel.MALICIOUS, digest=digest, verdict={"rules": rules})
    Path("night.jsonl").write_bytes(encode_row(row))
    ends = 'reason = "r"\nowner = "o"\nexpires = 2027-01-31\n'
    first = f'[[suppression]]\nsha256 = "{"ab" * 32}"\nrule = "1"\n{ends}\n'
    Path("accepted.toml").write_text(f'{first}[[suppression]]\npath = "prompt-*"\nrule = "90005"\n{ends}')
    with pytest.raises(UsageError) as refused:
        Suppressions.load(Path("accepted.toml"), date(2026, 11, 24), Path("night.jsonl"))
    assert f"batchscan: {refused.value}\n" == shown


def test_what_the_page_says_is_said() -> None:
    code = (ROOT / "batchscan" / "suppressions.py").read_text(encoding="utf-8")
    table = re.findall(r"^\| `([^`]+)` \|", PAGE[PAGE.index("| said |") :], re.MULTILINE)
    assert len(table) == 4
    assert [said for said in table if f'"{said}"' not in code] == []
