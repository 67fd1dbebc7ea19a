"""Find the inputs of a run: sources in, batches of ``Candidate`` out.

Rule: one thread walks, parses and stats; the event loop only receives. The hand-over is bounded, so a
slow consumer stops the walk, and whoever stops listening ends the thread.
"""

# pathlib cannot hold names that are not text; the paths here are raw bytes
# ruff: noqa: PTH116, PTH118, PTH119, PTH120

import asyncio
import os
import stat
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Container, Generator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec
import structlog

from batchscan import manifest
from batchscan.errors import UsageError
from batchscan.models import Candidate
from batchscan.stats import Stats
from batchscan.walk import Fence, Filters, Walker, absolute, as_candidate, display_path, is_inside, look

__all__ = [
    "DirectorySource",
    "FileSource",
    "Filters",
    "ManifestSource",
    "Source",
    "discover",
    "display_path",
    "resolve_sources",
]

BATCHES_HANDED_OVER = 2
"""Batches between the thread and the consumer; with the one each of them works on: four in memory."""
STOP_TIMEOUT_S = 5.0
"""How long a stopped walk may take to end: one look at a file, however slow its file system."""

_log = structlog.get_logger(__name__)


class DirectorySource(msgspec.Struct, frozen=True):
    """A directory to walk; ``path`` is as the operator wrote it."""

    path: str


class FileSource(msgspec.Struct, frozen=True):
    """One skill ZIP, whatever its name; ``path`` is as the operator wrote it."""

    path: str


class ManifestSource(msgspec.Struct, frozen=True):
    """A list of inputs.

    Attributes:
        path: as the operator wrote it, ``-`` for standard input.
        content: where to read it; for standard input the file it was spooled to.
        nul: names that end in a NUL byte, nothing else.
    """

    path: str
    content: Path
    nul: bool = False


Source: TypeAlias = DirectorySource | FileSource | ManifestSource


def resolve_sources(
    sources: Sequence[str],
    manifests: Sequence[str],
    *,
    nul: bool,
    stdin_spool: Path | None,
    roots: Container[bytes] | None = None,
) -> list[Source]:
    """Check what the operator named, before anything is done.

    A source that another directory source covers, or that is named twice, is dropped with a warning, so
    that one file is not two inputs.

    Args:
        sources: directories, ZIPs, or ``-`` for a manifest on standard input.
        manifests: manifest files, or ``-``.
        nul: the manifests hold names that end in a NUL byte.
        stdin_spool: the file that standard input was spooled to; None when it was not read.
        roots: real directories that every manifest must be below; None: it may be anywhere.

    Raises:
        UsageError: one does not exist, is of the wrong kind, cannot be read, leads out of the roots, or has
            no ``path`` column.
    """
    found: list[Source] = []
    for path in sources:
        if path == "-":
            found.append(_manifest(path, stdin_spool, roots, nul=nul))
        elif stat.S_ISDIR(_kind(path, "a directory, a skill ZIP or - for standard input")):
            found.append(DirectorySource(path))
        else:
            found.append(FileSource(path))
    for path in manifests:
        if path != "-" and stat.S_ISDIR(_kind(path, "a manifest file, or - for standard input")):
            raise UsageError(f"a directory is no manifest: {_shown(path)}; name it as a source instead")
        found.append(_manifest(path, stdin_spool if path == "-" else Path(path), roots, nul=nul))
    return _without_covered(found)


def _shown(path: str) -> str:
    return display_path(os.fsencode(path))


