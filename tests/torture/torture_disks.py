"""Disks that are full, read-only, slow or damaged. Small ones are mounted for it, which takes root."""

import asyncio
import hashlib
import os
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from torture_checks import check_report, check_submissions, in_doubt, ledger_copy, make_tree, promise
from torture_lab import Lab, Server

_SPOILT = b"\xa5" * 4096


def can_mount(path: Path) -> str | None:
    """Why a small file system cannot be mounted here; None when it can."""
    if os.getuid() != 0:
        return "only root can mount"
    path.mkdir(parents=True, exist_ok=True)
    tried = _tried("mount", "-t", "tmpfs", "-o", "size=64k", "none", path)
    if tried is None:
        _do("umount", path)
    return tried


def can_freeze(path: Path) -> str | None:
    """Why a file system of its own cannot be made and frozen here; None when it can."""
    try:
        with _image(path) as place:
            return _tried("fsfreeze", "--freeze", place) or _tried("fsfreeze", "--unfreeze", place)
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        return str(error)


async def full_ledger(path: Path, *, skills: int = 400) -> Counter[str]:
    """The ledger's disk runs full: told, exit 3; with room, the run goes on and nothing is lost."""
    with _memory(path / "disk", "700k") as disk:
        lab, server = Lab(path, disk / "state"), Server(path / "server")
        tree = make_tree(path / "in", skills, mixed=False)
        await server.start()
        try:
            code, program = await lab.run(*lab.scan(tree, server))
            promise(code == 3, f"exit {code}: {program.err}")
            promise("disk is full" in program.err or "takes no reads or writes" in program.err, program.err)
            with ledger_copy(lab.state) as copy:
                doubtful = Counter(in_doubt(copy))
            sent = len(server.creates())
            _do("mount", "-o", "remount,size=64m", disk)
            code, program = await lab.run(*lab.scan(tree, server))
            promise(code == 0, f"exit {code}: {program.err}")
            check_report(lab.report, tree, path)
            again = check_submissions(server.creates(), tree, doubtful)
        finally:
            lab.end()
            await server.stop()
    return Counter({"inputs": tree.inputs, "sent before": sent, "submitted again": again})


async def full_report(path: Path, *, skills: int = 200, size: str = "64k") -> Counter[str]:
    """The report's disk runs full: told, exit 3, no half line; with room, ``resume`` completes it."""
    with _memory(path / "disk", size) as disk:
        lab, server = Lab(path), Server(path / "server")
        tree = make_tree(path / "in", skills, mixed=False)
        report = disk / "report.jsonl"
        await server.start()
        try:
            code, program = await lab.run(*lab.scan(tree, server, report=report))
            promise(code == 3, f"exit {code}: {program.err}")
            promise("make room, then `batchscan resume`" in program.err, program.err)
            with ledger_copy(lab.state) as copy:
                doubtful = Counter(in_doubt(copy))
            _do("mount", "-o", "remount,size=64m", disk)
            before = report.read_bytes().count(b"\n")
            code, program = await lab.run("resume", "--first-poll", "50ms", "--poll-interval", "100ms")
            promise(code == 0, f"exit {code}: {program.err}")
            check_report(report, tree, path)
            again = check_submissions(server.creates(), tree, doubtful)
        finally:
            lab.end()
            await server.stop()
    return Counter({"inputs": tree.inputs, "rows before": before, "submitted again": again})


async def read_only(path: Path, *, skills: int = 10) -> Counter[str]:
    """A read-only ledger or report: exit 2 before anything is sent."""
    with _memory(path / "disk", "8m") as disk:
        lab, server = Lab(path, disk / "state"), Server(path / "server")
        tree = make_tree(path / "in", skills, mixed=False)
        await server.start()
        try:
            code, program = await lab.run(*lab.scan(tree, server))
            promise(code == 0, f"exit {code}: {program.err}")
            (path / "in" / "0" / "skill-00000.zip").unlink()
            sent = server.creates().total()
            _do("mount", "-o", "remount,ro", disk)
            code, program = await lab.run(*lab.scan(tree, server, report=path / "other.jsonl"))
            promise(code == 2, f"exit {code}: {program.err}")
            promise("choose another --state-dir" in program.err, program.err)
            elsewhere = Lab(path / "elsewhere")
            (elsewhere.path / "in").symlink_to(path / "in")
            code, program = await elsewhere.run(*elsewhere.scan(tree, server, report=disk / "r.jsonl"))
            promise(code == 2, f"exit {code}: {program.err}")
            promise("name another output file" in program.err, program.err)
            promise(server.creates().total() == sent, "something was sent")
        finally:
            lab.end()
            await server.stop()
    return Counter({"refused": 2, "inputs": skills})


