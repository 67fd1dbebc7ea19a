"""The comment in Markdown: what is missing first, the worst findings, and hostile names that stay names."""

import re
from pathlib import Path

from markdown_it import MarkdownIt
from report_samples import judged, unjudged

from batchscan.formats.markdown import FINDINGS_LIMIT, SIZE_LIMIT
from batchscan.models import Outcome, RiskLevel, Row, Rule
from batchscan.publish import Document, publish, survey
from batchscan.report.rows import encode_row
from batchscan.suppressions import Suppression

ACCEPTED = Suppression(reason="known, see `T-1`", owner="@lena", expires="2027-01-31")
HOSTILE = (
    "`x` @everyone",
    "a``b",
    "<img src=x onerror=alert(1)>",
    "<!channel> <@U1>",
    "[x](javascript:alert(1))",
    "![x](https://e.example/p.png)",
    "https://e.example/ www.e.example a@e.example",
    "\n# heading\n- [ ] task",
    "| a | b |\n|---|---|",
    "@org/team #1 GH-1 org/repo#1",
    "\\` \\",
    "&lt;b&gt; &#96;x&#96;",
    "***bold*** ~~gone~~ $x$ :smile:",
    "\u202egpj.exe",
    "  ",
    "```",
)


def comment(tmp_path: Path, rows: list[Row], state: str | None = "complete", suppressed: str = "") -> str:
    report, output = tmp_path / "report.jsonl", tmp_path / "out.md"
    report.write_bytes(b"".join(map(encode_row, rows)))

    def suppressor(row: Row) -> Suppression | None:
        return ACCEPTED if row.path == suppressed else None

    document = Document("markdown", output)
    publish(report, [document], survey(report, suppressor), suppressor, state=state)
    return output.read_text(encoding="utf-8")


def outside_of_code(text: str) -> str:
    """What a renderer looks for markup in: all but the code spans, by the rule of CommonMark."""
    return re.sub(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", "CODE", text)


def test_what_is_missing_stands_before_what_was_found(tmp_path: Path) -> None:
    rows = [
        judged("fine.zip"),
        judged("odd.zip", RiskLevel.SUSPICIOUS, verdict={"score": 60}),
        judged("evil.zip", RiskLevel.MALICIOUS, verdict={"score": 7, "primary_rule": "90002"}),
        unjudged("late.zip"),
        unjudged("text.zip", Outcome.REJECTED, "not-a-zip"),
    ]
    text = comment(tmp_path, rows)
    lines = [line for line in text.splitlines() if line]
    assert lines[0] == "### batchscan: incomplete: 1 malicious, 1 suspicious, 1 benign, 2 without a verdict"
    assert lines[1].startswith("**2 of 5 inputs have no verdict** (1 pending, 1 rejected)")
    assert "`deadline` 1" in lines[1]
    assert lines[3] == "- **malicious**, score 7: `evil.zip`, rule `90002`"
    assert lines[4] == "- **suspicious**, score 60: `odd.zip`"


def test_a_run_that_has_not_ended_is_never_shown_as_whole(tmp_path: Path) -> None:
    text = comment(tmp_path, [judged("fine.zip")], "interrupted")
    assert text.startswith("### batchscan: incomplete: ")
    assert "**The run has not ended** (it is interrupted)" in text
    assert "not known here" in comment(tmp_path, [judged("fine.zip")], None)
    whole = comment(tmp_path, [judged("fine.zip")])
    assert whole.startswith("### batchscan: 0 malicious, 0 suspicious, 1 benign, 0 without a verdict\n")
    assert "not known" not in whole
    assert "nothing was judged" in comment(tmp_path, [])


def test_nothing_of_a_hostile_name_is_markup(tmp_path: Path) -> None:
    rows = [
        judged(
            name, RiskLevel.MALICIOUS, verdict={"primary_rule": name, "rules": (Rule(name, name, "AI", ""),)}
        )
        for name in HOSTILE
    ]
    rows += [unjudged(code=name, run_id=name) for name in HOSTILE]
    text = comment(tmp_path, rows, suppressed=HOSTILE[0])
    assert text.count("\n- ") == len(HOSTILE)
    bare = outside_of_code(text)
    assert "<" not in text
    assert not re.search(r"[<@`\[\]|\\&~$]|://|www\.|#\d|javascript", bare), bare
    assert bare.count("#") == 3, "one heading"
    assert all(line.isprintable() for line in text.splitlines())
    assert "suppressed until `2027-01-31` by `@lena`: `known, see \\x60T-1\\x60`" in text


def test_a_renderer_sees_every_hostile_name_as_code(tmp_path: Path) -> None:
    """Read by markdown-it, with HTML, tables and strikethrough switched on, as chats and forges have them."""
    rows = [
        judged(
            name, RiskLevel.MALICIOUS, verdict={"primary_rule": name, "rules": (Rule(name, name, "AI", ""),)}
        )
        for name in HOSTILE
    ]
    rows += [unjudged(code=name, run_id=name) for name in HOSTILE]
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    tokens = reader.parse(comment(tmp_path, rows))
    inline = [child for token in tokens for child in token.children or ()]
    assert {child.type for child in inline} <= {"text", "code_inline", "strong_open", "strong_close"}
    blocks = {token.type.removesuffix("_open") for token in tokens if token.nesting == 1}
    assert blocks == {"heading", "paragraph", "bullet_list", "list_item"}
    assert sum(token.type == "list_item_open" for token in tokens) == len(HOSTILE)
    plain = "".join(child.content for child in inline if child.type == "text")
    assert not any(sign in plain for sign in "@<[]|~`\\&")


def test_the_worst_are_shown_each_content_once_and_the_cut_is_told(tmp_path: Path) -> None:
    rows = [judged(f"odd-{n}.zip", RiskLevel.SUSPICIOUS, verdict={"score": n}) for n in range(60)]
    rows += [judged(f"evil-{n}.zip", RiskLevel.MALICIOUS, verdict={"score": 90 - n}) for n in range(5)]
    twin = judged("evil-4.zip", RiskLevel.MALICIOUS).sha256
    assert twin is not None
    rows += [
        judged(f"twin-{n}", RiskLevel.MALICIOUS, digest=bytes.fromhex(twin), verdict={"score": 86})
        for n in range(30)
    ]
    text = comment(tmp_path, rows, suppressed="evil-3.zip")
    shown = re.findall(r"^- .*?`(.*?)`", text, re.MULTILINE)
    assert shown == [
        *("evil-4.zip", "evil-2.zip", "evil-1.zip", "evil-0.zip"),
        *(f"odd-{n}.zip" for n in range(16)),
    ]
    assert f"Not shown: {95 - FINDINGS_LIMIT} more findings" in text
    assert "Suppressed findings, counted above all the same: 1." in text


def test_the_comment_fits_whatever_the_names(tmp_path: Path) -> None:
    wide = "\U000e0001" * 5000  # written as ten characters each
    rows = [
        judged(
            f"{n}{wide}",
            RiskLevel.MALICIOUS,
            run_id=f"{n}{wide}",
            verdict={"primary_rule": wide, "rules": (Rule(wide, "技" * 5000, "AI", ""),)},
        )
        for n in range(50)
    ]
    rows += [unjudged(code=f"{n}{wide}") for n in range(100)]
    assert len(comment(tmp_path, rows).encode()) < SIZE_LIMIT / 3
