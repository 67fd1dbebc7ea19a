"""A comparison as it is written: valid JSON, Markdown that no name gets out of, and nothing wrongly green."""

import io
import json
import re
from collections.abc import Sequence
from typing import Any, Literal

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_samples import judged, unjudged
from rich.console import Console

from batchscan.compare import Compared, Side, compare
from batchscan.comparison_output import comparison_schema, conclusion, write_json, write_markdown
from batchscan.comparison_table import render
from batchscan.models import RiskLevel, Row, Rule

M, S = RiskLevel.MALICIOUS, RiskLevel.SUSPICIOUS
SCHEMA = jsonschema.Draft202012Validator(comparison_schema())
HOSTILE = "</table><img src=x>`|`\n# @everyone #1 [a](http://x) \x1b[31m\u202e **b** ~~c~~ <!channel>"
RULES = (Rule("90006", HOSTILE, "STATIC", "d"),)


def side(rows: Sequence[Row], name: str = "x", *, whole: bool = True) -> Side:
    return Side(name=name, rows=rows, whole=whole)


def as_json(before: Side, after: Side) -> dict[str, Any]:
    out = io.BytesIO()
    with compare(before, after) as compared:
        write_json(out, compared, 3)
    assert out.getvalue().count(b"\n") == 1
    document: dict[str, Any] = json.loads(out.getvalue())
    SCHEMA.validate(document)
    return document


def as_markdown(compared: Compared, limit: int = 20) -> str:
    out = io.BytesIO()
    write_markdown(out, compared, limit)
    return out.getvalue().decode()


def as_table(compared: Compared, limit: int = 50, *, width: int | None = None) -> str:
    out = io.StringIO()
    terminal = width is not None
    colours: Literal["standard"] | None = "standard" if terminal else None
    render(compared, Console(file=out, width=width, force_terminal=terminal, color_system=colours), limit)
    return out.getvalue()


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(comparison_schema())


def test_json_of_every_kind_of_item() -> None:
    finding = {"primary_rule": "90006", "rules": RULES}
    before = [
        judged("moved-from.zip", M, digest=b"1" * 32),
        judged("content.zip", M, digest=b"2" * 32, verdict=finding),
        judged("copy.zip", S, digest=b"3" * 32),
        judged("gone.zip", M, digest=b"4" * 32),
        judged("failed.zip", M, digest=b"5" * 32),
    ]
    after = [
        judged("moved-to.zip", S, digest=b"1" * 32),
        judged("content.zip", M, digest=b"6" * 32, verdict=finding | {"score": 3}),
        judged("copy.zip", S, digest=b"3" * 32),
        judged("another.zip", S, digest=b"3" * 32),
        unjudged("failed.zip"),
        judged(HOSTILE, M, digest=b"7" * 32, verdict=finding),
        judged("fine.zip", digest=b"8" * 32),
    ]
    document = as_json(side(before), side(after))
    assert {(item["change"], item["place"], item["content"]) for item in document["items"]} == {
        ("changed-verdict", "moved", "same"),
        ("still-there", "same", "changed"),
        ("still-there", "same", "same"),
        ("still-there", "copy-added", "same"),
        ("gone", "same", "unknown"),
        ("unknown", "same", "unknown"),
        ("new", "same", "unknown"),
    }
    assert document["exit_code"] == 3
    assert document["counts"]["added"] == 1
    assert (document["fresh_over_finding"], document["notable"]) == (1, 5)
    assert [item["fresh"] for item in document["items"]] == [True, True] + [False] * 5
    assert as_json(side([judged("a.zip")]), side([judged("a.zip")]))["items"] == []


def outside_of_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", text)


