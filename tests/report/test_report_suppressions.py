"""Accepted findings: what the file may say, what it suppresses, and what its owner is told."""

import csv
import io
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_samples import judged, unjudged
from structlog.testing import capture_logs

from batchscan.errors import UsageError
from batchscan.models import Outcome, RiskLevel, Row, Rule
from batchscan.publish import Document, publish, survey
from batchscan.report.rows import encode_row
from batchscan.suppressions import Audit, Suppressions, warn_of

TODAY = date(2026, 11, 24)
A, B = "aa" * 32, "bb" * 32
ENDS = 'reason = "reviewed"\nowner = "ann"\nexpires = 2027-01-31\n'

Load = Callable[[str], Suppressions]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str, today: date = TODAY) -> Suppressions:
        file = tmp_path / "accepted.toml"
        file.write_text(text)
        return Suppressions.load(file, today)

    return load


def finding(
    path: str = "team/a.zip", digest: str = A, *rules: str, level: RiskLevel = RiskLevel.MALICIOUS
) -> Row:
    hits = tuple(Rule(rule, None, "STATIC", "x") for rule in rules)
    found = {"rules": hits, "primary_rule": rules[0] if rules else None}
    return judged(path, level, digest=bytes.fromhex(digest), verdict=found)


def entry(**keys: str) -> str:
    return "[[suppression]]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items()) + ENDS


BY_PATH = entry(path='"team/*.zip"', rule='["90006", "90003"]', sha256=f'["{A}"]')


