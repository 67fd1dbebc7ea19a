"""The embedded endpoint as a process that judges by content, counts what it took, holds and kills.

Usage: torture_server.py DIRECTORY PORT SITE SKEW [DRILL]

Its clock is SKEW seconds off. Prints its URL. Each line on standard input is a JSON command, each answered
by one line: ``arm`` kills a process group at the n-th moment of a kind from now on, ``hold`` keeps
submissions from being answered, ``drip`` makes the next answers slow, ``stats`` tells the counters. It ends
with its input. What it must not forget when it is killed itself
goes to files: ``creates.log`` has a line for each submission that was taken, ``faults.log`` one for each
fault. A request meets one fault at most.
"""

import asyncio
import base64
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import structlog
from aiohttp import web

from batchscan.embedded import server
from batchscan.embedded.actions import Actions
from batchscan.embedded.detection import Detection, RuleHit
from batchscan.embedded.drill import Drill, DrillDice, Fault, Target
from batchscan.embedded.server import Engine, EngineSettings, serve
from batchscan.embedded.wire import Action

SECRET_ID = "AKIDtorture00000000000000000000000"
SECRET_KEY = "SecretKeyOfTheTortureTests000001"
ENGINE_VERSION = 20260501
LEVELS = ("benign", "suspicious", "malicious")
_ANSWERED = {str(Action.CREATE): "answered", str(Action.RESULT): "polled"}


def judgement(digest: bytes) -> Detection:
    """What the detector says of content with this digest: no two verdicts are easily mixed up."""
    level = LEVELS[digest[0] % 3]
    hits = () if level == "benign" else (RuleHit(f"9000{digest[2] % 8 + 1}", "as computed"),)
    return Detection(
        risk_level=level,
        score=digest[1] % 101,
        file_count=1,
        skill_name=digest.hex()[:16],
        primary_rule_id=hits[0].rule_id if hits else "",
        hits=hits,
    )


class ContentDetector:
    """Judges by the digest, at once."""

    concurrency = 8

    async def detect(self, content: bytes) -> Detection:
        return judgement(hashlib.sha256(content).digest())

    async def aclose(self) -> None:
        """It owns nothing."""


class Trap:
    """Kills a process group at the n-th moment of a kind: ``received``, ``answered`` or ``polled``."""

    def __init__(self) -> None:
        self.moment = ""
        self._group = self._left = 0

    def arm(self, group: int, moment: str, after: int) -> None:
        self.moment, self._group, self._left = moment, group, after

    def spring(self, moment: str) -> None:
        if moment != self.moment:
            return
        self._left -= 1
        if self._left <= 0:
            self.moment = ""
            with suppress(ProcessLookupError):
                os.killpg(self._group, signal.SIGKILL)


class Notes:
    """A file that survives a kill of its writer: each line is one write."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, line: str) -> None:
        os.write(self._descriptor, f"{time.monotonic():.6f} {line}\n".encode())


class Watch:
    """What the endpoint's parts share while it is watched."""

    def __init__(self, directory: Path) -> None:
        self.trap = Trap()
        self.creates = Notes(directory / "creates.log")
        self.faults = Notes(directory / "faults.log")
        self.going = asyncio.Event()
        self.going.set()
        self.drips = 0
        self.lag_s = 0.0

    async def beat(self) -> None:
        """Note how late this event loop runs at most: an arrival may be noted by so much too late."""
        while True:
            due = time.monotonic() + 0.002
            await asyncio.sleep(0.002)
            self.lag_s = max(self.lag_s, time.monotonic() - due)

    def actions(self) -> type[Actions]:
        watch = self

        class Watched(Actions):
            async def perform(self, action: str, body: bytes, base_url: str) -> dict[str, Any]:
                if action == Action.CREATE:
                    content = base64.b64decode(json.loads(body)["FileBase64"])
                    watch.creates.add(hashlib.sha256(content).hexdigest())
                    watch.trap.spring("received")
                    await watch.going.wait()
                return await super().perform(action, body, base_url)

        return Watched

    def endpoint(self) -> type[server._Endpoint]:
        watch = self

        class Watched(server._Endpoint):
            async def handle(self, request: web.Request) -> web.StreamResponse:
                moment = _ANSWERED.get(request.headers.get("X-TC-Action", ""), "elsewhere")
                response = await super().handle(request)
                if moment == watch.trap.moment and not response.prepared:
                    await response.prepare(request)
                    await response.write_eof()
                    watch.trap.spring(moment)
                elif watch.drips > 0 and moment == "answered" and isinstance(response, web.Response):
                    watch.drips -= 1
                    return await _dripped(request, response)
                return response

        return Watched

    def dice(self) -> type[DrillDice]:
        watch = self

        class Watched(DrillDice):
            def _draw(self, targets: set[Target | None], attempt: int | None = None) -> Iterator[Fault]:
                for fault in islice(super()._draw(targets, attempt), 1):
                    target = next((str(t) for t in targets if t not in (None, Target.ANY)), "*")
                    watch.faults.add(f"{target}:{fault.text or f'{fault.kind}={fault.number:g}'}")
                    yield fault

        return Watched


async def _dripped(request: web.Request, response: web.Response) -> web.StreamResponse:
    """The same answer, a few bytes at a time, over two seconds."""
    body = response.body
    assert isinstance(body, bytes)
    slow = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
    await slow.prepare(request)
    step = len(body) // 20 + 1
    for start in range(0, len(body), step):
        await slow.write(body[start : start + step])
        await asyncio.sleep(0.1)
    return slow


async def obey(engine: Engine, watch: Watch, command: dict[str, Any]) -> object:
    """Carry out one command; returns the answer."""
    match command["do"]:
        case "arm":
            watch.trap.arm(command["group"], command["moment"], command["after"])
        case "hold":
            watch.going.clear()
        case "release":
            watch.going.set()
        case "drip":
            watch.drips = command["count"]
        case "stats":
            stats = await engine.stats()
            return stats | {"arrivals": sorted(engine.arrivals(Action.CREATE)), "lag_s": watch.lag_s}
        case unknown:
            raise ValueError(unknown)
    return {}


async def main(directory: Path, port: int, site: str, skew_s: float, drill: str | None) -> None:
    watch = Watch(directory)
    settings = EngineSettings(
        secret_id=SECRET_ID,
        secret_key=SECRET_KEY,
        engine_version=ENGINE_VERSION,
        total_quota=2**53,
        store_path=directory / "service.sqlite3",
        port=port,
        site=site,
        drill=None if drill is None else Drill.parse(drill),
        stop_timeout_s=0.2,
    )
    with (
        patch.object(server, "Actions", watch.actions()),
        patch.object(server, "_Endpoint", watch.endpoint()),
        patch.object(server, "DrillDice", watch.dice()),
    ):
        async with serve(settings, ContentDetector(), clock=lambda: time.time() + skew_s) as engine:
            beat = asyncio.create_task(watch.beat())
            print(engine.url, flush=True)
            while line := await asyncio.to_thread(sys.stdin.readline):
                print(json.dumps(await obey(engine, watch, json.loads(line))), flush=True)
            beat.cancel()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is for answers
    place, port, site, skew, *drill = sys.argv[1:]
    asyncio.run(main(Path(place), int(port), site, float(skew), drill[0] if drill else None))
