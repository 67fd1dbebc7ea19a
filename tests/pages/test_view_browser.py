"""The live view in a real browser, before a real service that scans: clicked through, also without script.

The endpoint is real and in the test's process, so the test says when it judges.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from cli_lab import TOKEN, Service, skill, skills
from page_lab import FLAGS
from playwright.async_api import Browser, Page, async_playwright, expect
from service_lab import ServiceLab, Serving, toml

pytestmark = pytest.mark.asyncio(loop_scope="module")

AXE = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}}
HOSTILE = ("<img src=x onerror=document.title='owned'>.zip", "invoice\u202egpj.zip", "n" * 240 + ".zip")
WIDTHS = (320, 390, 800)


@dataclass
class World:
    """What a test has: the service that is looked at, the endpoint that judges for it, and a browser."""

    lab: ServiceLab
    endpoint: Service
    serving: Serving
    browser: Browser

    @asynccontextmanager
    async def page(self, **options: Any) -> AsyncIterator[Page]:
        """A page that has logged in. It must ask nobody else for anything, and the console stays empty."""
        context = await self.browser.new_context(**options)
        page = await context.new_page()
        told: list[str] = []
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("dialog", lambda dialog: told.append(dialog.message))
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith(f"{self.serving.url}/") else told.append(request.url)
            ),
        )
        await page.goto(self.serving.url)
        await page.get_by_label("Token").fill(TOKEN)
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
        yield page
        assert told == []
        await context.close()


@pytest.fixture(scope="module")
def shared_lab(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        lab = ServiceLab(tmp_path_factory.mktemp("lab"), patch.setattr)
        yield lab
        lab.end()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(shared_lab: ServiceLab, chromium: str) -> AsyncIterator[World]:
    lab = shared_lab
    (lab.path / "token").write_text(TOKEN)
    (lab.path / "token").chmod(0o600)
    skills(lab.inputs, 6)
    for number, name in enumerate(HOSTILE):
        (lab.inputs / name).write_bytes(skill(f"evil {number}"))
    (lab.inputs / "odd.zip").write_bytes(skill("odd"))
    (lab.inputs / "none.zip").write_bytes(b"no zip")
    async with lab.service() as endpoint, async_playwright() as playwright:
        settings = lab.settings(endpoint, {"token_file": "token"})
        nightly = {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "sources": ["in"]}
        settings.write_text(f"{settings.read_text()}[schedule.nightly]\n{toml(nightly)}")
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        async with lab.serving(settings, token=TOKEN) as serving:
            yield World(lab, endpoint, serving, browser)
        await browser.close()


async def check(page: Page) -> None:
    """Nothing that keeps somebody out, in both schemes; no width scrolls sideways."""
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        await page.emulate_media(color_scheme=scheme)
        found = await Axe().run(page, options=AXE)
        wrong = [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found.response["violations"]]
        assert wrong == [], (page.url, scheme)
    size = page.viewport_size
    for width in WIDTHS:
        await page.set_viewport_size({"width": width, "height": 800})
        wide = await page.evaluate("document.documentElement.scrollWidth")
        assert wide == width, page.url
    assert size is not None
    await page.set_viewport_size(size)
    assert await page.locator("main img, main script, main style, [style], [onerror]").count() == 0


async def ask(page: Page) -> str:
    """Ask for a scan by the form; return the run's id."""
    await page.get_by_role("link", name="New run").click()
    await page.get_by_role("button", name="Start the scan").click()
    await page.wait_for_url(re.compile("/view/runs/2"))
    return page.url.rpartition("/")[2]


async def look_into(page: Page, run_id: str) -> None:
    """From a run to its findings, to the history of one, and back."""
    await page.get_by_role("link", name="Look at the findings").click()
    rows = page.locator("table.findings tbody tr")
    await expect(rows).to_have_count(4)
    await page.get_by_label("Verdict").select_option("malicious")
    await page.get_by_label("Text").fill("INVOICE")
    await page.get_by_role("button", name="Show").click()
    await expect(rows).to_have_count(1)
    await expect(rows.first).to_contain_text(r"invoice\u202egpj.zip")
    await page.get_by_label("Verdict").select_option("all")
    await page.get_by_label("Text").fill("")
    await page.get_by_role("button", name="Show").click()
    await expect(rows).to_have_count(11)
    await check(page)
    await page.get_by_role("link", name="<img").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("<img src=x")
    await expect(page.locator(".standing")).to_contain_text("malicious")
    await check(page)
    await page.get_by_role("link", name=run_id).click()
    assert page.url.endswith(run_id)


