"""The embedded endpoint: the vendor's scan API on loopback, judged by a local detector.

A request's life: it arrives (counted, held against the cap), its body is read within limits, its
signature verified, the action done, the answer enveloped with HTTP 200 and a bare
``application/json``, as the vendor answers whatever its gateway processed, refusals included.
"""

import ipaddress
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

import msgspec
import structlog
from aiohttp import web

from batchscan.embedded import faults
from batchscan.embedded.actions import Actions
from batchscan.embedded.body import Bodies, apart
from batchscan.embedded.detection import Detector
from batchscan.embedded.drill import Drill, DrillDice, Fault, Target
from batchscan.embedded.errors import EngineError, StoreError
from batchscan.embedded.judge import Judge, judging
from batchscan.embedded.report_link import check_link
from batchscan.embedded.settings import EngineSettings
from batchscan.embedded.store import Clock, Store, open_store
from batchscan.embedded.traffic import Traffic
from batchscan.embedded.verify import Key, verify
from batchscan.embedded.wire import VERSION, Action, Site, WireError, failure, new_request_id, success

__all__ = ["Drill", "Engine", "EngineError", "EngineSettings", "StoreError", "serve"]

STATS_PATH = "/-/stats"
_TARGETS: Mapping[str, Target] = {
    Action.CREATE: Target.CREATE,
    Action.RESULT: Target.RESULT,
    Action.PAY_INFO: Target.PAY_INFO,
    Action.TASK_LIST: Target.TASK_LIST,
}
_log = structlog.get_logger("batchscan.embedded")


class Engine:
    """A running endpoint, as seen by whoever started it.

    Attributes:
        url: where it listens, ``http://HOST:PORT``.
        requests: arrivals by action, refused ones included; made-up names count as ``other``.
        throttled: refusals with ``RequestLimitExceeded`` by action.
        codes: answers by error code, ``ok`` without one.
    """

    def __init__(self, url: str, traffic: Traffic, store: Store) -> None:
        self.url = url
        self.requests = traffic.requests
        self.throttled = traffic.throttled
        self.codes = traffic.codes
        self._traffic = traffic
        self._store = store

    def arrivals(self, action: str) -> Sequence[float]:
        """When the last requests of an action arrived (at most 100,000), monotonic seconds."""
        return self._traffic.times(action)

    async def stats(self) -> dict[str, Any]:
        """What ``GET /-/stats`` answers."""
        return await read_stats(self._traffic, self._store)


async def read_stats(traffic: Traffic, store: Store) -> dict[str, Any]:
    """Counters of this engine, and what its store holds."""
    account = await store.account()
    return {
        "actions": traffic.summary(),
        "codes": dict(traffic.codes),
        "billed_units": account.used_units,
        **await store.counts(),
    }


