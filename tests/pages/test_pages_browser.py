"""The HTML page in a real browser: alone, by keyboard, on a phone, on paper, and with hostile names."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import page_lab
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from batchscan.models import Outcome, RiskLevel, Row, RunState
from batchscan.suppressions import Audit
from batchscan.suppressions_file import Acceptance

AXE = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}}
MIXED: list[Row] = [*page_lab.night(34, 0.4), *page_lab.failures()]
ACCEPTED = frozenset([row.path for row in MIXED if row.verdict is RiskLevel.MALICIOUS][:2])


@pytest.fixture(scope="module")
def mixed() -> str:
    """A page with all that a page can have."""
    changes = page_lab.changes_of(MIXED[: len(MIXED) // 2], MIXED)
    entry = Acceptance(place="entry 1 (line 3)", reason="old", owner="sec", expires=date(2026, 11, 1))
    audit = Audit(expired=(entry,))
    return page_lab.page_of(MIXED, RunState.INCOMPLETE, ACCEPTED, nights=12, changes=changes, audit=audit)


@contextmanager
def opened(browser: Browser, tmp_path: Path, html: str, **options: Any) -> Iterator[Page]:
    """Open a page from its file. It must ask for nothing, and the console must stay empty."""
    file = tmp_path / "page.html"
    file.write_text(html, encoding="utf-8")
    context = browser.new_context(**options)
    page = context.new_page()
    told: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("dialog", lambda dialog: told.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    yield page
    assert told == []
    assert asked == [file.as_uri()]
    context.close()


def violations(page: Page) -> list[str]:
    found = Axe().run(page, options=AXE)
    return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found.response["violations"]]


def paths(page: Page) -> list[str]:
    """The findings that can be seen, from top to bottom."""
    rows = page.locator("#findings tbody tr:visible th > .path")
    return [text.rpartition("/")[2] for text in rows.all_inner_texts()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(browser: Browser, tmp_path: Path, mixed: str, scheme: str) -> None:
    with opened(browser, tmp_path, mixed, color_scheme=scheme) as page:
        page.locator("details.numbers").first.locator("summary").click()
        page.locator("#findings details").first.locator("summary").click()
        assert violations(page) == []
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(18, 21, 25)") == (scheme == "dark")


def test_pages_of_few_rows_are_accessible(browser: Browser, tmp_path: Path) -> None:
    failed = [page_lab.unjudged(f"{n}.zip", Outcome.FAILED, "AuthFailure.X") for n in range(3)]
    for rows, state in (
        ([], RunState.COMPLETE),
        ([page_lab.judged("a.zip")], RunState.COMPLETE),
        ([page_lab.judged("a.zip")], None),
        (failed, RunState.INCOMPLETE),
        ([*page_lab.night(5, 0), *failed], RunState.RUNNING),
    ):
        with opened(browser, tmp_path, page_lab.page_of(rows, state)) as page:
            assert violations(page) == [], (len(rows), state)


def test_without_script_nothing_is_missing(browser: Browser, tmp_path: Path, mixed: str) -> None:
    with opened(browser, tmp_path, mixed, java_script_enabled=False) as page:
        assert len(paths(page)) == len([row for row in MIXED if row.rules])
        assert page.locator("#tools").is_hidden()
        assert page.locator("thead button").count() == 0
        page.locator("#findings summary").first.click()
        assert page.locator("#findings details li").first.is_visible()


def test_sort_and_filter_by_keyboard(browser: Browser, tmp_path: Path, mixed: str) -> None:
    with opened(browser, tmp_path, mixed) as page:
        first = paths(page)
        head = page.locator("#findings").get_by_role("columnheader", name="score", exact=True)
        head.get_by_role("button").focus()
        page.keyboard.press("Enter")
        scores = [int(s) for s in page.locator("#findings tbody .c-score").all_inner_texts()]
        assert scores == sorted(scores)
        assert head.get_attribute("aria-sort") == "ascending"
        page.keyboard.press("Space")
        assert head.get_attribute("aria-sort") == "descending"
        assert [int(s) for s in page.locator("#findings tbody .c-score").all_inner_texts()] == scores[::-1]
        page.get_by_label("Filter").focus()
        page.keyboard.type("Obfuscated hidden")
        some = paths(page)
        assert 0 < len(some) < len(first)
        assert page.get_by_role("status").inner_text() == f"{len(some)} of {len(first)} shown"
        page.get_by_label("Filter").fill("")
        page.get_by_role("checkbox", name="accepted").focus()
        page.keyboard.press("Space")
        assert len(paths(page)) == len(first) - len(ACCEPTED)
        page.get_by_role("checkbox", name="suspicious").focus()
        page.keyboard.press("Space")
        assert set(page.locator("#findings tbody tr:visible .mark").all_inner_texts()) == {"malicious"}
        page.get_by_role("button", name="Open all details").press("Enter")
        assert page.locator("#findings tbody tr:visible details:not([open])").count() == 0


def test_hostile_names_are_text(browser: Browser, tmp_path: Path) -> None:
    rows = [page_lab.judged(name, RiskLevel.MALICIOUS, 3) for name in page_lab.HOSTILE]
    rows += [page_lab.unjudged(name, Outcome.FAILED, "<b>x</b>", name) for name in page_lab.HOSTILE]
    with opened(browser, tmp_path, page_lab.page_of(rows), viewport={"width": 390, "height": 800}) as page:
        text = page.locator("#findings").inner_text()
        assert "<script>document.title='owned'</script>.zip" in text
        assert "invoice\\u202egpj.piz" in text
        assert "a\\x1b[31m\\u200bb\\u2028c\\nd.zip" in text
        assert "{{ 7 * 7 }}{% raw %}.zip" in text
        assert page.title().startswith("Incomplete: 8 of 16")
        assert page.locator("h1").count() == 1
        assert page.locator("main script, main img, main style, [onload], [onerror]").count() == 0
        wide = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert wide[0] == wide[1] == 390
        page.locator("#findings summary").nth(4).click()
        assert violations(page) == []


def test_the_policy_stops_what_is_not_the_pages_own(browser: Browser, tmp_path: Path, mixed: str) -> None:
    strange = "<script>document.title='owned'</script><img src='https://127.0.0.1:9/x'>"
    file = tmp_path / "page.html"
    file.write_text(mixed.replace("<main>", f"<main>{strange}<p id='p' style='color:red'>", 1))
    page = browser.new_page()
    told: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("requestfinished", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    assert page.title() != "owned"
    assert page.locator("#p").evaluate("e => getComputedStyle(e).color") != "rgb(255, 0, 0)"
    assert asked == [file.as_uri()]
    assert len(told) == 3, told
    page.close()


@pytest.mark.parametrize("width", [320, 390, 800, 1280])
def test_no_width_scrolls_sideways(browser: Browser, tmp_path: Path, mixed: str, width: int) -> None:
    with opened(browser, tmp_path, mixed, viewport={"width": width, "height": 800}) as page:
        wide = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert wide == [width, width]
        cells = page.locator("#findings tbody").locator(".c-skill, .c-rule, .c-todo")
        narrowest = min(cells.evaluate_all("found => found.map(cell => cell.offsetWidth)"))
        assert narrowest > 100


def test_on_paper_everything_has_room_and_no_tools_are_shown(
    browser: Browser, tmp_path: Path, mixed: str
) -> None:
    with opened(browser, tmp_path, mixed, viewport={"width": 690, "height": 900}) as page:
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 32, 38)"
        assert page.evaluate("document.documentElement.scrollWidth") == 690
        assert page.locator("#tools").is_hidden()
        assert page.locator("#findings tbody .c-todo").first.evaluate("e => e.offsetWidth") > 100
        assert page.locator("#findings tbody tr").first.evaluate("e => e.offsetHeight") < 220