async def test_a_run_is_asked_for_watched_looked_into_and_another_one_ended(world: World) -> None:
    gate = world.endpoint.detector.gate
    gate.clear()
    async with world.page() as page:
        await check(page)
        await page.get_by_role("link", name="New run").click()
        await check(page)
        run_id = await ask(page)
        live = page.locator("#live")
        await expect(live.get_by_text("submitted", exact=True).locator("+ dd")).to_have_text("10")
        await expect(live.get_by_role("heading", name="Under way")).to_be_visible()
        await check(page)
        overview = await page.context.new_page()
        await overview.goto(f"{world.serving.url}/view/")
        await expect(overview.get_by_role("link", name=run_id).first).to_be_visible()
        await expect(overview.get_by_role("heading", name="What is left")).to_be_visible()
        await expect(overview.locator("#quota dl")).to_be_visible()
        await check(overview)
        gate.set()
        # the page that is open tells how it ended, without being loaded again
        await expect(
            live.get_by_role("heading", name="3 malicious and 1 suspicious among 11")
        ).to_be_visible()
        await expect(page.locator("[role=status]")).to_have_text("complete")
        await expect(overview.locator("#overview table.runs .state.complete")).to_be_visible(timeout=10_000)
        await overview.close()
        await check(page)

        await look_into(page, run_id)

        gate.clear()
        (world.lab.inputs / "late.zip").write_bytes(skill("late evil"))
        await ask(page)
        await page.get_by_text("End this run").click()
        # what is renewed meanwhile does not shut it
        await expect(live.get_by_text("submitted", exact=True).locator("+ dd")).to_have_text("1")
        await page.get_by_role("button", name="End it now").click()
        await expect(page.get_by_role("heading", name="The run was ended")).to_be_visible()
        await expect(page.get_by_text("End this run")).to_have_count(0)
        for name in ("Runs", "Skills", "Schedules"):
            await page.get_by_role("link", name=name, exact=True).click()
            await expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()
            await check(page)
        await expect(page.get_by_text("At 02:30 every day, Europe/Berlin")).to_be_visible()
        await page.goto(f"{world.serving.url}/view/quota")
        await check(page)
        gate.set()
        await page.get_by_role("button", name="Log out").click()
        await expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        await check(page)
        await page.goto(f"{world.serving.url}/view/runs/{run_id}")
        await expect(page.get_by_label("Token")).to_be_visible()


async def test_without_script_nothing_is_missing(world: World) -> None:
    gate = world.endpoint.detector.gate
    gate.set()
    (world.lab.inputs / "later.zip").write_bytes(skill("later evil"))
    async with world.page(java_script_enabled=False, viewport={"width": 390, "height": 800}) as page:
        run_id = await ask(page)
        await world.serving.ended(run_id)
        await page.reload()
        await expect(
            page.get_by_role("heading", name="5 malicious and 1 suspicious among 13")
        ).to_be_visible()
        await expect(page.get_by_role("heading", name="The worst findings")).to_be_visible()
        await page.get_by_role("link", name="Look at the findings").click()
        await page.get_by_label("Verdict").select_option("none")
        await page.get_by_role("button", name="Show").click()
        await expect(page.locator("table.findings tbody tr")).to_contain_text(["none.zip"])
        await page.get_by_role("link", name="Skills").click()
        await page.get_by_label("Path or SHA-256").fill("later.zip")
        await page.get_by_role("button", name="Find").click()
        await expect(page.locator(".standing")).to_contain_text("malicious")
        await page.get_by_role("link", name="Overview").click()
        await page.get_by_role("link", name="Ask the endpoint").click()
        await expect(page.get_by_text("with the service")).to_be_visible()
        gate.clear()
        (world.lab.inputs / "last.zip").write_bytes(skill("last evil"))
        last = await ask(page)
        await page.get_by_text("End this run").click()
        await page.get_by_role("button", name="End it now").click()
        await world.serving.ended(last)
        await page.reload()
        await expect(page.get_by_role("heading", name="The run was ended")).to_be_visible()
        gate.set()
