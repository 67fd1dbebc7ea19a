"""Each code in a fifth of all calls: every row is right at the end, and nothing was billed twice."""

from pathlib import Path

import pytest
from cli_lab import FAST, Lab, code_of, skills
from test_errors_walk import DRILLED, OURS, PARTS, Walk, each, no_waits, told

from batchscan.api.reactions import CREATE, RESULT, policy
from batchscan.errors import Reaction
from batchscan.models import Outcome

__all__ = ["no_waits"]  # a fixture

FILES = 10
STOPS = (Reaction.RUN, Reaction.CLOCK, Reaction.CREDENTIAL)


@pytest.mark.parametrize("part", range(PARTS))
async def test_each_code_at_a_fifth_ends_with_every_row_right(tmp_path: Path, part: int) -> None:
    async def step(code: str, walk: Walk) -> None:
        fault = OURS.get(code, code)
        actions = ("Create",) if fault == "wrong-hash" else ("Create", "Result")
        drill = ",".join((*(f"{action}:{fault}@0.2" for action in actions), "seed=7"))
        async with walk.service(drill) as engine:
            summary, rows = await walk.scan(engine)
            port = int(engine.url.rsplit(":", 1)[1].strip("/"))
        reactions = {policy(code, CREATE).reaction, policy(code, RESULT).reaction}
        assert len(rows) == FILES
        assert len({row.path for row in rows}) == FILES
        allowed = {Outcome.SCANNED, Outcome.FAILED}
        if summary.exit_code == 4:
            assert reactions & set(STOPS)
            allowed |= {Outcome.PENDING}
        for row in rows:
            assert row.outcome in allowed, row
            assert (row.verdict == "benign") == (row.outcome is Outcome.SCANNED)
            if row.error is not None and code not in OURS:
                assert row.error.code in (code, "not-found"), row.error
        if reactions <= {Reaction.THROTTLE}:
            assert told(rows) == {(Outcome.SCANNED, None)}
        if summary.exit_code == 0:
            return
        async with walk.service(None, port=port) as engine:
            after, rows = await walk.scan(engine)
            stats = await engine.stats()
        if after.exit_code == 3:  # a resumed run keeps the rows that have failed; the next one scans them
            async with walk.service(None, port=port) as engine:
                after, rows = await walk.scan(engine)
                stats = await engine.stats()
        assert after.exit_code == 0
        assert {row.outcome for row in rows} <= {Outcome.SCANNED, Outcome.REUSED}
        assert stats["scans"] == {"SUCCESS": FILES}

    await each(tmp_path, DRILLED[part::PARTS], FILES, step)


async def test_a_fatal_code_stops_at_once_and_the_run_is_resumed_when_it_is_over(lab: Lab) -> None:
    """Exit 4, the ledger intact, every input with its row, few requests."""
    code, files = "UnauthorizedOperation.CamNoAuth", 150
    skills(lab.inputs, files)
    async with lab.service(drill=f"Create:{code}") as service:
        done = await lab.scan(service, "in", "-o", lab.report, "--json")
        requests = service.arrivals
        port = int(service.url.rsplit(":", 1)[1].strip("/"))
    assert done.code == 4
    assert done.summary["error"]["code"] == code
    assert requests <= 50
    rows = lab.rows_of(files)
    assert {(row["outcome"], code_of(row)) for row in rows} == {("pending", code)}
    assert (await lab.run("status", "--verify")).code == 0
    async with lab.service(port=port) as service:
        resumed = await lab.run("resume", *FAST, "--json")
    assert resumed.code == 0
    assert set(service.creates.values()) == {1}
    assert {row["outcome"] for row in lab.rows_of(files)} == {"scanned"}
