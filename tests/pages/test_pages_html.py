"""What the HTML page says, read from its source: the headline, the cut, and that it stands on its own."""

import base64
import hashlib
import re
from datetime import date
from io import BytesIO

import msgspec
import page_lab
import pytest

from batchscan.advice import advise
from batchscan.api.reactions import TABLE
from batchscan.formats.entry import Entry
from batchscan.formats.html_page import FINDINGS_LIMIT, open_writer
from batchscan.formats.page_headline import Tone, make_headline
from batchscan.models import Outcome, RiskLevel, Row, RunState
from batchscan.pages.charts import LEAST, bar, compact, strip
from batchscan.suppressions import Audit
from batchscan.suppressions_file import Acceptance

EVIL = [page_lab.judged(f"evil-{n}.zip", RiskLevel.MALICIOUS, n) for n in range(3)]
ODD = [page_lab.judged(f"odd-{n}.zip", RiskLevel.SUSPICIOUS, 50) for n in range(2)]
FINE = [page_lab.judged(f"fine-{n}.zip") for n in range(5)]
LATE = [page_lab.unjudged(f"late-{n}.zip", Outcome.PENDING, "deadline") for n in range(2)]


@pytest.mark.parametrize(
    ("rows", "state", "tone", "title"),
    [
        (FINE, RunState.COMPLETE, Tone.GOOD, "Nothing was found in 5 inputs"),
        (FINE, None, Tone.CALM, "Nothing was found in 5 inputs"),
        (FINE, RunState.RUNNING, Tone.WARN, "The run has not ended: 5 inputs so far"),
        (FINE, RunState.INTERRUPTED, Tone.WARN, "The run was interrupted after 5 inputs"),
        (FINE, RunState.INCOMPLETE, Tone.WARN, "Incomplete: not everything could be looked at"),
        ([*FINE, *ODD], RunState.COMPLETE, Tone.WARN, "2 suspicious skills, none malicious"),
        ([*FINE, *EVIL], RunState.COMPLETE, Tone.BAD, "3 malicious skills among 8 inputs"),
        ([*FINE, *EVIL, *LATE], RunState.INCOMPLETE, Tone.WARN, "Incomplete: 2 of 10 inputs have no verdict"),
        ([*FINE, *LATE], None, Tone.WARN, "Incomplete: 2 of 7 inputs have no verdict"),
        (LATE, RunState.INCOMPLETE, Tone.WARN, "Nothing was judged: 2 of 2 inputs have no verdict"),
        ([], RunState.COMPLETE, Tone.WARN, "No input was found, so nothing was judged"),
    ],
)
def test_the_headline(rows: list[Row], state: RunState | None, tone: Tone, title: str) -> None:
    headline = make_headline(page_lab.context_of(page_lab.survey_of(rows), state))
    assert (headline.tone, headline.title) == (tone, title)


def test_unread_directories_and_the_runs_error_are_in_the_headline() -> None:
    survey = page_lab.survey_of(FINE)
    summary = page_lab.summary_of(survey, skipped={"unreadable-directory": 2})
    headline = make_headline(page_lab.context_of(survey, summary=summary))
    assert headline.tone is Tone.WARN
    assert "2 directories could not be read: inputs in there have no row." in headline.lead


def test_a_report_with_fewer_rows_than_its_run_had_inputs_is_not_whole() -> None:
    survey = page_lab.survey_of(FINE)
    headline = make_headline(page_lab.context_of(survey, summary=page_lab.summary_of(survey, inputs=7)))
    assert headline.tone is Tone.WARN
    assert headline.title == "Incomplete: the run had 2 more inputs than the report has rows"
    assert "Every input has a verdict." not in headline.lead


