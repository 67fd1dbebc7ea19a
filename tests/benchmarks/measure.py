"""Processes seen from outside: their time, CPU and memory, and their certain end.

A child runs in a session of its own, so that Ctrl-C reaches the harness alone, which then ends its
children by pid. A child that serves ends by itself when its standard input closes: so none is left
behind even by a harness that was killed.
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec


class BenchmarkError(Exception):
    """A measurement could not be made; the message says which process failed and how."""


class Usage(msgspec.Struct, frozen=True):
    """What an ended process took, as the kernel counted it.

    Attributes:
        code: exit code.
        wall_s: from its start to its end.
        cpu_s: user and system time, all its threads.
        rss_mb: the most memory that was resident, 10**6 bytes; never less than what the harness had when it
            started the process, so the harness stays small (30 MB).
        out: its standard output.
    """

    code: int
    wall_s: float
    cpu_s: float
    rss_mb: float
    out: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Child:
    """A process that is waited for with ``os.wait4``."""

    def __init__(self, argv: Sequence[str | Path], env: Mapping[str, str], *, serves: bool = False) -> None:
        self._name = " ".join(Path(part).name for part in argv[:4])
        self._err = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._out = None if serves else tempfile.TemporaryFile()  # noqa: SIM115 - as above
        self.began = time.monotonic()
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if serves else subprocess.DEVNULL,
            stdout=subprocess.PIPE if self._out is None else self._out,
            stderr=self._err,
            env=env,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
            self._reap()
        for stream in (self._process.stdin, self._process.stdout, self._out, self._err):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

    def wait(self, limit_s: float, codes: Sequence[int] = (0,)) -> Usage:
        """Wait for its end.

        Raises:
            BenchmarkError: it took longer than ``limit_s``, or ended with another code.
        """
        pidfd = os.pidfd_open(self._process.pid)
        try:
            ended = select.select([pidfd], [], [], limit_s)[0]
        finally:
            os.close(pidfd)
        wall_s = time.monotonic() - self.began
        if not ended:
            raise BenchmarkError(f"{self._name}: not done within {limit_s:g} s; {self._complaint()}")
        used = self._reap()
        code = self._process.returncode
        if code not in codes:
            raise BenchmarkError(f"{self._name}: exit code {code}; {self._complaint()}")
        return Usage(code, wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6, self._output())

    def ask(self, line: str, limit_s: float = 30.0) -> str:
        """Write a line to a child that serves, unless it is empty, and read a line.

        Raises:
            BenchmarkError: it did not answer.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        if line:
            stdin.write(line.encode() + b"\n")
            stdin.flush()
        ready = select.select([stdout], [], [], limit_s)[0]
        answer = stdout.readline().decode().strip() if ready else ""
        if not answer:
            raise BenchmarkError(f"{self._name}: no answer; {self._complaint()}")
        return answer

    def end(self, limit_s: float = 60.0) -> Usage:
        """Close the standard input of a child that serves, which ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self.wait(limit_s)

    def _reap(self) -> Any:
        _, status, used = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return used

    def _output(self) -> str:
        if self._out is None:
            return ""
        self._out.seek(0)
        return self._out.read().decode()

    def _complaint(self) -> str:
        self._err.seek(0)
        return self._err.read().decode(errors="replace")[-2000:].strip() or "it said nothing"


def run(
    argv: Sequence[str | Path],
    env: Mapping[str, str],
    *,
    limit_s: float = 600.0,
    codes: Sequence[int] = (0,),
) -> Usage:
    """Run a process to its end.

    Raises:
        BenchmarkError: it took too long, or ended with another code.
    """
    with Child(argv, env) as child:
        return child.wait(limit_s, codes)


def end_children() -> None:
    """Kill what this process has started and not waited for.

    A signal may come between a child's start and the moment when somebody is there to end it; the kernel
    knows it all the same.
    """
    me = os.getpid()
    for text in Path(f"/proc/{me}/task/{me}/children").read_text().split():
        os.kill(int(text), signal.SIGKILL)
        os.waitpid(int(text), 0)


def python(script: str, *args: str | Path) -> list[str | Path]:
    """The command that runs a script of this folder."""
    return [sys.executable, Path(__file__).with_name(script), *args]
