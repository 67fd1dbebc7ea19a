"""The life of a service: one per state directory, stopped in time, killed and gone on, the urgent first."""

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path

from cli_lab import Service, digest, skills, until
from service_lab import STOP_S, ServiceLab, Serving


async def submitted(serving: Serving, run_id: str, count: int) -> None:
    """Wait until so many of the run's files are at the endpoint."""
    events = serving.events(f"/runs/{run_id}/events")
    async for event in events:
        if event.data.get("submitted", 0) >= count:
            break
    await events.aclose()


def arrived(service: Service, paths: list[Path]) -> list[int]:
    """At which place the files of a run arrived, among all."""
    order = list(service.creates)
    return [order.index(digest(path)) for path in paths if digest(path) in service.creates]


async def test_a_killed_service_goes_on_with_its_runs(lab: ServiceLab) -> None:
    first, second = skills(lab.inputs / "a", 8, "first"), skills(lab.inputs / "b", 3, "second")
    async with lab.service() as service:
        settings = lab.settings(service, {"max_runs": 1})
        service.detector.gate.clear()
        async with lab.serving(settings) as serving:
            running = (await serving.order({"sources": [str(lab.inputs / "a")]}))["run_id"]
            queued = (await serving.order({"sources": [str(lab.inputs / "b")]}))["run_id"]
            await submitted(serving, running, len(first))
            assert (await serving.run(queued))["state"] == "queued"
            other = await lab.run("serve", "--config", str(settings))
            assert other.code == 2
            assert f"process {serving.process.pid}" in other.err
            await serving.kill()
        service.detector.gate.set()
        async with lab.serving(settings) as serving:
            for run_id, files in ((running, first), (queued, second)):
                run = await serving.ended(run_id)
                assert run["state"] == "complete"
                lab.rows_of(len(files), lab.report_of(run_id))
        assert service.creates == Counter(digest(path) for path in (*first, *second))
    verified = await lab.run("status", "--verify", "--state-dir", lab.state)
    assert verified.code == 0, verified.out


async def test_a_signal_ends_the_service_in_time_with_streams_and_calls_open(
    lab: ServiceLab,
) -> None:
    skills(lab.inputs, 6)
    async with lab.service() as service:
        settings = lab.settings(service)
        async with lab.serving(settings) as serving:
            service.hold()
            run_id = (await serving.order({"sources": [str(lab.inputs)]}))["run_id"]
            await until(lambda: service.arrivals > 0)
            opened = 0
            all_open = asyncio.Event()

            async def follow(path: str) -> int:
                nonlocal opened
                heard = 0
                async for _ in serving.events(path):
                    heard += 1
                    opened += heard == 1
                    if opened == 20:
                        all_open.set()
                return heard

            paths = ["/events", f"/runs/{run_id}/events"] * 10
            following = [asyncio.create_task(follow(path)) for path in paths]
            await all_open.wait()
            began = time.monotonic()
            serving.signal(signal.SIGTERM)
            errors = await serving.stopped(STOP_S)
            assert serving.process.returncode == 0
            assert "stopping" in errors
            assert min(await asyncio.gather(*following)) >= 1  # each ended, and none with an error
            assert time.monotonic() - began < STOP_S
        # a second signal does not wait for calls under way, which have eight seconds otherwise
        async with lab.serving(settings) as serving:
            before = service.arrivals
            await until(lambda: service.arrivals > before)
            serving.signal(signal.SIGTERM)
            while (await serving.ask("GET", "/readyz")).status == 200:  # noqa: ASYNC110 - in another process
                await asyncio.sleep(0.05)
            serving.signal(signal.SIGTERM)
            await serving.stopped(5.0)
            assert serving.process.returncode == 0
        service.release()
        async with lab.serving(settings) as serving:
            assert (await serving.ended(run_id))["state"] == "complete"
        lab.rows_of(6, lab.report_of(run_id))


async def test_the_urgent_run_goes_first_at_the_cap(lab: ServiceLab) -> None:
    low, high = skills(lab.inputs / "low", 24, "low"), skills(lab.inputs / "high", 8, "high")
    async with lab.service() as service, lab.serving(lab.settings(service, rate=10)) as serving:
        nightly = (await serving.order({"sources": [str(lab.inputs / "low")], "priority": 0}))["run_id"]
        await submitted(serving, nightly, 3)
        urgent = (await serving.order({"sources": [str(lab.inputs / "high")], "priority": 90}))["run_id"]
        assert (await serving.ended(urgent))["state"] == "complete"
        assert (await serving.run(nightly))["state"] == "running"
        places = arrived(service, high)
        between = [place for place in arrived(service, low) if places[0] < place < max(places)]
        # three slots may have been booked before, and no more: see lines.AHEAD_S
        assert len(between) <= 3, (places, between)
        assert (await serving.ended(nightly))["state"] == "complete"
    assert service.creates == Counter(digest(path) for path in (*low, *high))


async def test_a_run_makes_place_for_more_urgent_ones_and_goes_on(lab: ServiceLab) -> None:
    low, high = skills(lab.inputs / "low", 40, "low"), skills(lab.inputs / "high", 2, "high")
    late = skills(lab.inputs / "late", 1, "late")
    async with (
        lab.service() as service,
        lab.serving(lab.settings(service, {"max_runs": 1}, rate=10)) as serving,
    ):
        nightly = (await serving.order({"sources": [str(lab.inputs / "low")], "priority": 0}))["run_id"]
        states = asyncio.create_task(_states(serving, nightly))
        await submitted(serving, nightly, 3)
        equal = (await serving.order({"sources": [str(lab.inputs / "high")], "priority": 0}))["run_id"]
        urgent = (await serving.order({"sources": [str(lab.inputs / "high")], "priority": 90}))["run_id"]
        assert (await serving.ended(urgent))["state"] == "complete"
        assert (await serving.run(equal))["state"] == "queued"
        await submitted(serving, nightly, 2)  # since it went on
        later = (await serving.order({"sources": [str(lab.inputs / "late")], "priority": 90}))["run_id"]
        assert (await serving.ended(later))["state"] == "complete"
        assert (await serving.ended(nightly))["state"] == "complete"
        assert await states == ["running", "queued", "running", "queued", "running", "complete"]
        assert (await serving.ended(equal))["summary"]["counts"]["reused"] == len(high)
    lab.rows_of(len(low), lab.report_of(nightly))
    assert service.creates == Counter(digest(path) for path in (*low, *high, *late))


async def _states(serving: Serving, run_id: str) -> list[str]:
    """What a run went through, from when it ran."""
    found: list[str] = []
    async for event in serving.events(f"/runs/{run_id}/events"):
        state = event.data.get("state")
        if state and (found or state == "running") and found[-1:] != [state]:
            found.append(state)
    return found


async def test_it_is_refused_to_be_reached_by_others_without_a_token(lab: ServiceLab) -> None:
    settings = lab.settings(None)
    refused = await lab.run("serve", "--config", str(settings), "--host", "0.0.0.0")
    assert refused.code == 2
    assert "token_file" in refused.err
    token = lab.path / "token"
    token.write_text("0123456789abcdef\n")
    token.chmod(0o644)
    settings = lab.settings(None, {"token_file": "token"})
    readable = await lab.run("serve", "--config", str(settings), "--host", "0.0.0.0")
    assert readable.code == 2
    assert "chmod 600" in readable.err
    assert not lab.state.exists() or not list(lab.state.glob("*.sqlite3"))
