"""Soak the service: python tests/soak/run.py --minutes 30; see --help.

The service runs as it would for months: at an endpoint with faults, with schedules that are due every minute,
files that change, a client, and fifty readers of events. Then it is stopped, and what it has left is checked.
Prints a table of figures and ends with 1 when a claim does not hold.
"""

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import aiohttp
from soak_checks import judge
from soak_lab import (
    DRILL,
    FILES,
    HERE,
    STREAMS,
    Gauge,
    Notes,
    Process,
    Trees,
    free_port,
    read_json,
    write_settings,
)
from soak_load import Client, Scraper
from soak_readers import Readers

SAMPLE_S = 5.0
SCRAPE_S = 15.0
QUIET_S = 90.0
RUNS_END_S = 10.0
"""How long after the beginning of a minute the runs that it began have ended."""

LAST_WORDS_S = 3.0
"""How long readers may take to see that the service is gone; a slow one may still have much to read then."""


class Soak:
    """One soak: the two processes, and who uses the service."""

    def __init__(self, work: Path, http: aiohttp.ClientSession, args: argparse.Namespace) -> None:
        self._work = work
        self._http = http
        self._args = args
        self._engine = Process(work, "engine")
        self._service = Process(work, "service")
        self._notes = Notes(work / "told.jsonl")
        self._trees = Trees(work, args.seed, args.files)
        self._random = random.Random(f"soak {args.seed}")

    async def run(self) -> None:
        """Carry it out; what is to be checked is in the directory afterwards."""
        try:
            await self._soak()
        finally:
            self._engine.kill()
            self._service.kill()
            self._notes.close()

    async def _soak(self) -> None:
        args = self._args
        self._trees.fill()
        drill = DRILL.format(seed=args.seed)
        port = str(free_port())  # at port 0, as a process of its own would have it, it tells no figures
        await self._engine.start(
            "-m", "batchscan", "engine", "--port", port, "--site", "intl", "--drill", drill
        )
        settings = write_settings(self._work, self._engine.url)
        program = HERE / "soak_service.py"
        await self._service.start(program, self._work / "tasks.jsonl", "serve", "--config", settings)
        self._notes.add(began=True, minutes=args.minutes, streams=args.streams, seed=args.seed)
        client = Client(self._http, self._service.url, self._trees, self._notes, args.seed)
        scraper = Scraper(self._http, self._service.url, self._notes)
        readers = Readers(self._http, self._service.url, self._notes, args.seed, args.streams)
        reading = asyncio.create_task(readers.run())
        sampling = asyncio.create_task(self._sample(readers, scraper))
        await self._load(client)
        quiet = await client.until_quiet(QUIET_S)
        self._notes.add(quiet=quiet)
        (self._work / "metrics.txt").write_text(await scraper.scrape())
        await self._note_stats("quiet")
        sampling.cancel()
        await self._stop(client, readers)
        await asyncio.wait({reading}, timeout=LAST_WORDS_S)
        reading.cancel()
        await asyncio.gather(reading, sampling, return_exceptions=True)
        readers.note()
        await self._note_stats("end")
        await self._engine.stop(20)

    async def _note_stats(self, when: str) -> None:
        """Keep what the engine counted."""
        stats = await read_json(self._http, f"{self._engine.url}/-/stats")
        (self._work / f"stats-{when}.json").write_text(json.dumps(stats))

    async def _load(self, client: Client) -> None:
        """Use the service for as long as it is asked for, and end away from the beginning of a minute."""
        began = time.time()
        # A short soak, too, sees the time of the schedules come, and their runs end.
        end = max(began + self._args.minutes * 60, began - began % 60 + 60 + RUNS_END_S)
        minute = 0
        change_at = _next_change(time.time())
        while (now := time.time()) < end or (self._args.minutes >= 1 and not 20 <= now % 60 < 30):
            if self._service.over:
                raise RuntimeError("the service has ended by itself")
            if now >= change_at:
                minute += 1
                self._trees.change(minute)
                change_at = _next_change(now)
            await client.act()
            await asyncio.sleep(self._random.uniform(0.5, 1.5) * self._args.pause)

    async def _stop(self, client: Client, readers: Readers) -> None:
        """SIGTERM with the streams open and a run under way."""
        await client.order_many()
        readers.stop()
        self._notes.add(stopping=True, streams=readers.open)
        code, seconds = await self._service.stop(30)
        self._notes.add(stopped=code, seconds=seconds)

    async def _sample(self, readers: Readers, scraper: Scraper) -> None:
        gauge, scrape_at = Gauge(self._service.pid), time.monotonic()
        samples = Notes(self._work / "samples.jsonl")
        while not self._service.over:
            with suppress(OSError):  # it has just ended
                samples.add(**gauge.look(), streams=readers.open)
            if time.monotonic() >= scrape_at:
                scrape_at += SCRAPE_S
                with suppress(aiohttp.ClientError):  # noted as a stream that broke, where it is one
                    await scraper.scrape()
            await asyncio.sleep(SAMPLE_S)
        samples.close()


def _next_change(now: float) -> float:
    """In the middle of a minute, when its schedules are through as a rule."""
    return now - now % 60 + (40 if now % 60 < 40 else 100)


async def soak(work: Path, args: argparse.Namespace) -> None:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as http:
        await Soak(work, http, args).run()


def main() -> int:
    args = _parser().parse_args()
    work = Path(args.check or args.work_dir or tempfile.mkdtemp(prefix="batchscan-soak-")).absolute()
    if not args.check:
        work.mkdir(parents=True, exist_ok=True)
        print(f"soaking in {work}", file=sys.stderr, flush=True)
        try:
            asyncio.run(soak(work, args))
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return 130
    figures, broken = judge(work)
    print("\n| what | figure |\n|---|---|")
    for what, figure in figures.items():
        print(f"| {what} | {figure} |")
    for each in broken:
        print(f"BROKEN: {each}")
    if broken:
        print(f"{len(broken)} broken claims; what is left of it is in {work}", file=sys.stderr)
    elif not args.check and args.work_dir is None:
        shutil.rmtree(work, ignore_errors=True)
    return 1 if broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Soak the service; exit 1 when a claim does not hold.")
    parser.add_argument(
        "--minutes", type=float, default=30, metavar="N", help="how long, at least [default: 30]"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of all random choices [default: 1]")
    parser.add_argument(
        "--streams", type=int, default=STREAMS, metavar="N", help=f"readers of events [default: {STREAMS}]"
    )
    parser.add_argument(
        "--files", type=int, default=FILES, metavar="N", help=f"in each of three trees [default: {FILES}]"
    )
    parser.add_argument(
        "--pause", type=float, default=3, metavar="S", help="between two acts of the client [default: 3]"
    )
    parser.add_argument("--work-dir", type=Path, metavar="DIR", help="make everything here and keep it")
    parser.add_argument("--check", type=Path, metavar="DIR", help="only judge what a soak has left there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
