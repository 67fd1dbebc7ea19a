"""What a start loads: nothing that the command has no use for, by the names of what is expensive."""

import asyncio
import json
import sys

import pytest
from cli_lab import UNMEASURED, Lab

PROGRAM = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
from batchscan.cli import main
main()
"""
NEVER = frozenset(
    {
        *(
            "batchscan.service",
            "batchscan.formats.html_page",
            "batchscan.metrics",
            "batchscan.pages.rendering",
        ),
        *("jinja2", "prometheus_client", "pyarrow", "rich.markdown", "rich.progress", "skill_scanner"),
        *("skilltotal", "sqlalchemy.orm", "unittest", "uvloop", "watchfiles"),
    }
)
"""What no plain scan at a named endpoint needs."""

HELP = NEVER | {
    "aiohttp",
    "asyncio",
    "logging",
    "pydantic",
    "rich",
    "sqlalchemy",
    "sqlite3",
    "ssl",
    "structlog",
}


async def loaded(lab: Lab, *args: str, code: int) -> set[str]:
    """Names of the modules that a command has loaded when it ends with this code."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, *args),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=lab.environment(UNMEASURED),
        cwd=lab.path,
    )
    _, told = await process.communicate()
    assert process.returncode == code, told
    return set(json.loads(told.splitlines()[-1]))


@pytest.mark.parametrize("args", [("--help",), ("--version",)])
async def test_help_loads_next_to_nothing(lab: Lab, args: tuple[str, ...]) -> None:
    modules = await loaded(lab, *args, code=0)
    assert modules & HELP == set()
    assert "typer" in modules


async def test_a_scan_loads_what_a_scan_needs(lab: Lab) -> None:
    lab.inputs.mkdir()
    modules = await loaded(lab, "scan", "in", "--endpoint", "http://127.0.0.1:9/", code=5)
    assert modules & NEVER == set()
    assert {"aiohttp", "sqlalchemy", "batchscan.pipeline"} <= modules