def test_what_changed_is_told_and_what_is_new_is_marked() -> None:
    before = [*FINE[:3], EVIL[0], page_lab.judged("gone.zip", RiskLevel.MALICIOUS, 1)]
    after = [*FINE, *EVIL, *ODD]
    changes = page_lab.changes_of(before, after)
    headline = make_headline(page_lab.context_of(page_lab.survey_of(after), changes=changes))
    assert headline.title == "3 malicious skills among 10 inputs, 2 of them new"
    assert (
        "Since the run of 2026-11-23 04:43 UTC: 2 malicious skills and 2 suspicious skills new."
        in headline.lead
    )
    page = page_lab.page_of(after, changes=changes)
    assert page.count("data-new") == page.count('class="tag fresh"') == 4
    assert re.findall(r"<dt>([^<]+)</dt><dd>(\d+)</dd>", page[page.index('class="turns"') :])[:7] == [
        ("newly malicious", "2"),
        ("newly suspicious", "2"),
        ("other rules than before", "0"),
        ("milder than before", "0"),
        ("fixed", "0"),
        ("findings gone", "1"),
        ("cannot be told", "0"),
    ]
    assert page.count("was not there") == 4


def test_what_cannot_be_compared_is_neither_fixed_nor_gone() -> None:
    after = [*FINE, page_lab.unjudged("evil-0.zip", Outcome.FAILED, "scan-failed")]
    page = page_lab.page_of(after, changes=page_lab.changes_of([*FINE, *EVIL[:1]], after))
    assert "no finding new; 1 input cannot be compared." in page
    assert "What cannot be told is neither fixed nor gone." in page


def test_with_more_new_findings_than_are_held_none_is_marked() -> None:
    changes = page_lab.changes_of(FINE, [*FINE, *EVIL])
    cut = msgspec.structs.replace(changes.comparison, worst=changes.comparison.worst[:1])
    changes = msgspec.structs.replace(changes, comparison=cut)
    page = page_lab.page_of([*FINE, *EVIL], changes=changes)
    assert "data-new" not in page
    assert "2 more new findings are not listed here." in page


def test_suppressions_to_see_to_are_listed() -> None:
    entry = Acceptance(
        place="entry 1 (line 3)",
        reason="<i>old</i>",
        owner="sec",
        expires=date(2026, 11, 1),
        digests=("0" * 64,),
    )
    page = page_lab.page_of(FINE, audit=Audit(expired=(entry,), unused=(entry,)))
    assert "Expired, without force now: 1" in page
    assert page.count("&lt;i&gt;old&lt;/i&gt;") == 2


def test_accepted_findings_are_no_green_and_no_red() -> None:
    paths = frozenset(row.path for row in EVIL)
    survey = page_lab.survey_of([*EVIL, *FINE], paths)
    headline = make_headline(page_lab.context_of(survey))
    assert (headline.tone, headline.title) == (Tone.CALM, "Nothing open: 3 accepted findings among 8 inputs")
    page = page_lab.page_of([*EVIL, *FINE], suppressed=paths)
    assert page.count("Accepted by <bdi>sec-eng</bdi> until 2027-01-31") == 3


def test_what_is_missing_is_counted_by_code_with_what_to_do() -> None:
    headline = make_headline(page_lab.context_of(page_lab.survey_of([*FINE, *page_lab.failures()])))
    assert {missing.code: missing.count for missing in headline.missing} == {
        "deadline": 2,
        "not-a-zip": 1,
        "empty": 1,
        "too-large": 1,
        "scan-failed": 1,
    }
    assert headline.missing[0].code == "deadline"
    page = page_lab.page_of([*FINE, *page_lab.failures()])
    for missing in headline.missing:
        assert missing.advice.split("`")[0].replace("'", "&#39;") in page


@pytest.mark.parametrize("code", sorted({entry.code for entry in TABLE} | {"Never.Heard", "other", ""}))
def test_every_code_has_an_advice(code: str) -> None:
    assert advise(code).endswith((".", "!"))


def test_the_page_names_who_judged_and_never_mixes_them_up() -> None:
    cloud = page_lab.page_of(EVIL)
    local = page_lab.page_of([page_lab.judged("a.zip", endpoint="embedded")])
    assert '<span class="judge cloud">cloud</span>' in cloud
    assert "The local engine judged" not in cloud
    assert '<span class="judge local">local</span>' in local
    assert "The local engine judged: benign means that its rules found nothing." in local
    both = page_lab.page_of([page_lab.judged("a.zip", endpoint="embedded"), *EVIL])
    assert "Several endpoints judged; each finding names its own." in both