def _kind(path: str, wanted: str) -> int:
    """The mode of a directory or regular file."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"no such file or directory: {_shown(path)!r}; name {wanted}") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot look at {_shown(path)!r}: {error}") from error
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise UsageError(f"a FIFO, socket or device is no source: {_shown(path)}; name {wanted}")
    return mode


def _manifest(
    path: str, content: Path | None, roots: Container[bytes] | None, *, nul: bool
) -> ManifestSource:
    if content is None:
        raise UsageError("- names standard input, but it was not read; pipe a list of paths into it")
    manifest.check(path, content, nul=nul, roots=roots)
    return ManifestSource(path, content, nul)


def _without_covered(sources: list[Source]) -> list[Source]:
    roots = _real_roots(sources)
    kept: list[Source] = []
    seen: set[tuple[type, bytes]] = set()
    for source in sources:
        raw = os.fsencode(source.path)
        if isinstance(source, DirectorySource):
            place = os.path.realpath(raw)
            above = os.path.dirname(place)
            covered = above != place and is_inside(above, roots)
        elif isinstance(source, FileSource):
            place = os.path.join(os.path.realpath(os.path.dirname(raw) or b"."), os.path.basename(raw))
            covered = place[-4:].lower() == b".zip" and is_inside(os.path.dirname(place), roots)
        else:
            place = raw if source.path == "-" else os.path.realpath(raw)
            covered = False
        if covered or (type(source), place) in seen:
            _log.warning("source-already-covered", source=_shown(source.path))
            continue
        seen.add((type(source), place))
        kept.append(source)
    return kept


def _real_roots(sources: Sequence[Source]) -> set[bytes]:
    return {
        os.path.realpath(os.fsencode(source.path))
        for source in sources
        if isinstance(source, DirectorySource)
    }


class _Batch(NamedTuple):
    candidates: list[Candidate]
    skipped: Counter[str]


class _End(NamedTuple):
    error: BaseException | None


class _StoppedError(Exception):
    """Nobody listens any more. Never leaves this module."""


class _HandOver:
    """A bounded way from one thread into the event loop that made it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[_Batch | _End] = asyncio.Queue()
        self._slots = threading.Semaphore(BATCHES_HANDED_OVER)
        self._stop = threading.Event()

    def check(self) -> None:
        """Called in the thread. Raises ``_StoppedError`` when nobody listens any more."""
        if self._stop.is_set():
            raise _StoppedError

    def put(self, batch: _Batch) -> None:
        """Called in the thread. Waits for room."""
        # the limit only guards against a loop that died without a word
        while not self._slots.acquire(timeout=1.0):
            self.check()
            if self._loop.is_closed():
                raise _StoppedError
        self.check()
        self._tell(batch)

    def end(self, error: BaseException | None) -> None:
        """Called in the thread, once, at its end."""
        self._tell(_End(error))

    def _tell(self, item: _Batch | _End) -> None:
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)
        except RuntimeError:
            # the loop was closed: there is nobody left to tell
            self._stop.set()

    async def get(self) -> _Batch | _End:
        """Called in the loop. Ends as soon as the thread hands over anything; it always says its end."""
        item = await self._queue.get()
        self._slots.release()
        return item

    def stop(self) -> None:
        """Called in the loop: the thread ends at its next look."""
        self._stop.set()
        self._slots.release()


async def discover(
    sources: Sequence[Source], filters: Filters, stats: Stats, *, batch: int = 512
) -> AsyncGenerator[list[Candidate], None]:
    """Yield every input of the sources, once, in lists of at most ``batch``.

    Directories come in the order of the file system, manifests in theirs. Counts ``stats.skipped``
    as it goes; the consumer counts what it took. Close it (``aclose``) to stop early: the thread is gone
    then.

    Raises:
        UsageError: a manifest can no longer be read.
    """
    hand_over = _HandOver()
    work = partial(_produce, tuple(sources), filters, batch, hand_over)
    thread = threading.Thread(target=work, name="batchscan-discover", daemon=True)
    thread.start()
    ended = False
    try:
        while True:
            item = await hand_over.get()
            if isinstance(item, _End):
                ended = True
                if item.error is not None:
                    raise item.error
                return
            stats.skipped.update(item.skipped)
            if item.candidates:
                yield item.candidates
    finally:
        hand_over.stop()
        if not ended:
            await _wait_for_end(hand_over)
        # it has said its last word, or hangs in the file system: a daemon does not keep the process
        thread.join(timeout=1.0 if ended else 0.1)


async def _wait_for_end(hand_over: _HandOver) -> None:
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            while not isinstance(await hand_over.get(), _End):
                pass
    except TimeoutError:
        _log.warning("discovery-still-running", waited_s=STOP_TIMEOUT_S)


def _produce(sources: tuple[Source, ...], filters: Filters, batch: int, hand_over: _HandOver) -> None:
    """The thread: everything found goes over in batches, then the end, whatever it is."""
    error: BaseException | None = None
    skipped: Counter[str] = Counter()
    found: list[Candidate] = []
    fence = Fence(filters.roots)
    try:
        with closing(_candidates(sources, filters, skipped, hand_over)) as candidates:
            for candidate in candidates:
                found.append(fence.keep(candidate))
                if len(found) >= batch:
                    hand_over.put(_Batch(found, Counter(skipped)))
                    skipped.clear()
                    found = []
        hand_over.put(_Batch(found, skipped))
    except _StoppedError:
        pass
    except BaseException as caught:  # noqa: BLE001 - raised in the consumer
        error = caught
    hand_over.end(error)


def _candidates(
    sources: tuple[Source, ...], filters: Filters, skipped: Counter[str], hand_over: _HandOver
) -> Generator[Candidate, None, None]:
    walker = Walker(_real_roots(sources), filters, skipped, hand_over.check)
    for source in sources:
        raw = os.fsencode(source.path)
        if isinstance(source, DirectorySource):
            yield from walker.walk(_shown(source.path), absolute(raw))
        elif isinstance(source, ManifestSource):
            yield from manifest.read(
                source.path,
                source.content,
                nul=source.nul,
                filters=filters,
                skipped=skipped,
                check=hand_over.check,
            )
        elif filters.wanted(raw):
            location = absolute(raw)
            yield as_candidate(
                _shown(source.path), _shown(source.path), location, look(partial(os.stat, location))
            )
        else:
            skipped["filtered"] += 1
