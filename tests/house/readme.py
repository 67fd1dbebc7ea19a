"""Reads the README, and runs the program for what the README shows of it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """Return what is under a heading of the second level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE)
    assert found, f"README.md has no section {title!r}"
    return found[1]


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def first_cells(text: str) -> list[str]:
    """Return the first cells of all table rows, without heads."""
    rows = re.findall(r"^\| (.+?) \|", text, re.MULTILINE)
    return [cell for cell in rows if cell not in {"key", "code"}]


def batchscan(*arguments: str) -> str:
    """Run the program in the root of the repository and return its standard output."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("BATCHSCAN_")}
    done = subprocess.run(
        [sys.executable, "-m", "batchscan", *arguments],
        cwd=ROOT,
        env=env | {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=50,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return "\n".join(line.rstrip() for line in done.stdout.splitlines())


def shown_row(row: dict[str, Any]) -> str:
    """Format a row as the README does: a line for each key."""
    lines = (f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in row.items())
    return "{\n" + ",\n".join(lines) + "\n}"