class _Endpoint:
    """Answers HTTP requests."""

    def __init__(
        self, settings: EngineSettings, store: Store, judge: Judge, dice: DrillDice, clock: Clock
    ) -> None:
        self.traffic = Traffic([action.value for action in Action], settings.effective_caps())
        self._settings = settings
        self._store = store
        self._dice = dice
        self._clock = clock
        self._key = Key(settings.secret_id, settings.secret_key, settings.token)
        self._bodies = Bodies(settings.body_limit_bytes, settings.body_timeout_s)
        self._actions = Actions(settings, store, judge, clock)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, whatever it is."""
        arrived = time.monotonic()
        if request.path != "/":
            return await self._elsewhere(request)
        action = request.headers.get("X-TC-Action", "")
        accepted = self.traffic.arrive(action, arrived)
        drawn = self._dice.request(_TARGETS.get(action)) if accepted else ()
        call = _Call(request, action, new_request_id(), drawn, self._clock() + faults.skew_s(drawn))
        code, response = await self._respond(call, accepted=accepted)
        if not response.prepared:
            response.headers["Date"] = formatdate(call.now, usegmt=True)
        self.traffic.codes[code] += 1
        _log.debug(
            "engine.request",
            action=action[:64],
            code=code,
            status=response.status,
            request_id=call.request_id,
            elapsed_s=round(time.monotonic() - arrived, 6),
        )
        return response

    async def _respond(self, call: "_Call", *, accepted: bool) -> tuple[str, web.StreamResponse]:
        """The answer, and its code for the counters: ``ok``, ``drill`` or the error's."""
        early = await faults.instead(call.faults, call.request, call.request_id)
        if early is not None:
            return "drill", early
        try:
            body = success(await self._fields(call, accepted=accepted), call.request_id)
            code = "ok"
        except WireError as refusal:
            code = refusal.code
            body = failure(code, refusal.message, call.request_id)
        except Exception:  # noqa: BLE001 - whatever it was, the caller gets the envelope and the log the cause
            _log.exception("engine.request_failed", action=call.action[:64], request_id=call.request_id)
            code = "InternalError"
            body = failure(code, "An internal error occurred.", call.request_id)
        return code, await faults.answer(call.faults, call.request, body)

    async def _fields(self, call: "_Call", *, accepted: bool) -> dict[str, Any]:
        request = call.request
        if not accepted:  # decided on arrival; the body need not be read for it
            raise WireError("RequestLimitExceeded", "The frequency limit of this action is exceeded.")
        if request.method != "POST":
            raise WireError("UnsupportedProtocol", "Only POST is supported.")
        if request.query_string:
            raise WireError("InvalidRequest", "The query must be empty.")
        async with self._bodies.read(request) as body:
            await apart(len(body), verify, request.headers, body, self._key, call.now)
            _check_head(request)
            fields = await self._actions.perform(call.action, body, f"http://{request.host}")
        return faults.alter(call.faults, fields, call.now, Site(self._settings.site))

    async def _elsewhere(self, request: web.Request) -> web.Response:
        """Paths that the vendor's API does not have: counters, reports, and the rest."""
        try:
            found = await self._look_up(request) if request.method == "GET" else None
        except StoreError:
            _log.exception("engine.store_failed", path=request.path[:32])
            return faults.reply(failure("InternalError", "The store failed.", new_request_id()), status=500)
        if found is None:
            body = failure("InvalidRequest", "There is nothing here.", new_request_id())
            return faults.reply(body, status=404)
        return faults.reply(msgspec.json.encode(found))

    async def _look_up(self, request: web.Request) -> dict[str, Any] | None:
        if request.path == STATS_PATH and self._settings.stats and _is_loopback(request.remote):
            return await read_stats(self.traffic, self._store)
        link = check_link(request.path, request.query, secret=self._settings.secret_key, now=self._clock())
        return await self._actions.report(*link) if link else None


class _Call(msgspec.Struct, frozen=True):
    """One request on its way. ``now`` is the server's time for it, epoch seconds."""

    request: web.Request
    action: str
    request_id: str
    faults: tuple[Fault, ...]
    now: float


def _check_head(request: web.Request) -> None:
    """What the signature does not cover: action, version, content type."""
    if "X-TC-Action" not in request.headers:
        raise WireError("MissingParameter", "The header `X-TC-Action` is missing.")
    version = request.headers.get("X-TC-Version")
    if version is None:
        raise WireError("MissingParameter", "The header `X-TC-Version` is missing.")
    if version != VERSION:
        raise WireError("NoSuchVersion", f"The version must be {VERSION}.")
    if request.content_type != faults.JSON_TYPE:
        raise WireError("InvalidRequest", f"The content type must be {faults.JSON_TYPE}.")


def _is_loopback(remote: str | None) -> bool:
    return remote is not None and ipaddress.ip_address(remote.partition("%")[0]).is_loopback


@asynccontextmanager
async def serve(
    settings: EngineSettings, detector: Detector, *, clock: Clock = time.time
) -> AsyncIterator[Engine]:
    """Run one endpoint until the block ends.

    At the end requests in flight get ``stop_timeout_s`` to be answered; scans that are being judged go
    back to the store. The detector stays the caller's to close.

    Args:
        settings: how it behaves.
        detector: who judges.
        clock: epoch seconds.

    Raises:
        EngineError: the address or the store cannot be used.
    """
    async with open_store(settings.store_path, retention_s=settings.retention_s, clock=clock) as store:
        dice = DrillDice(settings.drill)
        judge = Judge(store, detector, dice, settings.judge_timeout_s)
        endpoint = _Endpoint(settings, store, judge, dice, clock)
        async with judging(judge, store, detector.concurrency), _listening(endpoint, settings) as url:
            _log.info("engine.started", url=url, site=settings.site, engine_version=settings.engine_version)
            yield Engine(url, endpoint.traffic, store)
        _log.info("engine.stopped", requests=endpoint.traffic.requests.total())


@asynccontextmanager
async def _listening(endpoint: _Endpoint, settings: EngineSettings) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", endpoint.handle)
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=settings.stop_timeout_s,
        auto_decompress=False,  # what was signed is what was sent
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, settings.host, settings.port, backlog=1024).start()
        except OSError as error:
            raise EngineError(
                f"cannot listen on {settings.host} port {settings.port}: {error.strerror}; choose another one"
            ) from error
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