@pytest.mark.parametrize(
    ("text", "row", "suppressed"),
    [
        (entry(sha256=f'"{A}"'), finding(), True),
        (entry(sha256=f'"{A.upper()}"'), finding(), True),
        (entry(sha256=f'["{B}", "{A}"]'), finding("x", A, "1", "2"), True),
        (entry(sha256=f'"{A}"'), finding(digest=B), False),
        (entry(sha256=f'"{A}"', rule='"90006"'), finding("x", A, "90006"), True),
        (entry(sha256=f'"{A}"', rule='"90006"'), finding("x", A, "90006", "90005"), False),
        (entry(sha256=f'"{A}"', rule='"90006"'), finding("x", A), False),
        (entry(sha256=f'"{A}"'), finding(level=RiskLevel.SUSPICIOUS), True),
        (entry(sha256=f'"{A}"'), finding(level=RiskLevel.BENIGN), False),
        (entry(sha256=f'"{A}"'), unjudged(), False),
        (BY_PATH, finding("team/a.zip", A, "90006"), True),
        (BY_PATH, finding("/team/deep/a.zip", A, "90003", "90006"), True),
        (BY_PATH, finding("team/a.zip", B, "90006"), False),  # it has changed
        (BY_PATH, finding("other/a.zip", A, "90006"), False),
        (BY_PATH, finding("team/a.zip", A, "90006", "90005"), False),
        (BY_PATH + entry(sha256=f'"{A}"'), finding("other/a.zip", A, "90005"), True),
        (entry(sha256=f'"{A}"').replace("2027-01-31", "2026-11-24"), finding(), True),  # the last day
        (entry(sha256=f'"{A}"').replace("2027-01-31", "2026-11-23"), finding(), False),
        ("", finding(), False),
    ],
)
def test_what_is_suppressed(load: Load, text: str, row: Row, suppressed: bool) -> None:
    match = load(text).match(row)
    assert (match is not None) == suppressed
    if match is not None:
        assert (match.reason, match.owner) == ("reviewed", "ann")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[suppressions]]", "suppressions: no such key; entries begin with [[suppression]]"),
        ("suppression = 3", "not a list of tables"),
        ("[suppression]", "not a list of tables"),
        ("suppression = [3]", "not a list of tables"),
        ("[[suppression]", "not TOML: "),
        ("x = " + "[" * 2000, "not TOML: nested too deeply"),
        (entry(sha256='"ab"'), "entry 1 (line 1): sha256: 'ab' is not 64 hexadecimal digits"),
        (entry(sha256="3"), "sha256: must be a text or a list of texts"),
        (entry(sha256="[]"), "sha256: must be a text or a list of texts"),
        (entry(sha256=f'["{A}", 3]'), "sha256: must be a text or a list of texts"),
        (entry(sha256=f'["{A}", "{A.upper()}"]'), "sha256: names one twice"),
        (entry(sha256=f'"{A}"', rule='""'), "rule: must be a text or a list of texts"),
        (entry(sha256=f'"{A}"', rule='["1", "1"]'), "rule: names one twice"),
        (entry(), "sha256: is missing; name the content that was accepted"),
        (entry(rule='"1"'), "sha256: is missing; name the content that was accepted"),
        (entry(path='"a"', rule='"1"'), "a path alone would also accept what the file becomes"),
        (entry(path='"a"', sha256=f'"{A}"'), "rule: is missing; an entry with a path names the rules"),
        (entry(path="3", rule='"1"', sha256=f'"{A}"'), "path: must be a text"),
        (entry(path='"/"', rule='"1"', sha256=f'"{A}"'), "path: is empty"),
        (entry(path='"a[b"', rule='"1"', sha256=f'"{A}"'), "path: has a [ without a ]"),
        (entry(path='"a[]"', rule='"1"', sha256=f'"{A}"'), "path: has a [ without a ]"),
        (entry(path='"a[!]"', rule='"1"', sha256=f'"{A}"'), "path: has a [ without a ]"),
        (entry(path='"a\\u0000"', rule='"1"', sha256=f'"{A}"'), "path: is not the glob of a path"),
        (entry(sha256=f'"{A}"', ruel='"1"'), "ruel: no such key; is rule meant?"),
        (entry(sha256=f'"{A}"').replace('"ann"', '" "'), "owner: must be a text, and not empty"),
        (entry(sha256=f'"{A}"').replace('"reviewed"', "3"), "reason: must be a text, and not empty"),
        (entry(sha256=f'"{A}"').replace("2027-01-31", '"2027-01-31"'), "expires: must be a date without"),
        (entry(sha256=f'"{A}"').replace("2027-01-31", "2027-01-31T00:00:00"), "expires: must be a date"),
        (entry(sha256=f'"{A}"').replace("2027-01-31", "20270131"), "expires: must be a date without quotes"),
        (
            entry(sha256=f'["{B}", "{A}"]') + "\n" + entry(sha256=f'"{A}"'),
            "entry 2 (line 7): accepts the same as entry 1 (line 1)",
        ),
        (f"[[suppression]]\nsha256 = '{A}'", "reason: is missing"),
    ],
)
def test_what_is_refused(load: Load, text: str, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        load(text)
    assert told in str(refused.value)
    assert str(refused.value).count("accepted.toml") == len(str(refused.value).splitlines())


@settings(deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["sha256", "path", "rule", "reason", "owner", "expires", "x"]),
            st.sampled_from(
                [
                    *("true", "3", "inf", "{}", "2027-01-31", "00:00:00"),
                    *("''", "'a'", "'['", "[]", "['a', 'a']", "[['a']]"),
                    *(f"'{A}'", f"['{B}']", "'\U0010ffff'"),
                ]
            ),
        ),
        max_size=3,
    )
)
def test_any_entry_is_taken_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, entries: list[dict[str, str]]
) -> None:
    file = tmp_path_factory.getbasetemp() / "any-suppressions.toml"
    file.write_text(
        "".join(
            "[[suppression]]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
            for keys in entries
        )
    )
    try:
        suppressions = Suppressions.load(file, TODAY)
    except UsageError as refused:
        assert "not TOML" not in str(refused)  # noqa: PT017 - either is right; this is about how
        return
    assert len(suppressions) == len(entries)
    suppressions.match(finding("a", A, "a"))


def test_all_that_is_wrong_is_told_at_once_with_its_place(load: Load) -> None:
    text = entry(sha256=f'"{A}"') + '# [[suppression]]\n[[ suppression ]] # two\nreason = ""\nwho = 1\n'
    with pytest.raises(UsageError) as refused:
        load(text + "[[suppression]]\n" * 100)
    *told, rest = str(refused.value).splitlines()
    assert [line.partition(", ")[2] for line in told[:6]] == [
        "entry 2 (line 7): who: no such key; known are expires, owner, path, reason, rule, sha256",
        "entry 2 (line 7): sha256: is missing; name the content that was accepted",
        "entry 2 (line 7): reason: must be a text, and not empty",
        "entry 2 (line 7): owner: is missing",
        "entry 2 (line 7): expires: is missing",
        "entry 3 (line 10): sha256: is missing; name the content that was accepted",
    ]
    assert rest == "... and 305 more"


