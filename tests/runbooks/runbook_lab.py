"""A machine as the runbooks think of it, in a directory: settings, skills, an endpoint, and one shell.

Where a page names a directory or an address of that machine, the test has its own one in that place; what
comes is told back with the page's names. The program is the real one.
"""

import asyncio
import os
import re
import shlex
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from cli_lab import Lab, Running, Service
from runbook_pages import INDEX, Page, mismatch, read_page

_LIMIT_S = 40.0
_LOG_LINE = re.compile(r'^\{.*"level": ?"(?:debug|info|warning|error)".*\}\n', re.MULTILINE)
"""What is logged goes to stderr as well; a page shows what the command says."""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Shell:
    """One bash: what one block sets, the next one has."""

    def __init__(self, process: asyncio.subprocess.Process, place: Path) -> None:
        self._process = process
        self._block = place / "block.sh"

    async def type(self, command: str) -> str:
        """Type a block; return what came on stdout and stderr, the log apart."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._block.write_text(command + "\n")
        self._process.stdin.write(f"source {self._block} </dev/null\necho $'\\x1e'$?\n".encode())
        async with asyncio.timeout(_LIMIT_S):
            raw = await self._process.stdout.readuntil(b"\x1e")
            code = (await self._process.stdout.readline()).decode().strip()
        came = raw.decode().removesuffix("\x1e")
        assert code == "0", f"exit code {code} of:\n{command}\n{came}"
        assert "Traceback" not in came, came
        return _LOG_LINE.sub("", came)


class RunbookLab(Lab):
    """The machine, and how far its operator is on a page."""

    def __init__(self, tmp_path: Path, patch: Callable[[Any, str, object], None]) -> None:
        super().__init__(tmp_path, patch)
        self.etc = tmp_path / "etc"
        self.textfiles = tmp_path / "textfiles"
        self.elsewhere = tmp_path / "elsewhere"
        self.backups = tmp_path / "backups"
        self.port, self.engine_port = free_port(), free_port()
        self._names: dict[str, str] = {}
        self._typed: set[int] = set()
        self._places = [
            ("/etc/batchscan", str(self.etc)),
            ("/var/lib/batchscan", str(self.state)),
            ("/var/lib/node_exporter/textfile", str(self.textfiles)),
            ("/srv/skills", str(self.inputs)),
            ("/mnt/new", str(self.elsewhere)),
            ("/var/backups/batchscan", str(self.backups)),
            ("http://127.0.0.1:8440", f"http://127.0.0.1:{self.port}"),
            ("https://csip.intl.tencentcloudapi.com/", f"http://127.0.0.1:{self.engine_port}/"),
            ("intl", f"http://127.0.0.1:{self.engine_port}"),
            ("intl", f"127.0.0.1:{self.engine_port}"),
        ]
        for directory in (self.etc, self.textfiles, self.elsewhere, self.backups, self.inputs):
            directory.mkdir()
        self.write_settings()
        self._shell: Shell

    def write_settings(self, more: str = "", *, top: str = "", table: str = "") -> None:
        """What /etc/batchscan/batchscan.toml holds: the keys outside of tables, and tables."""
        text = f"""\
state_dir = "{self.state}"
endpoint = "night"
{top}
[endpoints.night]
url = "http://127.0.0.1:{self.engine_port}"
first_poll = "50ms"
poll_interval = "100ms"
{table}
{more}"""
        (self.etc / "batchscan.toml").write_text(text)

    @asynccontextmanager
    async def engine(self, drill: str | None = None, **changes: Any) -> AsyncIterator[Service]:
        """Who judges: always at the same address, so it may be replaced by a better one."""
        async with self.service(drill, port=self.engine_port, **changes) as service:
            yield service

    @asynccontextmanager
    async def shell(self, env: Mapping[str, str | None] | None = None) -> AsyncIterator[None]:
        """A shell of the operator, with what the index says is to be typed first."""
        programs = self.path / "bin"
        programs.mkdir(exist_ok=True)
        (programs / "batchscan").write_text(
            f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m batchscan "$@"\n'
        )
        (programs / "batchscan").chmod(0o755)
        environment = self.environment({"XDG_STATE_HOME": None, **(env or {})})
        environment["PATH"] = f"{programs}:{environment['PATH']}"
        process = await asyncio.create_subprocess_exec(
            *("bash", "--norc"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
            cwd=self.path,
            start_new_session=True,
            limit=2**20,
        )
        self._shell = Shell(process, self.path)
        try:
            await self.follow(INDEX, "First")
            self._typed.clear()
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def type(self, command: str) -> str:
        """Type something that is on no page."""
        return self._told(await self._shell.type(self._meant(command)))

    async def follow(self, name: str, *sections: str) -> None:
        """Type what these sections of a page say, in the page's order, and compare what comes."""
        page = read_page(name)
        blocks = [block for block in page.blocks if block.section in sections]
        assert {block.section for block in blocks} == set(sections), (
            f"{name}: nothing to type in one of {sections}"
        )
        for block in blocks:
            came = await self.type(block.command)
            wrong = mismatch(block.shown, came, self._names)
            assert wrong is None, f"docs/runbooks/{name}.md:{block.line}: {wrong}\nall that came:\n{came}"
            self._typed.add(block.line)

    def all_was_typed(self, page: Page) -> bool:
        """Whether the page has nothing that was not tried."""
        return {block.line for block in page.blocks} <= self._typed

    def _meant(self, command: str) -> str:
        for shown, here in self._places:
            command = command.replace(shown, here)
        return command

    def _told(self, came: str) -> str:
        for shown, here in self._places:
            came = came.replace(here, shown)
        return came

    async def serve(self) -> Running:
        """Start the service, as systemd does; it answers when this returns."""
        running = await self.start("serve", "--config", self.etc / "batchscan.toml")
        async with asyncio.timeout(20), aiohttp.ClientSession() as http:
            while True:
                try:
                    async with http.get(f"http://127.0.0.1:{self.port}/healthz"):
                        return running
                except aiohttp.ClientError:
                    assert running.process.returncode is None, (await running.done()).err
                    await asyncio.sleep(0.02)
