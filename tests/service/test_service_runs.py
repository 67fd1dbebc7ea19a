"""Runs by HTTP: asked for, followed, listed, read, ended. One service for all tests."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from cli_lab import Service, by_path, skill, skills
from service_lab import API, Event, ServiceLab, Serving

from batchscan.formats.registry import FORMATS
from batchscan.service.reports_api import MEDIA

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Room:
    """A service that is asked by all tests of this module, and its endpoint."""

    lab: ServiceLab
    endpoint: Service
    serving: Serving


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def room(shared_lab: ServiceLab) -> AsyncIterator[Room]:
    async with shared_lab.service() as endpoint, shared_lab.serving(shared_lab.settings(endpoint)) as serving:
        yield Room(shared_lab, endpoint, serving)


async def test_a_run_is_carried_out_told_of_and_read_in_each_format(room: Room) -> None:
    place = room.lab.inputs / "first"
    skills(place, 3)
    (place / "bad.zip").write_bytes(skill("evil"))
    reply = await room.serving.post("/runs", {"sources": [str(place)]})
    assert reply.status == 202
    run_id = reply.json["run_id"]
    assert reply.headers["Location"] == f"{API}/runs/{run_id}"
    run = await room.serving.ended(run_id)
    assert (run["state"], run["origin"], run["priority"]) == ("complete", "api", 50)
    assert run["summary"]["counts"]["scanned"] == 4
    assert run["summary"]["verdicts"]["malicious"] == 1
    written = room.lab.report_of(run_id)
    assert by_path(room.lab.rows_of(4, written))["bad.zip"]["verdict"] == "malicious"
    told = await room.serving.get(f"/runs/{run_id}/report")
    assert told.text.encode() == written.read_bytes()
    assert MEDIA.keys() == FORMATS.keys() | {"jsonl"}
    for name, media in MEDIA.items():
        path = f"{room.serving.url}{API}/runs/{run_id}/report?format={name}"
        async with room.serving.http.get(path) as sent:
            assert (sent.status, sent.headers["Content-Type"]) == (200, media)
            assert sent.headers["Content-Disposition"].startswith(f'attachment; filename="{run_id}.')
            content = await sent.read()
            assert b"bad.zip" in content, name
    decided = (await room.serving.get(f"/runs/{run_id}/decisions")).json
    assert {d["path"]: d["decision"] for d in decided["decisions"]}["bad.zip"] == "block"
    assert decided["counts"]["inputs"] == 4
    assert not [path.name for path in room.lab.state.iterdir() if path.name.startswith("decisions-")]
    (found,) = (await room.serving.get("/files", params={"path": "first/bad.zip"})).json["contents"]
    assert found["verdicts"][0]["verdict"] == "malicious"
    same = await room.serving.get(f"/files/{found['sha256']}")
    assert same.json == found
    assert found["runs"] == [{"run_id": run_id, "how": found["runs"][0]["how"]}]


async def test_a_report_that_cannot_be_read_is_the_same_problem_in_each_format(room: Room) -> None:
    place = room.lab.inputs / "unreadable"
    skills(place, 1, "unreadable")
    run_id = (await room.serving.order({"sources": [str(place)]}))["run_id"]
    await room.serving.ended(run_id)
    report = room.lab.report_of(run_id)
    content = report.read_bytes()
    # one that the system does not even look for, and one whose reading fails
    for target in ("x" * 300, "/proc/self/mem"):
        report.unlink()
        report.symlink_to(target)
        for path in (*(f"report?format={name}" for name in MEDIA), "decisions"):
            problem = (await room.serving.get(f"/runs/{run_id}/{path}")).problem(502, "bad-gateway")
            assert report.name in problem["detail"], (target, path)
    report.unlink()
    report.write_bytes(content)
    assert (await room.serving.get(f"/runs/{run_id}/report")).status == 200


async def test_a_report_that_was_cut_at_a_lines_end_does_not_look_whole(room: Room) -> None:
    place = room.lab.inputs / "cut"
    skills(place, 3, "cut")
    run_id = (await room.serving.order({"sources": [str(place)]}))["run_id"]
    await room.serving.ended(run_id)
    report = room.lab.report_of(run_id)
    rows = report.read_bytes().splitlines(keepends=True)
    for kept in (3, 2, 0):
        report.write_bytes(b"".join(rows[:kept]))
        told = await room.serving.get(f"/runs/{run_id}/report")
        assert (told.status, told.text.encode()) == (200, report.read_bytes())
        assert told.headers["Batchscan-Rows-Missing"] == str(3 - kept)
    # nor one that was cut within a line, of which the whole ones are sent
    report.write_bytes(b"".join(rows)[:-10])
    told = await room.serving.get(f"/runs/{run_id}/report")
    assert (told.text.encode(), told.headers["Batchscan-Rows-Missing"]) == (b"".join(rows[:2]), "1")
    described = (await room.serving.get("/openapi.json")).json["paths"]["/runs/{run_id}/report"]["get"]
    assert "Batchscan-Rows-Missing" in described["responses"]["200"]["headers"]


async def test_the_same_key_is_the_same_run(room: Room) -> None:
    place = room.lab.inputs / "keys"
    skills(place, 1, "key")
    order = {"sources": [str(place)], "priority": 7}
    key = {"Idempotency-Key": "night-2026-05-01"}
    replies = await asyncio.gather(*(room.serving.post("/runs", order, headers=key) for _ in range(5)))
    assert {reply.status for reply in replies} == {202}
    assert len({reply.json["run_id"] for reply in replies}) == 1
    assert sum("Idempotency-Replayed" in reply.headers for reply in replies) == 4
    run_id = replies[0].json["run_id"]
    await room.serving.ended(run_id)
    for path in place.iterdir():
        path.unlink()
    place.rmdir()  # the sources of before are not looked at again
    turned = {"priority": 7, "sources": [str(place)], "wait": True}
    again = await room.serving.post("/runs", turned, headers=key)
    assert (again.status, again.json["run_id"], again.json["state"]) == (202, run_id, "complete")
    other = await room.serving.post("/runs", {"sources": [str(room.lab.inputs)]}, headers=key)
    other.problem(409, "key-reused")
    assert run_id in other.json["detail"]


async def test_pages_and_filters_find_every_run_once(room: Room) -> None:
    place = room.lab.inputs / "pages"
    skills(place, 1, "page")
    asked = [(await room.serving.order({"sources": [str(place)]}))["run_id"] for _ in range(5)]
    for run_id in asked:
        await room.serving.ended(run_id)
    done = await room.lab.scan(room.endpoint, place, "--state-dir", room.lab.state, "-o", room.lab.report)
    assert done.code == 0, done.err
    seen: list[str] = []
    query = {"limit": "2"}
    while True:
        page = (await room.serving.get("/runs", params=query)).json
        assert len(page["runs"]) <= 2
        seen += [run["run_id"] for run in page["runs"]]
        if page["next"] is None:
            break
        query = {"limit": "2", "before": page["next"]}
    assert seen == sorted(set(seen), reverse=True)
    assert set(asked) < set(seen)
    by_hand = (await room.serving.get("/runs", params={"origin": "command line"})).json["runs"]
    assert [run["state"] for run in by_hand] == ["complete"]
    assert by_hand[0]["run_id"] in seen
    states = {"state": ["queued", "interrupted"], "limit": "100"}
    assert (await room.serving.get("/runs", params=states)).json["runs"] == []
    mine = (await room.serving.get("/runs", params={"origin": "api", "limit": "100"})).json["runs"]
    assert {run["run_id"] for run in mine} == set(seen) - {by_hand[0]["run_id"]}


async def test_a_run_is_ended_and_its_key_is_kept(room: Room) -> None:
    place = room.lab.inputs / "cancel"
    skills(place, 4, "cancel")
    room.endpoint.detector.gate.clear()
    try:
        run_id = (await room.serving.order({"sources": [str(place)]}))["run_id"]
        events = room.serving.events(f"/runs/{run_id}/events")
        async for event in events:
            if event.data.get("submitted") == 4:
                break
        await events.aclose()
        (await room.serving.get(f"/runs/{run_id}/report")).problem(409, "not-ended")
        assert (await room.serving.post(f"/runs/{run_id}/cancel")).status == 202
        run = await room.serving.ended(run_id)
        assert (run["state"], run["cancelled"]) == ("cancelled", True)
        # nothing waits for it any more, so no alert does
        metrics = (await room.serving.ask("GET", "/metrics")).text
        assert not [line for line in metrics.splitlines() if line.startswith("batchscan_oldest")]
        (await room.serving.post(f"/runs/{run_id}/cancel")).problem(409, "not-open")
    finally:
        room.endpoint.detector.gate.set()
    # what was submitted is judged, and paid for once
    rest = await room.serving.ended((await room.serving.order({"sources": [str(place)]}))["run_id"])
    assert rest["state"] == "complete"
    rows = room.lab.rows(room.lab.report_of(rest["run_id"]))
    assert {room.endpoint.creates[row["sha256"]] for row in rows} == {1}


async def test_a_rescan_is_a_run(room: Room) -> None:
    place = room.lab.inputs / "rescan"
    skills(place, 2, "evil rescan")
    await room.serving.ended((await room.serving.order({"sources": [str(place)]}))["run_id"])
    order = {"rescan": {"which": "verdict", "value": "malicious"}, "priority": 100}
    run = await room.serving.ended((await room.serving.order(order))["run_id"])
    assert run["state"] == "complete"
    assert run["rescan"] == "--verdict malicious"
    assert run["summary"]["rescan"]["judged"] >= 2


async def test_a_run_under_way_says_when_all_its_inputs_are_found(room: Room) -> None:
    place = room.lab.inputs / "found"
    skills(place, 4, "odd found")
    for order in ({"sources": [str(place)]}, {"rescan": {"which": "verdict", "value": "suspicious"}}):
        room.endpoint.hold()
        try:
            run_id = (await room.serving.order(order))["run_id"]
            events = room.serving.events(f"/runs/{run_id}/events")
            async for event in events:
                if (event.data.get("progress") or event.data).get("discovery_done"):
                    break
            await events.aclose()
            run = await room.serving.run(run_id)
            assert (run["state"], run["progress"]["found"]) == ("running", 4), order
        finally:
            room.endpoint.release()
        assert (await room.serving.ended(run_id))["state"] == "complete"


async def test_a_run_that_cannot_be_made_fails_and_the_service_lives_on(room: Room) -> None:
    empty = room.lab.inputs / "empty"
    empty.mkdir()
    run = await room.serving.ended((await room.serving.order({"sources": [str(empty)]}))["run_id"])
    assert (run["state"], run["problem"]["code"]) == ("failed", "nothing-matched")
    gone = skills(room.lab.inputs / "gone", 1, "gone")[0]
    reports, aside = room.lab.state / "reports", room.lab.state / "aside"
    reports.rename(aside)
    reports.touch()
    try:
        run = await room.serving.ended((await room.serving.order({"sources": [str(gone)]}))["run_id"])
    finally:
        reports.unlink()
        aside.rename(reports)
    assert (run["state"], run["problem"]["code"]) == ("failed", "failed")
    assert "cannot be made" in run["problem"]["message"]
    after = await room.serving.ended((await room.serving.order({"sources": [str(gone)]}))["run_id"])
    assert after["state"] == "complete"
    assert (await room.serving.ask("GET", "/healthz")).status == 200


async def test_events_have_ids_and_go_on_where_they_were(room: Room) -> None:
    place = room.lab.inputs / "events"
    skills(place, 2, "event")
    run_id = (await room.serving.order({"sources": [str(place)]}))["run_id"]
    path = f"/runs/{run_id}/events"
    seen: list[Event] = [event async for event in room.serving.events(path)]
    assert seen[0].kind == "snapshot"
    assert seen[0].data["run_id"] == run_id
    assert (seen[-1].kind, seen[-1].data["state"]) == ("run.state", "complete")
    numbers = [int(event.id) for event in seen]
    assert numbers == sorted(set(numbers))
    # what came after the first is told again, but for progress, which is over
    rest = [event async for event in room.serving.events(path, last=seen[0].id)]
    assert [event.id for event in rest] == [e.id for e in seen[1:] if e.kind == "run.state"]
    # all was seen: a browser is told not to come back
    assert (await room.serving.get(path, headers={"Last-Event-ID": seen[-1].id})).status == 204
    # an id that is not known any more, or never was: how things stand
    for last in ("1", "nonsense", str(numbers[-1] + 10**6)):
        (only,) = [event async for event in room.serving.events(path, last=last)]
        assert (only.kind, only.data["state"]) == ("snapshot", "complete")


async def test_fifty_streams_hear_of_a_run_at_once(room: Room) -> None:
    place = room.lab.inputs / "fifty"
    skills(place, 2, "fifty")

    told = 0
    all_told = asyncio.Event()

    async def hear(stream: AsyncIterator[Event]) -> tuple[str, str]:
        nonlocal told
        async for event in stream:
            if event.kind == "snapshot":
                told += 1
                if told == 50:
                    all_told.set()
            elif event.data.get("state") == "complete":
                return event.id, event.data["run_id"]
        raise AssertionError("the stream ended")

    listening = [asyncio.create_task(hear(room.serving.events("/events"))) for _ in range(50)]
    await all_told.wait()
    run_id = (await room.serving.order({"sources": [str(place)]}))["run_id"]
    heard = set(await asyncio.gather(*listening))
    assert {run for _, run in heard} == {run_id}
    assert len(heard) == 1  # all by the same number


async def test_the_quota_is_told(room: Room) -> None:
    quota = (await room.serving.get("/quota")).json
    assert (quota["total"], quota["unlimited"]) == (100_000, False)
    assert quota["remaining"] == quota["total"] - quota["used"]


async def test_metrics_count_what_the_runs_did(room: Room) -> None:
    place = room.lab.inputs / "metrics"
    skills(place, 3, "metric")
    await room.serving.ended((await room.serving.order({"sources": [str(place)]}))["run_id"])
    reply = await room.serving.ask("GET", "/metrics")
    assert reply.status == 200
    values = dict(line.rsplit(" ", 1) for line in reply.text.splitlines() if line and line[0] != "#")
    (scanned,) = (float(v) for k, v in values.items() if "files_total" in k and 'outcome="scanned"' in k)
    assert scanned >= 3
    assert values['batchscan_runs{state="running"}'] == "0.0"
    assert json.loads((await room.serving.ask("GET", "/readyz")).text)["status"] == "ok"
