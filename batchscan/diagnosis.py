"""The records of `batchscan doctor`: one check after the other, each with its fix, and how they are shown."""

import sys
from enum import StrEnum
from typing import Final

import msgspec

from batchscan import __version__
from batchscan.report.text import printable

DOCTOR_SCHEMA: Final = "batchscan.doctor/1"
LOCAL: Final = 2
"""Exit code where something on this machine is wrong."""

SERVICE: Final = 4
"""Exit code where the service refuses or is not reached."""


class Level(StrEnum):
    """How a check came out."""

    PASS = "pass"  # noqa: S105 - no password
    WARN = "warn"
    FAIL = "fail"


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        fix: what to do about it; empty when it passed.
        exit_code: what the program ends with for it: ``LOCAL`` or ``SERVICE`` when it failed, else 0.
    """

    name: str
    level: Level
    message: str
    fix: str = ""
    exit_code: int = 0


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """All checks that could be made; a failure here goes before one at the service."""

    schema: str = DOCTOR_SCHEMA
    version: str = __version__
    exit_code: int
    checks: tuple[Check, ...]


def passed(name: str, message: str) -> Check:
    """Make a check that found nothing wrong."""
    return Check(name, Level.PASS, message)


def warned(name: str, message: str, fix: str) -> Check:
    """Make a check that found what does not keep a scan from working."""
    return Check(name, Level.WARN, message, fix)


def failed(name: str, message: str, fix: str, exit_code: int) -> Check:
    """Make a check that found what does."""
    return Check(name, Level.FAIL, message, fix, exit_code)


def concluded(checks: list[Check]) -> Examination:
    """Put the checks together."""
    codes = {check.exit_code for check in checks}
    exit_code = next((code for code in (LOCAL, SERVICE) if code in codes), 0)
    return Examination(exit_code=exit_code, checks=tuple(checks))


def show_examination(examination: Examination, *, as_json: bool) -> None:
    """Print it on stdout."""
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(examination) + b"\n")
        return
    width = max(len(check.name) for check in examination.checks)
    lines = []
    for check in examination.checks:
        lines.append(f"{check.level}  {check.name:{width}}  {check.message}")
        if check.fix:
            lines.append(f"      {'':{width}}  {check.fix}")
    lines.append(_conclusion(examination))
    print("\n".join(printable(line) for line in lines))  # noqa: T201 - data goes to stdout


def _conclusion(examination: Examination) -> str:
    found = {level: sum(c.level is level for c in examination.checks) for level in Level}
    warnings = f"{found[Level.WARN]} warnings" if found[Level.WARN] else ""
    if found[Level.FAIL]:
        return f"{found[Level.FAIL]} failed{', ' * bool(warnings)}{warnings}; nothing was spent"
    return f"nothing failed{', ' * bool(warnings)}{warnings}; nothing was spent"
