"""What a figure depends on besides the code: machine, versions, date, and what else ran meanwhile."""

import os
import platform
import resource
import sqlite3
import ssl
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

_PACKAGES = (
    "batchscan",
    "aiohttp",
    "sqlalchemy",
    "msgspec",
    "pybase64",
    "tencentcloud-sdk-python-common",
    "tencentcloud-sdk-python-csip",
)
CALM = 0.1
"""A foreign share of the processors up to which figures are not called preliminary."""


class Testimony(msgspec.Struct, frozen=True, kw_only=True):
    """Circumstances of one benchmark.

    Attributes:
        foreign: the part of all processor time that other programs, and the host, took meanwhile.
    """

    date: str
    commit: str
    machine: str
    versions: str
    took_s: float
    foreign: float

    @property
    def calm(self) -> bool:
        return self.foreign <= CALM

    def sentence(self) -> str:
        calm = "" if self.calm else " (preliminary: the machine was busy)"
        return (
            f"{self.date}, commit {self.commit}, {self.took_s:.0f} s;"
            f" other programs took {self.foreign:.0%} of the processors{calm}"
        )


class Witness:
    """Watches from its making on."""

    def __init__(self) -> None:
        self._commit = _commit()
        self._began, self._busy, self._own = time.monotonic(), _busy_s(), _own_s()

    def told(self) -> Testimony:
        took_s = time.monotonic() - self._began
        foreign_s = (_busy_s() - self._busy) - (_own_s() - self._own)
        return Testimony(
            date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            commit=self._commit,
            machine=_machine(),
            versions=_versions(),
            took_s=took_s,
            foreign=max(0.0, foreign_s / (took_s * (os.cpu_count() or 1))),
        )


def _busy_s() -> float:
    """Seconds that all processors were not idle, stolen ones included."""
    ticks = [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _commit() -> str:
    """The commit, with ``+`` where the package has been changed since."""
    here = Path(__file__).parents[2]

    def git(*args: str) -> str:
        done = subprocess.run(["git", *args], cwd=here, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return (git("rev-parse", "--short", "HEAD") or "unknown") + (
        "+" if git("status", "-s", "batchscan") else ""
    )


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{os.cpu_count()} x {model}, {memory:.0f} GB, Linux {platform.release().partition('-')[0]}"


def _versions() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    openssl = " ".join(ssl.OPENSSL_VERSION.split()[:2])
    return f"Python {platform.python_version()}, {openssl}, SQLite {sqlite3.sqlite_version}, {packages}"