async def slow(path: Path, *, skills: int = 300, stops: int = 4) -> Counter[str]:
    """A disk that takes nothing for seconds, again and again: the run is slower, and that is all.

    A process that is killed while it waits for such a disk is gone on with like any other.
    """
    with _image(path) as disk:
        lab, server = Lab(path, disk / "state"), Server(path / "server")
        tree = make_tree(path / "in", skills, mixed=False)
        report = disk / "report.jsonl"
        await server.start("Create:delay=0.03")
        doubtful: Counter[str] = Counter()
        try:
            for stop in range(stops):
                program = await lab.start(*lab.scan(tree, server, report=report))
                goal = skills * (stop + 1) // (stops + 2)
                await server.taken(goal, program)
                _do("fsfreeze", "--freeze", disk)
                try:
                    await asyncio.sleep(2.0)
                    program.send(signal.SIGKILL)
                    await asyncio.sleep(0.5)
                finally:
                    _do("fsfreeze", "--unfreeze", disk)
                await program.code()
                with ledger_copy(lab.state) as copy:
                    doubtful.update(in_doubt(copy))
            program = await lab.start(*lab.scan(tree, server, report=report))
            await server.taken(skills * (stops + 1) // (stops + 2), program)
            _do("fsfreeze", "--freeze", disk)
            try:
                await asyncio.sleep(3.0)
            finally:
                _do("fsfreeze", "--unfreeze", disk)
            code = await program.code()
            promise(code == 0, f"exit {code}: {program.err}")
            check_report(report, tree, path)
            again = check_submissions(server.creates(), tree, doubtful)
        finally:
            lab.end()
            await server.stop()
    return Counter({"inputs": tree.inputs, "kills": stops, "freezes": stops + 1, "submitted again": again})


async def damaged(path: Path, *, skills: int = 200) -> Counter[str]:
    """A damaged page: named by ``status --verify`` and by whoever meets it, and left as it is."""
    lab, server = Lab(path), Server(path / "server")
    tree = make_tree(path / "in", skills, mixed=False)
    ledger = lab.state / "ledger.sqlite3"
    await server.start()
    pages = 0
    try:
        code, program = await lab.run(*lab.scan(tree, server))
        promise(code == 0, f"exit {code}: {program.err}")
        code, program = await lab.run("status", "--verify")
        promise(code == 0, f"exit {code}: {program.out}{program.err}")
        sound = ledger.read_bytes()
        for page in _roots(ledger):
            spoilt = sound[: page * 4096] + _SPOILT + sound[(page + 1) * 4096 :]
            ledger.write_bytes(spoilt)
            digest = hashlib.sha256(spoilt).digest()
            code, program = await lab.run("status", "--verify")
            promise(code == 2, f"page {page}: exit {code}: {program.out}")
            promise(str(ledger) in program.out + program.err, program.out)
            promise(hashlib.sha256(ledger.read_bytes()).digest() == digest, "the damaged file was changed")
            code, program = await lab.run(*lab.scan(tree, server, "--rehash", report=path / f"r{page}.jsonl"))
            promise(code in {0, 2, 3}, f"page {page}: exit {code}: {program.err}")
            promise(code == 0 or "damaged" in program.err, program.err)
            kept = ledger.read_bytes()[page * 4096 : (page + 1) * 4096]
            promise(kept == _SPOILT, f"page {page} was overwritten")
            pages += 1
    finally:
        lab.end()
        await server.stop()
    promise(server.creates().total() == skills, "submitted again")
    return Counter({"inputs": tree.inputs, "damaged pages": pages})


def _roots(ledger: Path) -> list[int]:
    """Pages that are in use for certain, counted from 0: the first one of each table and index."""
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as opened:
        found = opened.execute("SELECT rootpage FROM sqlite_master WHERE rootpage > 1 ORDER BY rootpage")
        return [page - 1 for (page,) in found]


@contextmanager
def _memory(place: Path, size: str) -> Iterator[Path]:
    """A small file system in memory, which can be made larger or read-only."""
    place.mkdir(parents=True)
    _do("mount", "-t", "tmpfs", "-o", f"size={size}", "none", place)
    try:
        yield place
    finally:
        _do("umount", "--lazy", place)


@contextmanager
def _image(path: Path) -> Iterator[Path]:
    """A file system on a file, which can be frozen."""
    place = path / "disk"
    place.mkdir(parents=True, exist_ok=True)
    image = path / "disk.img"
    with image.open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    _do("mkfs.ext4", "-q", image)
    _do("mount", "-o", "loop", image, place)
    try:
        yield place
    finally:
        _do("umount", "--lazy", place)
        image.unlink()


def _do(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def _tried(*command: str | Path) -> str | None:
    done = subprocess.run(command, check=False, capture_output=True, timeout=60)
    return None if done.returncode == 0 else done.stderr.decode().strip() or f"exit {done.returncode}"
