"""The life of the service: one per state directory, from its lock to its last write.

Told to stop, it begins nothing more, lets the runs stop where they can go on, ends the event streams, and is
gone within ten seconds. A second signal does not wait for the runs.
"""

import asyncio
import fcntl
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import structlog
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from batchscan.errors import LedgerError, UsageError
from batchscan.service.app import begin_to_stop, make_app, runs_stopped
from batchscan.service.guard import is_loopback
from batchscan.service.keys import STATE, WORKERS
from batchscan.service_config import ServiceConfig
from batchscan.session import prepare_state_dir
from batchscan.settings import Settled
from batchscan.signals import drain_then_abort
from batchscan.streams import data_on_stdout

log = structlog.get_logger(__name__)

_LOCK: Final = "serve.lock"
_HANDLERS_S: Final = 0.5
_IDLE_S: Final = 75.0
"""Longer than proxies keep a connection that nobody uses; aiohttp would keep it for an hour."""

_BACKLOG: Final = 1024
_LONGEST_LINE: Final = 64 * 1024
"""Of a request: a path of 4096 characters, each of which may be written with twelve, and then some."""


def check_exposure(service: ServiceConfig) -> None:
    """Refuse to be reached by other machines without a token.

    Raises:
        UsageError: there is none.
    """
    if service.token_file is None and not is_loopback(service.host):
        raise UsageError(
            f"host {service.host}: other machines could reach the service, and no token is asked for; set"
            " token_file in [service], or listen on 127.0.0.1"
        )


async def serve(flags: Mapping[str, Any], settled: Settled, service: ServiceConfig) -> int:
    """Serve until a signal comes; return the exit code.

    Raises:
        UsageError: a setting cannot be used, another service has the state directory, or stdout cannot be
            written.
        BatchscanError: the service's endpoint or ledger cannot be opened, or a part of the service died.
    """
    check_exposure(service)
    stop, abort = asyncio.Event(), asyncio.Event()

    def drain() -> None:
        log.warning("stopping: runs stop where they can go on; a second signal does not wait for them")
        stop.set()

    await asyncio.to_thread(prepare_state_dir, settled.config.state_dir)
    with _alone(settled.config.state_dir), drain_then_abort(drain, abort.set):
        app = await asyncio.to_thread(make_app, flags, settled, service)
        runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=_HANDLERS_S,
            keepalive_timeout=_IDLE_S,
            max_line_size=_LONGEST_LINE,
            logger=_server_log(),
        )
        try:
            await runner.setup()
            url = await _listen(runner, service)
            with data_on_stdout():
                print(url)  # noqa: T201 - data goes to stdout
            log.warning("serving", url=url, state_dir=str(settled.config.state_dir))
            await _until(app, stop)
            began = time.monotonic()
            begin_to_stop(app)
            await _first(runs_stopped(app), abort.wait())
            app[STATE].waited = True
        finally:
            await runner.cleanup()
        log.warning("stopped", took_s=round(time.monotonic() - began, 2))
    return 0


def _server_log() -> logging.Logger:
    """Where aiohttp says what went wrong outside of our code: a caller's bad HTTP is no error of ours."""
    logger = logging.getLogger(f"{__name__}.http")
    logger.filters = [_calm]
    return logger


def _calm(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, BadHttpMessage):
        return True
    log.info("request refused: it is no HTTP", code=error.code)
    return False


async def _until(app: web.Application, stop: asyncio.Event) -> None:
    """Wait for the signal, or for a part that dies.

    Raises:
        WorkerDiedError: one has.
    """
    death = asyncio.ensure_future(app[WORKERS].first_death())
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({death, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if death.done():
            raise death.result()
    finally:
        death.cancel()
        stopped.cancel()


async def _first(*waits: Any) -> None:  # noqa: ANN401 - coroutines
    """Wait for the first of some things, and for no other."""
    tasks = {asyncio.ensure_future(wait) for wait in waits}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _listen(runner: web.AppRunner, service: ServiceConfig) -> str:
    try:
        await web.TCPSite(runner, service.host, service.port, backlog=_BACKLOG).start()
    except OSError as error:
        raise UsageError(
            f"cannot listen on {service.host} port {service.port}: {error.strerror or error}; choose others"
            " in [service]"
        ) from error
    host = f"[{service.host}]" if ":" in service.host else service.host
    return f"http://{host}:{runner.addresses[0][1]}"


@contextmanager
def _alone(state_dir: Path) -> Iterator[None]:
    """Keep every other service off the state directory; the kernel lets go when this process dies.

    Raises:
        UsageError: another one is there.
        LedgerError: that cannot be told.
    """
    try:
        descriptor = _locked(state_dir)
    except OSError as error:
        raise LedgerError(
            f"{state_dir / _LOCK} cannot be locked ({error.strerror}); check its owner, the disk and the"
            " mount, or choose another --state-dir"
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


def _locked(state_dir: Path) -> int:
    descriptor = os.open(state_dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, state_dir)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _lock(descriptor: int, state_dir: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        other = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        raise UsageError(
            f"{state_dir}: another `batchscan serve` is using it (process {other or 'unknown'}); stop"
            " that one, or choose another --state-dir"
        ) from error
