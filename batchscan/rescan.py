"""Rescans: inputs that come from the ledger instead of from a walk, because they were judged before."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from functools import partial

import msgspec
from sqlalchemy import Connection

from batchscan.ledger.chosen import Choice, Extent, choose, hold_all_but
from batchscan.ledger.runs import RunRecord, RunRequest
from batchscan.models import Candidate
from batchscan.report.text import duration, printable
from batchscan.walk import Fence, as_candidate, display_path, look


class RescanPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a rescan would submit; files are counted inside the ZIPs, as the service bills them.

    Attributes:
        selection: what was asked for.
        digests: distinct contents that would be sent.
        billed_files: files inside them.
        inputs: paths, and so rows.
        unknown_paths: contents that cannot be sent, because no file is known to hold them any more.
        budget: what was given.
        seconds_at_cap: time that the submissions take at the cap; None without a cap.
    """

    selection: str
    endpoint: str
    digests: int
    billed_files: int
    inputs: int
    unknown_paths: int
    budget: int | None
    seconds_at_cap: float | None

    @property
    def exit_code(self) -> int:
        """5 when there is nothing to submit."""
        return 0 if self.inputs else 5

    @classmethod
    def of(
        cls, request: RunRequest, extent: Extent, *, budget: int | None, rate: float | None
    ) -> "RescanPlan":
        """Put together what a rescan comes to."""
        return cls(
            selection=str(request.rescan),
            endpoint=request.endpoint,
            digests=extent.digests,
            billed_files=extent.files,
            inputs=extent.paths,
            unknown_paths=extent.lost,
            budget=budget,
            seconds_at_cap=None if rate is None else extent.digests / rate,
        )


def show_rescan_plan(plan: RescanPlan, *, as_json: bool) -> None:
    """Print it on stdout."""
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(plan) + b"\n")
        return
    cap = "no cap" if plan.seconds_at_cap is None else f"{duration(plan.seconds_at_cap)} at the cap"
    lines = [
        f"dry run: rescan {plan.selection}, nothing was sent",
        f"would be submitted to {plan.endpoint}: {plan.digests:,} ({cap}), in {plan.inputs:,} files",
        f"files that would be billed: {plan.billed_files:,}",
    ]
    if plan.budget is not None:
        missing = plan.billed_files - plan.budget
        fits = "enough" if missing <= 0 else f"{missing:,} too few"
        lines.append(f"budget: {plan.budget:,}, {fits}")
    if plan.unknown_paths:
        lines.append(f"contents whose path is not known any more: {plan.unknown_paths:,}")
    print("\n".join(printable(line) for line in lines))  # noqa: T201 - data goes to stdout


def note_choice(connection: Connection, record: RunRecord) -> None:
    """Note what a rescan submits again; called as its run is recorded, and committed with that."""
    request = record.request
    if request.rescan is None:
        return
    choose(connection, record.scope, record.id, request.rescan, now=record.started_at)
    if request.sample is not None:
        hold_all_but(connection, record.id, request.sample, record.run_id)


async def chosen_inputs(choice: Choice, source: str, fence: Fence) -> AsyncGenerator[list[Candidate], None]:
    """Yield the files that held chosen content when they were last seen.

    Args:
        choice: of the run.
        source: what the rows name as their source.
        fence: what leads out of it is not read.
    """
    async for locations in choice.locations():
        yield await asyncio.to_thread(_looked_at, source, locations, fence)


def _looked_at(source: str, locations: list[bytes], fence: Fence) -> list[Candidate]:
    return [
        fence.keep(as_candidate(source, display_path(location), location, look(partial(os.stat, location))))
        for location in locations
    ]
