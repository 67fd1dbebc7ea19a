"""Watches the sources of schedules, and submits what arrives there as soon as it is whole.

It may miss something, and nothing depends on it: the schedule's next run sees all. Where the kernel cannot
tell of changes (network file systems, no watches left), the directories are looked through again and again.
"""

import asyncio
import fcntl
import os
import signal
import stat
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import structlog
from watchfiles import Change, awatch

from batchscan.errors import LedgerError
from batchscan.schedules.arrivals import Arrivals, Eyes, Sight
from batchscan.walk import Filters

_log = structlog.get_logger(__name__)

ARRIVALS_DIRECTORY: Final = "arrivals"
KEPT_S: Final = 30 * 86400.0
"""How long the list of a run's files is kept: as long as a run can be gone on with."""

_LONGEST_PAUSE_S: Final = 60.0
_BEFORE_S: Final = 10.0
"""What happened so shortly before the watch was lost may not have been heard of."""

_POLLED: Final = 5
"""Settle times between two looks where the kernel does not tell."""

_REMOTE: Final = (
    *("nfs", "cifs", "smb", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse", "virtiofs", "vboxsf"),
)

Submit = Callable[[Path, int], Awaitable[None]]


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """What is watched for a schedule.

    Attributes:
        name: of the schedule.
        roots: directories; they may come later.
        filters: which files below them are meant.
        settle_s: see ``Arrivals``.
    """

    name: str
    roots: tuple[str, ...]
    filters: Filters
    settle_s: float


class Watcher:
    """Watches for one schedule.

    Args:
        watched: what.
        directory: where lists of files are kept.
        submit: makes a run of a list of so many files.
    """

    def __init__(self, watched: Watched, directory: Path, submit: Submit) -> None:
        self._watched = watched
        self._directory = directory
        self._submit = submit
        self._arrivals = Arrivals(watched.settle_s, Eyes(look, is_written))
        self._turn = asyncio.Lock()
        self._polling = False
        self._lenient = False
        self._begun = False
        self._stop = asyncio.Event()
        self._log = _log.bind(schedule=watched.name)

    def stop(self) -> None:
        """End soon."""
        self._stop.set()

    async def run(self) -> None:
        """Watch until ``stop``."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._submit_whole())
            self._polling = await asyncio.to_thread(_is_remote, self._watched.roots)
            heard_at: float | None = None
            losses = 0
            while not self._stop.is_set():
                begun = time.monotonic()
                self._begun = False
                try:
                    await self._follow(heard_at)
                except Exception as error:  # noqa: BLE001 - the library raises what it likes
                    self._lost(error, again=losses > 0)
                heard_at = time.time()
                losses = 0 if time.monotonic() - begun > _LONGEST_PAUSE_S else losses + 1
                await self._pause(min(2.0**losses / 2, _LONGEST_PAUSE_S))

    def _lost(self, error: Exception, *, again: bool) -> None:
        """Tell why the watch ended, and choose how it begins anew."""
        reason = _reason(error)
        if isinstance(error, FileNotFoundError):
            if not again:
                self._log.warning("watch-waits", reason=reason)
        elif isinstance(error, PermissionError) and not self._lenient:
            self._log.warning("watch-leaves-out", reason=reason)
            self._lenient = True
        elif not self._begun and not self._polling:  # no watches or no descriptors are left, say
            self._log.warning("watch-polls", reason=reason)
            self._polling = True
        else:  # a name that is not UTF-8, say
            self._log.warning("watch-begins-anew", reason=reason)

    async def _follow(self, heard_at: float | None) -> None:
        """Hear of changes until the end; first look for what has changed since ``heard_at``.

        Raises:
            FileNotFoundError: a root is not there, or is another one by now.
        """
        roots = self._watched.roots
        identities = await asyncio.to_thread(_identities, roots)
        changes = awatch(
            *roots,
            watch_filter=None,
            debounce=500,
            stop_event=self._stop,
            rust_timeout=500,
            yield_on_timeout=True,
            force_polling=self._polling or None,
            poll_delay_ms=round(_POLLED * self._watched.settle_s * 1000),
            ignore_permission_denied=self._lenient,  # it ignores more than that, so only where it must
        )
        async for found in changes:
            if not self._begun:
                self._begun = True
                self._log.info("watching", roots=list(roots), polling=self._polling)
                if heard_at is not None:
                    async with self._turn:
                        await asyncio.to_thread(self._note_recent, heard_at - _BEFORE_S)
            if found:
                async with self._turn:
                    await asyncio.to_thread(self._note, found)
            elif await asyncio.to_thread(_identities, roots) != identities:
                raise FileNotFoundError(f"{', '.join(roots)}: not the directories that they were")

    def _note(self, changes: Iterable[tuple[Change, str]]) -> None:
        for change, path in changes:
            if change is Change.deleted:
                continue  # looked at when it would be submitted
            if _is_zip(path):
                self._seen(path)
            elif change is Change.added and os.path.isdir(path):  # noqa: PTH112 - as it came
                # what it held when it came was told of to nobody
                for each in _zips(path, self._stop):
                    self._seen(each)

    def _note_recent(self, since: float) -> None:
        for root in self._watched.roots:
            for path in _zips(root, self._stop):
                try:
                    recent = os.stat(path).st_ctime >= since  # noqa: PTH116 - as it came
                except OSError:
                    continue
                if recent:
                    self._seen(path)

    def _seen(self, path: str) -> None:
        for root in self._watched.roots:
            below = path.removeprefix(root).lstrip("/")
            if below != path and self._watched.filters.wanted(below):
                self._arrivals.seen(path, time.monotonic())
                return

    async def _submit_whole(self) -> None:
        while not self._stop.is_set():
            await self._pause(self._watched.settle_s / 4)
            async with self._turn:
                paths = await asyncio.to_thread(self._arrivals.take, time.monotonic())
            if self._arrivals.left_out:
                self._log.warning("too-much-arrives", left_out=self._arrivals.left_out)
                self._arrivals.left_out = 0
            if not paths:
                continue
            try:
                file = await asyncio.to_thread(keep_list, self._directory, paths)
                await self._submit(file, len(paths))
            except (LedgerError, OSError) as error:
                self._log.error("arrivals-not-submitted", files=len(paths), reason=str(error))
                self._arrivals.put_back(paths, time.monotonic())

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return


def keep_list(directory: Path, paths: Iterable[str]) -> Path:
    """Write a list of files, as a manifest whose names end in NUL; remove those of long ago.

    Raises:
        OSError: it cannot be written.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    for old in directory.iterdir():
        if old.stat().st_mtime < time.time() - KEPT_S:
            old.unlink(missing_ok=True)
    descriptor, name = tempfile.mkstemp(dir=directory, prefix="arrived-")
    with os.fdopen(descriptor, "wb") as file:
        file.writelines(os.fsencode(path) + b"\0" for path in paths)
        file.flush()
        os.fsync(file.fileno())
    return Path(name)


def look(path: str) -> Sight | None:
    """Tell how a file looks; None where there is no such regular file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - as it came
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return Sight(found.st_size, found.st_mtime_ns, found.st_ino)


def is_written(path: str) -> bool:
    """Tell whether somebody has a file open to write, as far as the kernel tells us.

    A lease to read is only given where nobody has (``F_SETLEASE`` of fcntl(2)), on our own files, if they are
    local; of others the settle time alone decides. Whoever opens it meanwhile waits for a moment, and we are
    told by a signal that does nothing.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _identities(roots: Iterable[str]) -> list[tuple[int, int]]:
    """Tell directories from others that take their place.

    Raises:
        FileNotFoundError: one is not there.
    """
    found = [os.stat(root) for root in roots]  # noqa: PTH116 - as it came
    return [(each.st_dev, each.st_ino) for each in found]


def _is_zip(path: str) -> bool:
    return path[-4:].lower() == ".zip"


def _zips(directory: str, stop: asyncio.Event) -> Iterator[str]:
    for place, _, names in os.walk(directory):
        if stop.is_set():
            return
        yield from (os.path.join(place, name) for name in names if _is_zip(name))  # noqa: PTH118 - as they came


def _is_remote(roots: Iterable[str]) -> bool:
    """Whether a root is on a file system that other machines write to, or that tells of nothing."""
    kinds = _mounts()
    for root in roots:
        place = os.path.realpath(root) + "/"
        above = [mount for mount in kinds if place.startswith(f"{mount.rstrip('/')}/")]
        kind = kinds[max(above, key=len)] if above else ""
        if kind.startswith(_REMOTE):
            _log.warning("watch-polls", reason=f"{root} is on {kind}, which does not tell of all changes")
            return True
    return False


def _mounts() -> dict[str, str]:
    """The kinds of file systems, by where they are (proc(5), mountinfo)."""
    try:
        text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return {}
    found = {}
    for line in text.splitlines():
        fields, _, kinds = line.partition(" - ")
        found[fields.split()[4].replace("\\040", " ")] = kinds.split()[0]
    return found


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