def test_no_name_gets_out_of_a_comment() -> None:
    """Not a name's own lines, tags, mentions, links, or what ends the code that it stands in."""
    row = judged(HOSTILE, M, digest=b"7" * 32, verdict={"primary_rule": "90006", "rules": RULES})
    with compare(
        side([judged("a.zip"), judged("/".join([HOSTILE] * 2), digest=b"7" * 32)], HOSTILE), side([row])
    ) as found:
        text = as_markdown(found)
    left = outside_of_code(text)
    for sign in ("`", "<", "@", "[", "img", "http", "channel", "~~", "\x1b", "\u202e"):
        assert sign not in left, sign
    assert left.count("**") == 4, "ours alone"
    assert len(left.split("\n")) == len(text.split("\n"))
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "<" not in text


@settings(max_examples=50)
@given(st.text(min_size=1, max_size=60), st.text(max_size=30))
def test_no_name_at_all_does(name: str, rule: str) -> None:
    verdict = {"primary_rule": "r", "rules": (Rule("r", rule, "STATIC", ""),)}
    with compare(side([judged("a")]), side([judged(name, M, digest=b"7" * 32, verdict=verdict)])) as found:
        lines = as_markdown(found).rstrip("\n").split("\n")
        table = as_table(found)
    (bullet,) = [line for line in lines if line.startswith("- **new**")]
    assert re.fullmatch(r"- \*\*new\*\*, malicious: (`[^`]+`|\(empty\))(, rule (`[^`]+`|\(empty\)))?", bullet)
    assert len(lines) == 11
    assert all(char.isprintable() or char == "\n" for char in table)


def test_what_is_left_out_is_said() -> None:
    rows = [judged(f"{n}.zip", M, verdict={"score": n}) for n in range(30)]
    with compare(side([judged("a.zip")]), side(rows)) as found:
        comment, table = as_markdown(found, 3), as_table(found, 2)
        none = as_markdown(found, 0)
    assert re.findall(r"`(\d+\.zip)`", comment) == ["0.zip", "1.zip", "2.zip"]
    assert "Not shown: 27 more" in comment
    assert "not shown: 28 more" in table
    assert "Not shown: 30 more" in none


def test_the_table_of_a_terminal_and_of_a_pipe() -> None:
    long = "/".join(["a-directory"] * 12)
    with compare(side([judged("a.zip")], "old"), side([judged(long, M)], "new")) as found:
        piped, narrow = as_table(found), as_table(found, width=60)
    assert any(line.startswith("new") and line.rstrip().endswith(long) for line in piped.split("\n"))
    assert "\x1b" not in piped
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in narrow.split("\n")) <= 60
    assert re.search(r"gone +1  not there any more", piped)


GREEN = "green"


@pytest.mark.parametrize(
    ("before", "after", "style", "words"),
    [
        (side([judged("a.zip")]), side([judged("a.zip", run_id="z")]), GREEN, "no finding is left"),
        (side([judged("a.zip", M)]), side([judged("a.zip", run_id="z")]), GREEN, "no finding is left"),
        (
            side([judged("a.zip", M)]),
            side([judged("a.zip", M, run_id="z")]),
            "",
            "1 findings of before are still",
        ),
        (side([judged("a.zip", S)]), side([judged("a.zip", M, run_id="z")]), "bold red", "1 malicious that"),
        (side([judged("a.zip")]), side([judged("a.zip", S, run_id="z")]), "yellow", "1 suspicious that"),
        (side([judged("a.zip")]), side([unjudged("a.zip", run_id="z")]), "bold red", "1 inputs are unknown"),
        (side([unjudged("a.zip")]), side([judged("a.zip", run_id="z")]), "bold red", "1 inputs are unknown"),
        (side([judged("a.zip")]), side([judged("a.zip")], whole=False), "bold red", "Incomplete"),
        (side([judged("a.zip")], whole=False), side([judged("a.zip")]), "bold red", "Incomplete"),
        (side([judged("a.zip")]), side([judged("a.zip")]), "", "no finding is left"),  # of the same run
    ],
)
def test_green_only_when_all_is_known_and_nothing_is_left(
    before: Side, after: Side, style: str, words: str
) -> None:
    with compare(before, after) as found:
        said, in_style = conclusion(found.comparison)
    assert words in said
    assert in_style == style
