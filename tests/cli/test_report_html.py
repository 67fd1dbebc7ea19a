"""The page of a report, made by the command: what it knows from the ledger beyond the report itself."""

import re

from cli_lab import Lab, skills


async def test_a_page_tells_of_the_runs_before_and_of_what_changed(lab: Lab) -> None:
    skills(lab.inputs, 3)
    async with lab.service() as service:
        first = await lab.scan(service, "in", "--json")
        skills(lab.inputs, 1, "evil")
        (lab.inputs / "text.zip").write_text("no ZIP")
        second = await lab.scan(service, "in", "--json")
    made = await lab.run("report", "--format", "html", "-o", "page.html")
    alone = await lab.run(
        "report", first.summary["report"], "--format", "html", "--state-dir", str(lab.path / "other")
    )
    assert (made.code, alone.code, made.out, made.err) == (0, 0, "", "")
    page = (lab.path / "page.html").read_text(encoding="utf-8")
    assert '<h1 id="title">Incomplete: 1 of 5 inputs has no verdict</h1>' in page
    assert re.search(
        r"Since the run of \d{4}-\d\d-\d\d \d\d:\d\d UTC: 1 malicious skill new; 1 input cannot", page
    )
    assert "The last 2 runs over the same inputs" in page
    assert page.count('class="tag fresh"') == 1
    command = f"batchscan compare {first.summary['run_id']} {second.summary['run_id']}"
    assert command in page
    assert f"Service at {second.summary['endpoint']}" in page
    assert '<h1 id="title">Nothing was found in 3 inputs</h1>' in alone.out
    assert "Whether the run ended is not known" in alone.out
    assert "What changed" not in alone.out
