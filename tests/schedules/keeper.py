"""A timekeeper in a process of its own, to be killed: ``python keeper.py LEDGER START SPEED``.

From ``START`` on, epoch seconds, its clock runs ``SPEED`` times as fast as ours. Each run in the queue
is over at once.
"""

import asyncio
import itertools
import os
import sys
import time
from pathlib import Path

from batchscan.ledger.queue import Queue, QueuedRun, QueueState, Work
from batchscan.ledger.runs import RunRequest
from batchscan.ledger.store import open_ledger
from batchscan.schedules.schedule import Schedule
from batchscan.schedules.timekeeper import Assignment, Timekeeper

WORK = Work(request=RunRequest(sources=("/srv/skills",), directory="/", endpoint="embedded"))
CRONS = {"minute": "* * * * *", "third": "*/3 * * * *", "night": "30 2 * * *"}


def assignments(**fields: object) -> dict[str, Assignment]:
    return {
        name: Assignment(
            Schedule.model_validate({"cron": cron, "sources": ["/srv/skills"], **fields}), lambda _: WORK
        )
        for name, cron in CRONS.items()
    }


async def main(path: Path, start: float, speed: float) -> None:
    numbers = itertools.count()
    begun: list[asyncio.Task[object]] = []
    async with open_ledger(path, "test@embedded") as ledger:
        queue = Queue(ledger)

        def end(run: QueuedRun) -> None:
            begun.append(asyncio.ensure_future(queue.end(run.run_id, QueueState.COMPLETE, now=time.time())))

        for left in await queue.next(10):
            end(left)
        keeper = Timekeeper(
            ledger,
            assignments(),
            new_run_id=lambda: f"{os.getpid()}-{next(numbers)}",
            on_enqueued=end,
            clock=lambda: start + (time.time() - start) * speed,
        )
        print("up", flush=True)
        while True:
            await keeper.look()
            await asyncio.sleep(0)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
