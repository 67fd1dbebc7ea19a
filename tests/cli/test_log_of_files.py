"""One line in the log for each input, in JSON where stderr is no terminal, with what led to its row."""

import json
from collections import Counter
from typing import Any

from cli_lab import SECRET_KEY, Done, Lab, digest, skill, skills


def lines(done: Done) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]


def files(done: Done) -> list[dict[str, Any]]:
    return [line for line in lines(done) if line["event"] == "file"]


async def test_each_input_has_one_line_at_its_end(lab: Lab) -> None:
    first, *_ = skills(lab.inputs, 2)
    (lab.inputs / "bad.zip").write_bytes(skill("evil"))
    (lab.inputs / "broken.zip").write_bytes(b"no zip")
    (lab.inputs / "strange.zip").write_bytes(skill("strange"))
    async with lab.service(drill="Create:InternalError*1") as service:
        done = await lab.scan(service, lab.inputs, "-o", lab.report, "--log-level", "info", "-q")
        (lab.inputs / "strange.zip").unlink()  # it takes a while until that is given up
        again = await lab.scan(service, lab.inputs, "-o", "b.jsonl", "--log-level", "info", "-q")
        deep = await lab.scan(service, lab.inputs, "-o", "c.jsonl", "--log-level", "debug", "-q")
        mute = await lab.scan(service, lab.inputs, "-o", "d.jsonl", "-q")
    rows = {row["path"]: row for row in lab.rows()}
    told = {line["path"]: line for line in files(done)}
    assert len(files(done)) == len(rows) == 5
    assert {path: line["outcome"] for path, line in told.items()} == {
        p: r["outcome"] for p, r in rows.items()
    }
    assert {line["run_id"] for line in told.values()} == {rows["bad.zip"]["run_id"]}
    assert {line["level"] for line in told.values()} == {"info"}
    good = told[first.name]
    assert (good["sha256"], good["verdict"], good["billed_files"]) == (digest(first), "benign", 1)
    assert good["took_s"] >= 0
    assert sum(line["attempts"] for line in told.values()) >= 4
    assert told["broken.zip"]["code"] == "not-a-zip"
    assert told["strange.zip"]["code"] == rows["strange.zip"]["error"]["code"]
    assert told["strange.zip"]["request_id"] == rows["strange.zip"]["error"]["request_id"]

    assert {line["path"] for line in files(again)} == {"broken.zip"}
    assert Counter((line["outcome"], line["level"]) for line in files(deep))["reused", "debug"] == 3
    assert files(mute) == []


async def test_every_call_is_told_with_its_request_and_its_content_at_debug(lab: Lab) -> None:
    (path,) = skills(lab.inputs, 1)
    async with lab.service(drill="Create:InternalError*1") as service:
        done = await lab.scan(service, lab.inputs, "--log-level", "debug")
    calls = [line for line in lines(done) if line["event"] == "api-call"]
    creates = [call for call in calls if call["action"] == "CreateSkillScan"]
    assert [call["code"] for call in creates] == ["InternalError", None]
    assert {call["sha256"] for call in calls} == {digest(path)}
    assert {call["stage"] for call in creates} == {"submit"}
    assert len({call["request_id"] for call in calls}) == len(calls)
    assert len({call["run_id"] for call in calls}) == 1
    assert SECRET_KEY not in done.err
