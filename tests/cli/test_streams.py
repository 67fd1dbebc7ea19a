"""Closed, broken, full and narrow: whatever the streams are, the run is the same and its code tells."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from cli_lab import FAST, Lab, skill, skills

SHELL = ("sh", "-c")


async def shell(lab: Lab, script: str, *args: str) -> tuple[int, str, str]:
    """Run ``script``, in which ``$0`` is the interpreter and ``$@`` are ``args``."""
    process = await asyncio.create_subprocess_exec(
        *SHELL,
        script,
        sys.executable,
        *args,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=lab.environment({}),
        cwd=lab.path,
    )
    async with asyncio.timeout(50):
        out, err = await process.communicate()
    assert "Traceback" not in out.decode() + err.decode()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_closed_broken_and_full_streams_change_no_code(lab: Lab) -> None:
    skills(lab.inputs, 2, "evil")
    async with lab.service() as service:
        scan = ("-m", "batchscan", "scan", "in", "--fail-on", "malicious", "--endpoint", service.url, *FAST)
        closed = await shell(lab, '"$0" "$@" -o closed.jsonl <&- >&- 2>&-', *scan)
        head = await shell(lab, '{ "$0" "$@" -o head.jsonl; echo $? >&2; } | true', *scan)
        full = await shell(lab, '"$0" "$@" -o full.jsonl >/dev/full', *scan)
    mute = await shell(lab, '"$0" -m batchscan scan nosuch 2>/dev/full')
    listed = await shell(lab, '"$0" -m batchscan status | head -c 1')
    assert closed == (1, "", "")
    assert head[2] == "1\n"
    assert full[0] == 2
    assert "standard output cannot be written (No space left on device)" in full[2]
    assert mute[0] == 2
    assert listed == (0, "r", "")
    for name in ("closed", "head", "full"):
        rows = lab.rows_of(2, lab.path / f"{name}.jsonl")
        assert {row["verdict"] for row in rows} == {"malicious"}


async def alone(lab: Lab, command: str, stdout: int) -> asyncio.subprocess.Process:
    """Start what serves, with this as its standard output."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "batchscan", command, "--port", "0", "--log-level", "info"),
        *("--state-dir", str(lab.path / f"{command}-{stdout}")),
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
        env=lab.environment({}),
        cwd=lab.path,
    )


@pytest.mark.parametrize(("command", "code"), [("serve", 0), ("engine", 128 + signal.SIGTERM)])
async def test_what_serves_says_where_or_why_not(lab: Lab, command: str, code: int) -> None:
    full, (reader, gone) = os.open("/dev/full", os.O_WRONLY), os.pipe()
    os.close(reader)
    mute, heard = await asyncio.gather(alone(lab, command, full), alone(lab, command, gone))
    os.close(full)
    os.close(gone)
    try:
        async with asyncio.timeout(30):
            _, err = await mute.communicate()
            assert mute.returncode == 2, err
            assert b"standard output cannot be written (No space left on device)" in err
            assert b"Traceback" not in err
            # the other one's reader is gone: it serves all the same, until it is stopped
            assert heard.stderr is not None
            while not (found := re.search(rb"http://127.0.0.1:(\d+)", await heard.stderr.readline())):
                assert not heard.stderr.at_eof(), "it has ended"
            _, writer = await asyncio.open_connection("127.0.0.1", int(found[1]))
            writer.close()
            heard.terminate()
            _, err = await heard.communicate()
        assert heard.returncode == code, err
        assert b"Traceback" not in err
    finally:
        for process in (mute, heard):
            if process.returncode is None:
                process.kill()
                await process.wait()


async def on_a_terminal(lab: Lab, *args: str, width: int, env: dict[str, str]) -> tuple[int | None, str]:
    """Run a command on a terminal of its own; its code, and all that the terminal was sent."""
    import fcntl
    import struct
    import termios

    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "batchscan", *args),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=lab.environment({"TERM": "xterm-256color", **env}),
        cwd=lab.path,
        start_new_session=True,
    )
    os.close(theirs)

    def read() -> bytes:
        shown = b""
        try:
            while block := os.read(ours, 65536):
                shown += block
        except OSError:  # how a terminal ends
            pass
        return shown

    async with asyncio.timeout(50):
        shown = await asyncio.to_thread(read)
        await process.wait()
    os.close(ours)
    return process.returncode, shown.decode()


async def test_a_narrow_terminal_without_colours(lab: Lab) -> None:
    """Nothing is coloured with NO_COLOR, no file name reaches the terminal raw, ids are whole."""
    lab.inputs.mkdir()
    (lab.inputs / "evil\x1b[31m\u202e.zip").write_bytes(skill("evil"))
    async with lab.service() as service:
        scan = ("scan", "in", "--endpoint", service.url, *FAST)
        code, plain = await on_a_terminal(lab, *scan, width=44, env={"NO_COLOR": "1"})
        _, coloured = await on_a_terminal(lab, *scan, width=100, env={})
        _, runs = await on_a_terminal(lab, "status", width=20, env={"NO_COLOR": "1"})
    assert code == 0
    for shown in (plain, coloured):
        assert "\x1b[31m\u202e" not in shown
        assert "\\x1b[31m\\u202e.zip" in shown.replace("\r\n", "")
    colours = re.compile(r"\x1b\[[0-9;]*3[0-7]")
    assert not colours.search(plain)
    assert colours.search(coloured)
    assert len(re.findall(r"^\d{8}T\d{6}Z-[0-9a-f]{8} ", runs, re.MULTILINE)) == 2


async def test_an_encoding_that_cannot_say_it(lab: Lab) -> None:
    lab.inputs.mkdir()
    (lab.inputs / "evil-\u6280\u80fd.zip").write_bytes(skill("evil"))
    ascii_only = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    async with lab.service() as service:
        report = lab.path / "\u62a5\u544a.jsonl"
        done = await lab.scan(service, "in", "-o", report, env=ascii_only)
        listed = await lab.run("status", env=ascii_only)
    assert (done.code, listed.code) == (0, 0)
    assert "\\u6280\\u80fd.zip" in done.out
    assert "\\u62a5\\u544a.jsonl" in listed.out


@pytest.mark.parametrize("level", ["warning"])
async def test_progress_and_logs_stay_off_stdout(lab: Lab, level: str, tmp_path: Path) -> None:
    skills(lab.inputs, 1)
    async with lab.service(drill="Create:RequestLimitExceeded*1") as service:
        done = await lab.scan(service, "in", "in", "--json", "--log-level", level, "-o", tmp_path / "r")
    assert done.code == 0
    assert done.out.count("\n") == 1
    assert done.summary["throttled"] == 1
    assert "source-already-covered" in done.err
