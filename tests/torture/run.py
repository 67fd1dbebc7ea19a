"""Torture batchscan: python tests/torture/run.py kills|faults|processes|disk|all; see --help.

Prints a table of what was counted and ends with 1 when a promise did not hold.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Iterator
from pathlib import Path

import torture_disks
import torture_faults
import torture_kills
import torture_processes
from torture_checks import BrokenPromiseError

NAMES = ("kills", "faults", "processes", "disk")
Part = tuple[str, Awaitable[Counter[str]]]


def main() -> int:
    args = _parser().parse_args()
    work = Path(args.work_dir or tempfile.mkdtemp(prefix="batchscan-torture-")).absolute()
    work.mkdir(parents=True, exist_ok=True)
    broken = 0
    try:
        for name in NAMES if args.name == "all" else (args.name,):
            broken += asyncio.run(_torture(name, args, work / name))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    finally:
        if args.work_dir is None and not broken:
            shutil.rmtree(work, ignore_errors=True)
    if broken:
        print(f"{broken} broken promises; what is left of it is in {work}", file=sys.stderr)
    return 1 if broken else 0


async def _torture(name: str, args: argparse.Namespace, path: Path) -> int:
    """Carry out the parts of one piece of torture, and beside them those that wait; returns what broke."""
    print(f"\n## {name}, seed {args.seed}\n\n| part | counted | s |\n|---|---|---|", flush=True)
    beside = [asyncio.create_task(_told(*part)) for part in _beside(name, args, path)]
    broken = [await _told(*part) for part in _parts(name, args, path)]
    return sum(broken) + sum(await asyncio.gather(*beside))


async def _told(name: str, work: Awaitable[Counter[str]]) -> int:
    began = time.monotonic()
    try:
        figures = await work
    except BrokenPromiseError as error:
        print(f"| {name} | BROKEN: {error} | {time.monotonic() - began:.0f} |", flush=True)
        return 1
    counted = ", ".join(f"{what} {number:,}" for what, number in sorted(figures.items()))
    print(f"| {name} | {counted} | {time.monotonic() - began:.0f} |", flush=True)
    return 0


def _beside(name: str, args: argparse.Namespace, path: Path) -> list[Part]:
    """Parts that only wait most of the time: they go on while others do."""
    if name != "kills" or args.quick:
        return []
    return [("frozen for longer than its lease", torture_kills.frozen(path / "frozen", truly=True))]


def _parts(name: str, args: argparse.Namespace, path: Path) -> Iterator[Part]:
    seed = args.seed
    match name:
        case "kills":
            yield "SIGTERM, SIGINT", torture_kills.drains(path / "drains", count=args.kills // 5, seed=seed)
            yield "the server dies", torture_kills.server_dies(path / "server", count=6, seed=seed)
            yield "SIGKILL", torture_kills.kills(path / "kills", count=args.kills, seed=seed)
        case "faults":
            yield "each fault alone", torture_faults.matrix(path / "matrix")
            yield "all at once", torture_faults.storm(path / "storm", files=args.files, seed=seed)
        case "processes":
            yield "four at once", torture_processes.together(path / "together", skills=args.skills)
            yield "started twice", torture_processes.overlap(path / "overlap")
            yield "one of three dies", torture_processes.one_dies(path / "dies")
            yield "files swapped all the time", torture_processes.swapped(path / "swapped", seconds=20)
        case "disk":
            yield from _disks(path)


def _disks(path: Path) -> Iterator[Part]:
    yield "damaged ledger", torture_disks.damaged(path / "damaged")
    for able, parts in (
        (torture_disks.can_mount, ("full_ledger", "full_report", "read_only")),
        (torture_disks.can_freeze, ("slow",)),
    ):
        unable = able(path / "try")
        for part in parts:
            name = part.replace("_", " ")
            if unable is None:
                yield name, getattr(torture_disks, part)(path / part)
            else:
                print(f"| {name} | NOT DONE: {unable} | 0 |", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Torture batchscan; exit 1 when a promise does not hold.")
    parser.add_argument("name", choices=[*NAMES, "all"], help="what to do to it")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of all random choices [default: 1]")
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="how many [default: 200]")
    parser.add_argument(
        "--files", type=int, default=10_000, metavar="N", help="in the storm [default: 10000]"
    )
    parser.add_argument(
        "--skills", type=int, default=240, metavar="N", help="in each of the five directories [default: 240]"
    )
    parser.add_argument("--quick", action="store_true", help="leave out what only waits")
    parser.add_argument("--work-dir", metavar="DIR", help="make everything here and keep it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
