"""The embedded endpoint's detector: a pool of small, killable processes around a detection library.

Importing this module is cheap: the libraries are loaded in the workers, and workers start with the
first ZIP that needs them.
"""

import asyncio
import contextlib
import importlib.metadata
import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

from batchscan.embedded.analysis.mapping import MAPPING_VERSION
from batchscan.embedded.analysis.pool import WorkerProcess
from batchscan.embedded.analysis.scratch import scratch_directory
from batchscan.embedded.detection import Detection, DetectionError, Detector
from batchscan.errors import UsageError

DetectorKind = Literal["skilltotal", "deep"]

_DEEP_MODULE, _DEEP_PACKAGE = "skill_scanner", "cisco-ai-skill-scanner"
_DEEP_BASE = 1_000_000_000_000  # keeps the two engines' versions apart for good
_MIN_MEMORY_BYTES = 64 * 1024 * 1024


def engine_version(kind: DetectorKind = "skilltotal") -> int:
    """The integer that names what judges: it changes when a library's rules or our mapping do.

    ``skilltotal``: ruleset version * 100 + mapping version (ruleset 83, mapping 1: 8301).
    ``deep``: 10**12 + (scanner version as MMmmpp) * 10**6 + the former.

    Raises:
        UsageError: ``deep`` is not installed.
    """
    from skilltotal import RULESET_VERSION  # noqa: PLC0415 - 10 ms that only the embedded endpoint pays

    static = int(RULESET_VERSION) * 100 + MAPPING_VERSION
    if kind == "skilltotal":
        return static
    _require_deep()
    numbers = importlib.metadata.version(_DEEP_PACKAGE).split(".")[:3]
    major, minor, patch = (int("".join(filter(str.isdigit, number)) or 0) for number in numbers)
    return _DEEP_BASE + (major * 10_000 + minor * 100 + patch) * 1_000_000 + static


@contextlib.asynccontextmanager
async def open_detector(
    kind: DetectorKind = "skilltotal", *, workers: int, time_limit_s: float, memory_limit_bytes: int
) -> AsyncIterator[Detector]:
    """A detector for as long as the context lasts.

    Args:
        kind: ``skilltotal``, or ``deep`` for the optional second engine on top of it.
        workers: processes, and so ZIPs judged at the same time.
        time_limit_s: for one ZIP; then its worker is killed and the ZIP is not judged.
        memory_limit_bytes: private memory of one worker.

    Raises:
        UsageError: a limit makes no sense, the extra is not installed, or there is no place for
            temporary files.
    """
    if workers < 1:
        raise UsageError(f"the detector needs at least 1 worker, not {workers}")
    if time_limit_s <= 0:
        raise UsageError(f"the detector's time limit must be above 0 s, not {time_limit_s:g}")
    if memory_limit_bytes < _MIN_MEMORY_BYTES:
        raise UsageError(
            f"a detection worker needs at least {_MIN_MEMORY_BYTES} bytes, not {memory_limit_bytes}"
        )
    if kind == "deep":
        _require_deep()
    with contextlib.ExitStack() as stack:
        try:
            scratch = stack.enter_context(scratch_directory())
        except OSError as exc:
            raise UsageError(
                f"no private directory for unpacking: {exc}; set TMPDIR to a writable one"
            ) from exc
        detector = _PooledDetector(
            [
                WorkerProcess(
                    kind,
                    Path(scratch, f"worker-{number}"),
                    time_limit_s=time_limit_s,
                    memory_limit_bytes=memory_limit_bytes,
                )
                for number in range(workers)
            ]
        )
        try:
            yield detector
        finally:
            await detector.aclose()


def _require_deep() -> None:
    if importlib.util.find_spec(_DEEP_MODULE) is None:
        raise UsageError("the deep engine is not installed; run: pip install 'batchscan[deep]'")


class _PooledDetector:
    """Hands each ZIP to a free worker; the one used last first, so that few processes stay warm."""

    def __init__(self, places: list[WorkerProcess]) -> None:
        self._places = places
        self._free: asyncio.LifoQueue[WorkerProcess] = asyncio.LifoQueue()
        for place in places:
            self._free.put_nowait(place)
        self._closed = False

    @property
    def concurrency(self) -> int:
        """How many ZIPs it judges at the same time."""
        return len(self._places)

    async def detect(self, content: bytes) -> Detection:
        """Judge one ZIP.

        Raises:
            DetectionError: it could not be judged.
        """
        place = await self._free.get()
        try:
            if self._closed:
                raise DetectionError("the detector was closed")
            return await place.judge(content)
        finally:
            self._free.put_nowait(place)

    async def aclose(self) -> None:
        """End its processes; judgements under way fail. Once closed, it stays closed."""
        self._closed = True
        for place in self._places:
            place.close()
        # Killed, each judgement under way comes to its end and gives its place back.
        free = [await self._free.get() for _ in self._places]
        for place in free:
            await place.aclose()
            self._free.put_nowait(place)