def test_the_page_stands_on_its_own_under_a_policy_with_true_hashes() -> None:
    page = page_lab.page_of(
        [*EVIL, *LATE, *(page_lab.judged(p, RiskLevel.MALICIOUS) for p in page_lab.HOSTILE)]
    )
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src &#39;none&#39;; ")
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src &#39;sha256-{digest}&#39;" in policy[1]
    body = page[page.index("<body>") :]
    tags = re.findall(r"<[a-zA-Z][^>]*>", body)
    assert [tag for tag in tags if re.search(r"\s(style|src|on\w+)=", tag)] == []
    assert {link for tag in tags for link in re.findall(r'href="([^"]*)"', tag)} == {
        "#findings-title",
        "#missing-title",
    }


def test_report_links_never_get_on_the_page() -> None:
    row = page_lab.judged(
        "a.zip", RiskLevel.MALICIOUS, 1, verdict={"report_url": "https://x.test/?sign=s3cr3t"}
    )
    assert row.report_url is not None
    assert "s3cr3t" not in page_lab.page_of([row])


def test_of_many_findings_the_worst_are_shown_and_the_cut_is_told() -> None:
    rows = [page_lab.judged(f"{n:05}.zip", RiskLevel.SUSPICIOUS, 40 + n % 50) for n in range(FINDINGS_LIMIT)]
    rows += [page_lab.judged(f"evil-{n}.zip", RiskLevel.MALICIOUS, n) for n in range(30)]
    page = page_lab.page_of(rows)
    shown = re.findall(r'<tr role="row" data-rank="(\d)"', page)
    assert len(shown) == FINDINGS_LIMIT
    assert shown == sorted(shown)
    assert shown.count("0") == 30
    assert "The worst 2,000 are shown. Not on this page: 30 suspicious, none of them worse." in page
    assert f"batchscan report {page_lab.RUN} --format csv -o findings.csv" in page
    assert "2,030 suspicious" not in page


def test_a_held_row_is_cut_to_what_is_shown() -> None:
    huge = "x" * 1_000_000
    row = page_lab.judged("a.zip", RiskLevel.MALICIOUS, 1, verdict={"summary": huge, "mitigation": huge})
    out = BytesIO()
    writer = open_writer(out, page_lab.context_of(page_lab.survey_of([row])))
    writer.add(Entry(row))
    writer.finish()
    assert len(out.getvalue()) < 60_000


def test_the_trend_is_there_from_two_runs_on() -> None:
    assert 'id="trend-title"' not in page_lab.page_of(EVIL)
    page = page_lab.page_of(EVIL, nights=40)
    assert "The last 30 runs over the same inputs" in page


def test_one_in_a_million_is_seen_in_a_bar() -> None:
    parts = bar([("malicious", 1), ("suspicious", 0), ("benign", 1_000_000)])
    assert [part.kind for part in parts] == ["malicious", "benign"]
    assert parts[0].width == pytest.approx(LEAST, rel=0.02)
    assert sum(part.width for part in parts) == pytest.approx(100, abs=0.02)


def test_columns_stand_in_their_place() -> None:
    few = strip("benign", list("abcdefg"), [1, 9, 9, 0, 0, 9, 3], 40, texts=False).columns
    assert [column.text for column in few] == ["", "9", "", "", "", "", "3"]
    columns = strip("benign", ["a", "b"], [0, 5000], 40, texts=True).columns
    assert [(column.height, column.text) for column in columns] == [(0, ""), (40, "5.0k")]
    assert [column.middle for column in columns] == [25, 75]
    assert [compact(n) for n in (999, 1000, 9999, 10_000, 1_250_000, 20_000_000)] == [
        "999",
        "1.0k",
        "9.9k",
        "10k",
        "1.2M",
        "20M",
    ]
