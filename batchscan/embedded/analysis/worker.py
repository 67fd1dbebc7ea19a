"""The worker process: judges one ZIP after the other for the parent on its pipes.

Untrusted content is only ever touched here, so the process is made small first: no network and no new
processes, a memory limit, low priority, deaf to Ctrl-C, and dead when its parent is. Frames on the pipes
are a 4-byte big-endian length and that many bytes: a ZIP comes in, a ``Reply`` goes out. The first
frame out says that the engine is loaded.
"""

import ctypes
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from batchscan.embedded.detection import Detection

LENGTH = struct.Struct(">I")

_NICENESS = 10
_PR_SET_PDEATHSIG = 1
_FORBIDDEN_EVENTS = frozenset(
    {
        "socket.connect",
        "socket.bind",
        "socket.sendto",
        "socket.sendmsg",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "subprocess.Popen",
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.system",
        "pty.spawn",
    }
)


class Orders(msgspec.Struct, frozen=True):
    """What a worker is told at its start, as JSON in its only argument.

    Attributes:
        kind: which engine to load.
        directory: private, exists; only the ``job`` directory below it is used.
        memory_limit_bytes: of private memory, for the whole process.
        parent: process id; when it is no longer the parent, there is nobody to work for.
    """

    kind: str
    directory: str
    memory_limit_bytes: int
    parent: int


class Reply(msgspec.Struct, frozen=True):
    """Exactly one of both, except in the first frame: neither when loaded, ``error`` when not.

    Attributes:
        detection: the judgement.
        error: why there is none, one line.
        spent: the process is not fit for another job.
    """

    detection: Detection | None = None
    error: str | None = None
    spent: bool = False


def main() -> None:
    """Serve the parent until it closes the pipe."""
    orders = msgspec.json.decode(sys.argv[1], type=Orders)
    _restrict(orders)
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    # What a library prints must not get between the frames.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    try:
        judge = _load(orders)
    except Exception as exc:  # noqa: BLE001 - the parent reports it; there is no other way out of here
        _send(replies, Reply(error=f"the detection engine does not load: {_describe(exc)}"))
        return
    _send(replies, Reply())
    sys.addaudithook(_refuse)
    while (content := _receive(requests)) is not None:
        _send(replies, _attempt(judge, content))


def _restrict(orders: Orders) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != orders.parent:  # it died before the line above could see it
        sys.exit(0)
    os.nice(_NICENESS)
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (orders.memory_limit_bytes, orders.memory_limit_bytes))


def _load(orders: Orders) -> Callable[[bytes], Detection]:
    """Import the engine: this is what takes time, and memory."""
    from batchscan.embedded.analysis.examine import examine  # noqa: PLC0415 - restricted first, loaded then

    job = Path(orders.directory) / "job"
    if orders.kind == "deep":
        from batchscan.embedded.analysis.deep import DeepEngine  # noqa: PLC0415 - an optional dependency

        engine = DeepEngine()
        return lambda content: examine(content, job, engine.analyze)
    from batchscan.embedded.analysis.static import analyze  # noqa: PLC0415 - as above

    return lambda content: examine(content, job, analyze)


def _attempt(judge: Callable[[bytes], Detection], content: bytes) -> Reply:
    try:
        return Reply(detection=judge(content))
    except MemoryError:
        return Reply(error="out of memory", spent=True)
    except RecursionError as exc:
        return Reply(error=_describe(exc), spent=True)
    except Exception as exc:  # noqa: BLE001 - whatever a library raises on hostile input is a failed judgement
        return Reply(error=_describe(exc))


def _refuse(event: str, _arguments: tuple[object, ...]) -> None:
    if event in _FORBIDDEN_EVENTS:
        raise PermissionError(f"{event} is not allowed in a detection worker")


def _describe(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}"[:500]


def _receive(pipe: BinaryIO) -> bytes | None:
    header = pipe.read(LENGTH.size)
    if len(header) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(header)
    content = pipe.read(length)
    return content if len(content) == length else None


def _send(pipe: BinaryIO, reply: Reply) -> None:
    body = msgspec.json.encode(reply)
    pipe.write(LENGTH.pack(len(body)) + body)
    pipe.flush()
