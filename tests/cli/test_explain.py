"""`explain`: everything that is known of one file, by any name that it goes by."""

import json
import os
from pathlib import Path

from cli_lab import Lab, digest, skill, skills


async def test_a_file_is_found_by_every_name_it_goes_by(lab: Lab) -> None:
    odd, fine = skills(lab.inputs / "deep", 1, "odd") + skills(lab.inputs, 1, "fine")
    (lab.inputs / "copy.zip").write_bytes(odd.read_bytes())
    async with lab.service() as service:
        scanned = await lab.scan(service, "in", "-o", lab.report, "--json")
    sha256 = digest(odd)
    names: list[str | Path] = [odd, "in/deep/odd-0000.zip", "deep/odd-0000.zip", sha256, sha256[:8].upper()]
    found = [await lab.run("explain", name, "--json") for name in names]
    assert [done.code for done in found] == [0] * len(names)
    (first, *others) = [json.loads(done.out) for done in found]
    assert others == [first] * len(others)
    run_id = scanned.summary["run_id"]
    assert first["sha256"] == sha256
    assert [Path(file["path"]).name for file in first["files"]] == ["copy.zip", "odd-0000.zip"]
    assert {file["now"] for file in first["files"]} == {"as then"}
    (standing,) = first["standings"]
    assert (standing["state"], standing["attempts"], standing["reserved_files"]) == ("done", 1, 0)
    (verdict,) = first["verdicts"]
    assert (verdict["verdict"], verdict["score"], verdict["stands"]) == ("suspicious", 50, True)
    assert verdict["rules"][0]["id"] == "90002"
    assert verdict["report_url"] is None
    assert first["runs"] == [{"run_id": run_id, "how": "fetched its verdict"}]

    person = await lab.run("explain", odd)
    for text in (sha256, "(as then)", "suspicious (score 50) by engine", "rule 90002", f"run {run_id}"):
        assert text in person.out
    odd.write_bytes(skill("something else"))
    fine.unlink()
    changed = json.loads((await lab.run("explain", odd, "--json")).out)
    assert {Path(file["path"]).name: file["now"] for file in changed["files"]} == {
        "copy.zip": "as then",
        "odd-0000.zip": "changed",
    }
    gone = await lab.run("explain", "fine-0000.zip")
    assert "fine-0000.zip (missing)" in gone.out


async def test_what_is_not_judged_yet_or_never_will_be(lab: Lab) -> None:
    skills(lab.inputs, 1, "broken")
    (lab.inputs / "text.zip").write_text("no archive")
    async with lab.service() as service:
        await lab.scan(service, "in", "-o", lab.report)
        service.detector.gate.clear()
        skills(lab.inputs, 1, "later")
        await lab.scan(service, "in/later-0000.zip", "--no-wait")
        broken, text, later = [
            json.loads((await lab.run("explain", f"in/{name}.zip", "--json")).out)
            for name in ("broken-0000", "text", "later-0000")
        ]
    assert broken["standings"][0]["state"] == "failed"
    assert broken["standings"][0]["error"]["code"] == "scan-failed"
    assert broken["runs"][0]["how"] == "gave it up"
    assert (text["error"]["code"], text["standings"], text["verdicts"]) == ("not-a-zip", [], [])
    assert later["standings"][0]["state"] == "scanning"
    assert later["standings"][0]["reserved_files"] == 1
    assert later["standings"][0]["due_at"] is not None
    assert later["runs"][0]["how"] == "waits for its verdict"


async def test_names_that_mean_nothing_or_too_much(lab: Lab) -> None:
    early = await lab.run("explain", "in/x.zip")
    assert (early.code, "no ledger" in early.err) == (5, True)
    raw = os.fsencode(lab.inputs) + b"/\xff\n.zip"
    lab.inputs.mkdir()
    Path(os.fsdecode(raw)).write_bytes(skill("odd name"))  # noqa: ASYNC240 - nothing else runs here
    for number in range(21):
        skills(lab.inputs / str(number), 1, "same").pop().write_bytes(skill(f"{number}"))
    async with lab.service() as service:
        await lab.scan(service, "in", "-o", lab.report)
    (shown,) = [row["path"] for row in lab.rows() if "xff" in row["path"]]
    odd, exact = [await lab.run("explain", name) for name in (shown, raw)]
    assert odd.code == exact.code == 0
    assert odd.out == exact.out
    assert "\n.zip" not in odd.out
    many = await lab.run("explain", "same-0000.zip")
    assert (many.code, "more than 20 files" in many.err) == (2, True)
    for name in ("nosuch.zip", "0" * 64, "", "0000000"):
        nothing = await lab.run("explain", name)
        assert (nothing.code, "nothing is known" in nothing.err) == (5, True), name


async def test_a_report_link_is_shown_where_it_was_kept(lab: Lab) -> None:
    skills(lab.inputs, 1, "odd")
    async with lab.service() as service:
        await lab.scan(service, "in", "--report-urls")
        (link,) = service.links
    done = await lab.run("explain", "odd-0000.zip")
    assert f"report: {link}" in done.out
