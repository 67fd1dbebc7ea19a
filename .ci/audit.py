#!/usr/bin/env python3
"""Look up known weaknesses of what is shipped: ``audit.py LOCK``, by pip-audit; 1 when there are any.

What could not be looked up, for lack of a network or because the index has no advisories, is said loudly
to be unchecked and fails nothing: a build must not depend on somebody else's service. One package is
asked about first; where that leads to nothing, nobody is asked about the others.
"""

# ruff: noqa: T201 - what it prints is its result

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

LIMIT_S = 300
ONE_ANSWER_S = 15


class UncheckedError(Exception):
    """Nobody could be asked; says why."""


def main(lock: Path) -> int:
    """Audit one lock; return the exit code."""
    locked = requirements(lock.read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = []
    try:
        for part in (locked[:1], locked):
            found = audited(part)
            check_asked(found)
        print(f"{lock}: asked about {len(found)} packages")
    except UncheckedError as error:
        print(f"*** NOT CHECKED for known weaknesses: {lock}\n*** {error}")
    weak = list(weaknesses(found))
    print("\n".join(weak or ["no known weakness was found"]))
    return 1 if weak else 0


def requirements(text: str) -> list[str]:
    """The entries of a lock, each with its hashes."""
    return re.split(r"\n(?=\S)", text.strip())


def weaknesses(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A line for each known one, from what pip-audit says."""
    for package in found:
        for known in package.get("vulns", ()):
            fixed = ", ".join(known["fix_versions"]) or "no version yet"
            yield f"{package['name']} {package['version']}: {known['id']}, fixed in {fixed}"


def check_asked(found: Sequence[dict[str, Any]]) -> None:
    """Raise ``UncheckedError`` when there are packages that the index knows nothing about."""
    skipped = [package for package in found if "skip_reason" in package]
    if skipped:
        raise UncheckedError(f"{len(skipped)} of {len(found)} asked about: {skipped[0]['skip_reason']}")


def audited(entries: Sequence[str]) -> list[dict[str, Any]]:
    """What pip-audit says of each package.

    Raises:
        UncheckedError: nobody could be asked.
    """
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "requirements.txt")
        path.write_text("\n".join(entries) + "\n", encoding="utf-8")
        command = ["-r", str(path), "--require-hashes", "--disable-pip", "--format", "json"]
        command += ["--progress-spinner", "off", "--timeout", str(ONE_ANSWER_S)]
        try:
            done = subprocess.run(  # noqa: S603 - its own interpreter, and no shell
                [sys.executable, "-m", "pip_audit", *command],
                capture_output=True,
                text=True,
                check=False,
                timeout=LIMIT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise UncheckedError(f"no answer within {LIMIT_S} s") from error
    if done.stdout.lstrip().startswith("{"):
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
        return found
    last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    if re.search(r"requests\.exceptions\.|ServiceError|ConnectionError", last):
        raise UncheckedError(last[:200])
    sys.exit(f"pip-audit failed: {last}")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
