"""Where the benchmarks work: directories, environment, the program, and the servers on loopback."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

from measure import Child, Usage, python

SECRET_ID = "AKIDbenchmark000000000000000000000"
SECRET_KEY = "SecretKeyOfTheBenchmarks00000001"


@dataclass(frozen=True)
class Lab:
    """One call of the harness.

    Attributes:
        work: directory that everything is made in.
        rounds: how often each measurement is made.
        quick: small loads, which show that all works and say little about speed.
        sizes: numbers of files to use instead of a benchmark's own.
    """

    work: Path
    rounds: int
    quick: bool
    sizes: tuple[int, ...] = ()

    @property
    def env(self) -> dict[str, str]:
        """Nothing of the caller's environment that changes what is measured, above all no proxy."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        home = self.work / "home"
        home.mkdir(exist_ok=True)
        return {
            **kept,
            "PYTHONPATH": str(Path(__file__).parents[2]),  # this checkout, whatever is installed
            "HOME": str(home),
            "TENCENTCLOUD_SECRET_ID": SECRET_ID,
            "TENCENTCLOUD_SECRET_KEY": SECRET_KEY,
            "BATCHSCAN_RESULT_RATE": "0",
        }

    def scan(self, *args: str | Path, url: str, state: Path, report: Path) -> list[str | Path]:
        """The command of one scan at a server on loopback; its summary is JSON on standard output."""
        where = ("--endpoint", url, "--state-dir", state, "--output", report)
        return [sys.executable, "-m", "batchscan", "scan", *args, *where, "--json", "--quiet"]

    def counts(self, quick: int, *usual: int) -> tuple[int, ...]:
        """Numbers of files: those asked for, else the usual ones, else one small one."""
        return self.sizes or ((quick,) if self.quick else usual)


class Sink:
    """A server that takes every submission and remembers when each arrived."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self.url = child.ask("")

    def arrivals(self) -> list[float]:
        """When requests arrived since the last call, monotonic seconds, in their order."""
        found: list[float] = json.loads(self._child.ask("take"))
        return found


@contextmanager
def sink(lab: Lab) -> Iterator[Sink]:
    """A running sink."""
    with Child(python("sink.py"), lab.env, serves=True) as child:
        yield Sink(child)
        child.end()


class StubEngine:
    """The embedded endpoint with a detector that judges at once.

    Attributes:
        usage: set once it has ended.
    """

    def __init__(self, child: Child) -> None:
        self._child = child
        self.url = child.ask("")
        self.usage: Usage | None = None

    def stats(self) -> dict[str, Any]:
        """What it counted."""
        with build_opener(ProxyHandler({})).open(f"{self.url}/-/stats", timeout=30) as answer:
            counted: dict[str, Any] = json.load(answer)
            return counted

    def end(self) -> Usage:
        self.usage = self._child.end()
        return self.usage


@contextmanager
def stub_engine(lab: Lab, store: Path) -> Iterator[StubEngine]:
    """A running stub engine; it may be ended early to learn what it used."""
    with Child(python("stub_engine.py", store), lab.env, serves=True) as child:
        engine = StubEngine(child)
        yield engine
        if engine.usage is None:
            engine.end()
