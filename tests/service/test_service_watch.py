"""The watch with real files and the real service: whole files only, few runs, each file one row."""

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from cli_lab import Service, digest, skill, until
from service_lab import ServiceLab, Serving
from test_service_schedules import query, schedules

PROBE = "probe.zip"
WATCH = {"sources": ["in"], "watch": True, "watch_settle": "300ms", "exclude": ["draft-*"]}


async def watching(lab: ServiceLab, service: Service) -> None:
    """Touch a file until it is submitted: from then on the watch is on."""
    (lab.inputs / PROBE).write_bytes(skill("probe"))
    while not service.creates:
        os.utime(lab.inputs / PROBE)
        await asyncio.sleep(0.5)


def rename_into(lab: ServiceLab, name: str, text: str) -> Path:
    """As tools deliver: written beside, then renamed."""
    whole, part = lab.inputs / name, lab.inputs / f".{Path(name).name}.part"
    part.write_bytes(skill(text))
    return part.rename(whole)


async def rows(lab: ServiceLab, serving: Serving) -> list[dict[str, Any]]:
    """All rows of the runs of the watch, when all that follows them is done."""
    await until(lambda: query(lab, "SELECT count(*) FROM aftermath WHERE steps IS NULL") == [(0,)])
    runs = (await serving.get("/runs?limit=100")).json["runs"]
    mine = [run["run_id"] for run in runs if run["origin"] == "watch new"]
    return [row for run_id in mine for row in lab.rows(lab.report_of(run_id)) if PROBE not in row["path"]]


async def sent(service: Service, number: int) -> None:
    """Wait for so many contents beside the probe."""
    await until(lambda: len(service.creates) >= number + 1)


async def test_new_files_are_submitted_when_they_are_whole_and_each_has_one_row(lab: ServiceLab) -> None:
    async with lab.service() as service:
        settings = schedules(lab.settings(service), {"new": WATCH})
        async with lab.serving(settings) as serving:
            await watching(lab, service)
            rename_into(lab, "first.zip", "evil")
            await sent(service, 1)
            # a burst, a directory that came later, one that came whole, and what is not meant
            (lab.inputs / "later").mkdir()
            for number in range(200):
                rename_into(lab, f"later/{number:03}.zip", f"burst {number}")
            beside = lab.path / "beside"
            (beside / "deep").mkdir(parents=True)
            (beside / "deep" / "moved.zip").write_bytes(skill("moved"))
            beside.rename(lab.inputs / "beside")
            rename_into(lab, "draft-1.zip", "draft")
            with (lab.inputs / "half.zip").open("wb") as half:
                half.write(skill("half")[:40])
                half.flush()
                os.fsync(half.fileno())
                await sent(service, 202)
                half.write(skill("half")[40:])
            await sent(service, 203)
            rename_into(lab, "first.zip", "evil again")
            await sent(service, 204)
            found = await rows(lab, serving)
            runs = (await serving.get("/runs?limit=100")).json["runs"]
        names = Counter(row["path"] for row in found)
        first = f"{lab.inputs}/first.zip"
        assert names.pop(first) == 2
        assert set(names.values()) == {1}
        assert len(names) == 202
        assert f"{lab.inputs}/beside/deep/moved.zip" in names
        assert {row["outcome"] for row in found} == {"scanned"}
        assert service.creates[digest(lab.inputs / "half.zip")] == 1
        assert len(service.creates) == 205
        assert len(runs) <= 15, "a burst is few runs"
        assert {run["priority"] for run in runs} == {50}


@pytest.mark.parametrize("polling", [False, True])
async def test_a_name_that_is_no_text_does_not_end_the_watch(
    lab: ServiceLab, monkeypatch: pytest.MonkeyPatch, *, polling: bool
) -> None:
    environment = lab.environment
    told = {"WATCHFILES_FORCE_POLLING": "1"} if polling else {}
    monkeypatch.setattr(lab, "environment", lambda changes: environment({**changes, **told}))
    async with lab.service() as service:
        settings = schedules(lab.settings(service), {"new": WATCH})
        async with lab.serving(settings) as serving:
            await watching(lab, service)
            (lab.inputs / os.fsdecode(b"bad-\xff.zip")).write_bytes(skill("bad name"))
            for name in ("a", "new\nline", "c"):
                rename_into(lab, f"{name}.zip", name)
            await sent(service, 3)
            found = {row["path"] for row in await rows(lab, serving)}
            serving.signal(signal.SIGTERM)
            told_of = await serving.stopped()
    assert found - {f"{lab.inputs}/bad-\\xff.zip"} == {
        f"{lab.inputs}/{name}.zip" for name in ("a", "new\nline", "c")
    }
    assert polling or "watch-begins-anew" in told_of


async def test_a_file_that_is_deleted_before_its_turn_has_its_row(lab: ServiceLab) -> None:
    other = lab.inputs / "draft-other"
    other.mkdir(parents=True)
    (other / "x.zip").write_bytes(skill("other"))
    async with lab.service() as service:
        settings = schedules(lab.settings(service, {"max_runs": 1}), {"new": WATCH})
        async with lab.serving(settings) as serving:
            await watching(lab, service)
            service.hold()
            urgent = await serving.order({"sources": [str(other)], "priority": 100})
            gone = rename_into(lab, "gone.zip", "gone")
            lists = lab.state / "arrivals"
            await until(lambda: any(b"gone.zip" in each.read_bytes() for each in lists.iterdir()))
            gone.unlink()
            service.release()
            assert (await serving.ended(urgent["run_id"]))["state"] == "complete"
            found = [row for row in await rows(lab, serving) if row["path"] == str(gone)]
    assert [(row["outcome"], row["error"]["code"]) for row in found] == [("rejected", "missing")]