def test_entries_without_heads_of_their_own_are_numbered(load: Load) -> None:
    head_in_a_text = '[[suppression]]\nreason = """\n[[suppression]]\n"""\n'
    with pytest.raises(UsageError, match="entry 1: owner"):
        load(head_in_a_text)
    with pytest.raises(UsageError, match="entry 2: owner"):
        load(f'suppression = [{{sha256="{A}",reason="r",owner="o",expires=2027-01-01}}, {{}}]')


@pytest.mark.parametrize("kind", ["missing", "directory", "large", "bytes"])
def test_a_file_that_is_none(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "accepted.toml"
    if kind == "directory":
        file.mkdir()
    elif kind == "large":
        with file.open("wb") as made:
            made.truncate((64 << 20) + 1)
    elif kind == "bytes":
        file.write_bytes(b"a\n\xff")
    told = {
        "missing": "cannot be read: No such file or directory; check --suppressions",
        "directory": "not a regular file; name a TOML file of suppressions",
        "large": "larger than 67108864 bytes: not a file of suppressions",
        "bytes": "not TOML: byte 2 is not UTF-8",
    }
    with pytest.raises(UsageError) as refused:
        Suppressions.load(file, TODAY)
    assert str(refused.value) == f"{file}: {told[kind]}"


def test_the_audit_tells_what_an_owner_has_to_see_to(load: Load) -> None:
    days = {"gone": -1, "last": 0, "soon": 14, "later": 15}
    digests = {name: f"{number:064x}" for number, name in enumerate(days)}
    text = "".join(
        entry(sha256=f'"{digests[name]}"', rule='"1"').replace(
            "2027-01-31", (TODAY + timedelta(days=ahead)).isoformat()
        )
        for name, ahead in days.items()
    )
    suppressions = load(text + entry(sha256=f'"{B}"'))
    rows = [finding(f"{name}.zip", digest, "1") for name, digest in digests.items()]
    rows += [finding("first.zip", digests["later"], "2", "1", "3"), finding("n.zip", digests["later"], "4")]
    assert [row.path for row in rows if suppressions.match(row)] == ["last.zip", "soon.zip", "later.zip"]
    audit = suppressions.audit()
    assert [entry.place for entry in audit.expired] == ["entry 1 (line 1)"]
    assert [entry.place for entry in audit.expiring] == ["entry 2 (line 7)", "entry 3 (line 13)"]
    assert [entry.digests for entry in audit.unused] == [(B,)]
    ((kept,),) = (audit.kept,)
    assert (kept.entry.place, kept.path, kept.rules) == ("entry 4 (line 19)", "first.zip", ("2", "3"))
    assert audit.told() == (
        "Suppressions to look at: 1 expired, 2 expiring within 14 days, 1 without a finding,"
        " 1 whose finding has other rules."
    )


def test_the_log_tells_twenty_of_a_kind_and_counts_the_others(load: Load) -> None:
    many = [f"{number:064x}" for number in range(45)]
    text = "".join(entry(sha256=f'"{digest}"', rule='"1"', path='"\\u001b*"') for digest in many)
    suppressions = load(text)
    for digest in many[:22]:
        suppressions.match(finding("\x1b[2J.zip", digest, "\x07"))
    with capture_logs() as logs:
        warn_of(suppressions.audit())
    unused = [log for log in logs if "met no finding" in log["event"]]
    stays = [log for log in logs if "a finding stays" in log["event"]]
    others = [log["number"] for log in logs if "not listed" in log["event"]]
    assert (len(unused), len(stays), others) == (20, 20, [3, 2])
    assert unused[0]["suppression"] == "entry 23 (line 155)"
    assert stays[0]["path"] == r"\x1b[2J.zip"
    assert stays[0]["rules"] == [r"\x07"]


def test_without_a_file_nothing_is_suppressed_and_nothing_told() -> None:
    none = Suppressions.load(None, TODAY)
    assert none.match(finding()) is None
    assert none.audit() == Audit()
    assert none.audit().told() == ""


def test_a_path_without_content_is_told_what_to_add(tmp_path: Path) -> None:
    report, file = tmp_path / "report.jsonl", tmp_path / "accepted.toml"
    rows = [
        finding("team/a.zip", A, "1"),
        finding("team/\x1b[2Jb\n.zip", B, "1"),
        finding("team/c.zip", "cc" * 32, "1", "2"),
        finding("team/d.zip", "dd" * 32, "1", level=RiskLevel.BENIGN),
        finding("other/e.zip", "ee" * 32, "1"),
        unjudged("team/f.zip", Outcome.FAILED),
    ]
    report.write_bytes(b"".join(map(encode_row, rows)))
    file.write_text(entry(path='"team/"', rule='"1"') + entry(path='"nowhere"', rule='"1"'))
    with pytest.raises(UsageError) as refused:
        Suppressions.load(file, TODAY, report)
    told = str(refused.value).splitlines()
    assert told[2:] == [
        f"entry 1 (line 1): look at these findings of {report}, and add those that are accepted:",
        "sha256 = [",
        f'    "{A}",  # team/a.zip',
        f'    "{B}",  # team/\\x1b[2Jb\\n.zip',
        "]",
        f"entry 2 (line 7): no finding of {report} is meant by it",
    ]
    lines = "\n".join(told[3:7])
    file.write_text(entry(path='"team/"', rule='"1"').replace("reason", f"{lines}\nreason"))
    accepted = Suppressions.load(file, TODAY)
    assert [row.path for row in rows if accepted.match(row)] == [rows[0].path, rows[1].path]


def test_suppressed_findings_are_counted_and_shown(tmp_path: Path, load: Load) -> None:
    report, out = tmp_path / "report.jsonl", tmp_path / "report.csv"
    rows = [finding("a.zip", A), finding("b.zip", B), finding("again.zip", A, level=RiskLevel.SUSPICIOUS)]
    report.write_bytes(b"".join(map(encode_row, rows)))
    suppressions = load(entry(sha256=f'"{A}"'))
    found = survey(report, suppressions.match)
    publish(report, [Document("csv", out)], found, suppressions.match, state=None, audit=suppressions.audit())
    assert found.suppressed == {RiskLevel.MALICIOUS: 1, RiskLevel.SUSPICIOUS: 1}
    assert (found.findings(), found.missing()) == (3, 0)
    lines = list(csv.DictReader(io.StringIO(out.read_text("utf-8-sig"))))
    shown = [
        (line["path"], line["verdict"], line["suppressed"], line["suppression_reason"]) for line in lines
    ]
    assert shown == [
        ("a.zip", "malicious", "yes", "reviewed"),
        ("b.zip", "malicious", "", ""),
        ("again.zip", "suspicious", "yes", "reviewed"),
    ]


def test_what_owners_have_to_see_to_is_in_the_documents(tmp_path: Path, load: Load) -> None:
    report = tmp_path / "report.jsonl"
    report.write_bytes(b"".join(map(encode_row, [finding(), unjudged()])))
    suppressions = load(entry(sha256=f'"{B}"').replace("2027-01-31", "2026-11-30"))
    found = survey(report, suppressions.match)
    kinds = ("html", "markdown", "sarif", "junit")
    documents = [Document(name, tmp_path / name) for name in kinds]
    publish(report, documents, found, suppressions.match, state=None, audit=suppressions.audit())
    made = {name: (tmp_path / name).read_text() for name in kinds}
    told = "Suppressions to look at: 1 expiring within 14 days, 1 without a finding."
    assert told in made["markdown"]
    assert told in made["html"]
    assert '"suppressionsToLookAt":{"unused":1,"expired":0,"expiring":1,"kept":0}' in made["sarif"]
    assert '<property name="suppressions_unused" value="1"/>' in made["junit"]
