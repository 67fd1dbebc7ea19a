#!/usr/bin/env python3
"""Fuzz one reader of untrusted input: ``run.py READER --seconds N``, or ``run.py READER FILE...`` to replay.

Fuzzing is guided by coverage and needs atheris (``pip install atheris``; Linux on x86_64, a wheel for each
Python). Replaying needs nothing; without a file it replays the seeds. An input must be read within
``--input-seconds`` and ``--memory-mib``; one that is not, or that breaks what must hold, is kept below
``--keep`` and the exit code is not 0.
"""

import argparse
import hashlib
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:  # imported for real when its modules are to be instrumented
    from targets import Reader

HERE = Path(__file__).parent
INSTRUMENTED = ["batchscan", "zipfile", "csv", "configparser", "json", "email"]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reader", help="archive, unpack, manifest, reply, credentials, drill or settings")
    parser.add_argument("file", nargs="*", type=Path, help="an input to replay")
    parser.add_argument("--seconds", type=int, default=0, help="how long to fuzz; 0 replays the seeds")
    parser.add_argument("--input-seconds", type=int, default=10, help="limit for one input (%(default)s)")
    parser.add_argument("--memory-mib", type=int, default=1024, help="limit for the process (%(default)s)")
    parser.add_argument("--keep", type=Path, help="directory for the corpus and for what was found")
    return parser.parse_args()


def main() -> None:
    told = arguments()
    if told.seconds and not told.file:
        fuzz(told)
    replay(told)


def fuzz(told: argparse.Namespace) -> NoReturn:
    try:
        import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]  # no part of any lock
    except ImportError:
        sys.exit("fuzzing needs atheris: pip install atheris; to replay inputs, leave --seconds out")
    with atheris.instrument_imports(include=INSTRUMENTED):
        reader = find(told.reader)
    keep = told.keep or Path(tempfile.mkdtemp(prefix=f"batchscan-fuzz-{told.reader}-"))
    corpus = keep / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in reader.seeds():
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed[: reader.max_bytes])
    print(f"kept in {keep}", file=sys.stderr)
    flags = {
        "max_total_time": told.seconds,
        "max_len": reader.max_bytes,
        "timeout": told.input_seconds,
        "rss_limit_mb": told.memory_mib,
        "artifact_prefix": f"{keep}/",
        "print_final_stats": 1,
    }
    atheris.Setup(
        [sys.argv[0], *(f"-{name}={value}" for name, value in flags.items()), str(corpus)], reader.feed
    )
    bound_memory(told.memory_mib)
    atheris.Fuzz()
    sys.exit("atheris returned")  # it ends the process itself


def replay(told: argparse.Namespace) -> None:
    reader = find(told.reader)
    bound_memory(told.memory_mib)
    signal.signal(signal.SIGALRM, too_slow)
    inputs = [path.read_bytes() for path in told.file] or list(reader.seeds())
    for content in inputs:
        signal.alarm(told.input_seconds)
        reader.feed(content)
    signal.alarm(0)
    print(f"{told.reader}: {len(inputs)} inputs read")


def find(name: str) -> "Reader":
    sys.path.insert(0, str(HERE))
    from targets import READERS

    for setting in [key for key in os.environ if key.startswith("BATCHSCAN_")]:
        del os.environ[setting]  # what is fuzzed must not depend on who does it
    try:
        return READERS[name]
    except KeyError:
        sys.exit(f"{name!r} is none of {', '.join(READERS)}")


def bound_memory(mib: int) -> None:
    """Bound what is written to, since a fuzzer maps more than it uses."""
    resource.setrlimit(resource.RLIMIT_DATA, (mib << 20, mib << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def too_slow(_number: int, _frame: FrameType | None) -> NoReturn:
    raise TimeoutError("one input took too long")


if __name__ == "__main__":
    main()
