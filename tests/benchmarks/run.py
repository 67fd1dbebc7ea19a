"""Run benchmarks: python tests/benchmarks/run.py [NAME ...]; see --help."""

import argparse
import importlib
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

from figures import Finding, shown, table
from lab import Lab
from machine import Witness
from measure import BenchmarkError, end_children
from report import NAMES, Record, load, render, save

if TYPE_CHECKING:
    from collections.abc import Callable

_STOPS = (signal.SIGINT, signal.SIGTERM)
RESULTS = Path(__file__).with_name("results.json")


def main() -> int:
    """Run what was asked for."""
    args = _parser().parse_args()
    for number in _STOPS:  # also where a shell had it ignored
        signal.signal(number, signal.default_int_handler)
    names = args.names or ([] if args.write else list(NAMES))
    work = Path(args.work_dir or tempfile.mkdtemp(prefix="batchscan-bench-")).absolute()
    work.mkdir(parents=True, exist_ok=True)
    kept = args.json or (RESULTS if args.write else None)
    rounds = args.rounds or (1 if args.quick else 5)
    try:
        if kept is not None:
            load(kept)  # what cannot be read is told before an hour of measuring
        for name in names:
            record = _measure(name, Lab(work, rounds, args.quick, tuple(args.files)))
            if kept is not None:
                save(kept, name, record)
        if args.write:
            render(load(RESULTS if kept is None else kept))
    except KeyboardInterrupt:
        for number in _STOPS:
            signal.signal(number, signal.SIG_IGN)  # clearing up is short
        print("stopped", file=sys.stderr)
        return 130
    except BenchmarkError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    finally:
        end_children()
        if args.work_dir is None and not args.keep:
            shutil.rmtree(work, ignore_errors=True)
    return 0


def _measure(name: str, lab: Lab) -> Record:
    bench = cast("Callable[[Lab], Finding]", importlib.import_module(name).bench)
    witness = Witness()
    finding = bench(lab)
    record = Record(
        command=_command(),
        rounds=lab.rounds,
        quick=lab.quick,
        witness=witness.told(),
        finding=finding,
    )
    print(f"\n## {name}: {finding.about}\n\n{table(finding.series)}\n")
    for check in finding.checks:
        bound = f"{'<=' if check.most else '>='} {shown(check.budget)}"
        print(
            f"{'met   ' if check.met else 'MISSED'} {check.what} {bound}: {shown(check.found)} ({check.of})"
        )
    print(f"\n{record.witness.sentence()}", flush=True)
    return record


def _command() -> str:
    """How this was started, without the directories of this machine."""
    left, skip = [], False
    for word in sys.argv[1:]:
        if not skip and word not in ("--work-dir", "--json", "--keep", "--write"):
            left.append(word)
        skip = word in ("--work-dir", "--json")
    return " ".join(["python tests/benchmarks/run.py", *left])


def _name(text: str) -> str:
    if text not in NAMES:
        raise argparse.ArgumentTypeError(f"no such benchmark: {text}; there are {', '.join(NAMES)}")
    return text


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{count} is less than 1")
    return count


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure batchscan against its peers and floors.")
    parser.add_argument("names", nargs="*", type=_name, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--rounds", type=_count, metavar="N", help="how often each is measured [default: 5]")
    parser.add_argument("--quick", action="store_true", help="small loads, one round: shows that it works")
    parser.add_argument(
        "--files", type=_count, nargs="+", default=[], metavar="N", help="numbers of files: cold, night, poll"
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="enter the results in this file [with --write: results.json]",
    )
    parser.add_argument("--write", action="store_true", help="render docs/performance.md and docs/scaling.md")
    parser.add_argument("--work-dir", metavar="DIR", help="make everything here and keep it")
    parser.add_argument("--keep", action="store_true", help="keep the directory made for this run")
    return parser


if __name__ == "__main__":
    sys.exit(main())
