"""A running engine with a scripted detector, and a caller that signs and shows raw answers."""

import asyncio
import base64
import io
import json
import time
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from batchscan.api.signature import authorization, payload_sha256
from batchscan.embedded.detection import Detection, RuleHit
from batchscan.embedded.server import Engine, EngineSettings, serve

Zipped = Callable[[str], bytes]

SECRET_ID = "AKIDEXAMPLE0000000000000000000000000"
SECRET_KEY = "FakeSecretKeyForLoopbackTests000"

FOUND = Detection(
    risk_level="malicious",
    score=7,
    file_count=3,
    skill_name="demo",
    skill_description="A demo skill.",
    primary_rule_id="90002",
    hits=(RuleHit("90002", "runs a shell command"), RuleHit("90004", "reads a key file")),
    capabilities=(("file_read", "Reads files"),),
    description="It runs commands.",
    mitigation="Do not install it.",
)


class StubDetector:
    """Judges as told: ``verdict`` is returned, or raised when it is an exception; ``gate`` holds it up."""

    def __init__(self) -> None:
        self.verdict: Detection | BaseException = FOUND
        self.gate = asyncio.Event()
        self.gate.set()
        self.seen: list[bytes] = []
        self.running = 0
        self.most_running = 0
        self.concurrency = 2

    async def detect(self, content: bytes) -> Detection:
        self.seen.append(content)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        if isinstance(self.verdict, BaseException):
            raise self.verdict
        return self.verdict

    async def aclose(self) -> None:
        """It owns nothing."""


class Reply:
    """One HTTP answer."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def response(self) -> dict[str, Any]:
        response: dict[str, Any] = json.loads(self.body)["Response"]
        return response

    @property
    def code(self) -> str | None:
        error = self.response.get("Error")
        return str(error["Code"]) if error else None


class Caller:
    """Signs as documented; every part can be replaced to be wrong on purpose."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self.url = url

    async def call(
        self,
        action: str,
        fields: Any = None,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timestamp: float | None = None,
        secret_id: str = SECRET_ID,
        secret_key: str = SECRET_KEY,
    ) -> Reply:
        body = json.dumps({} if fields is None else fields).encode() if body is None else body
        stamp = int(time.time() if timestamp is None else timestamp)
        signed = authorization(
            secret_id=secret_id,
            secret_key=secret_key,
            host=self.url.removeprefix("http://"),
            content_type="application/json",
            timestamp=stamp,
            payload_hash=payload_sha256(body),
        )
        sent = {
            "Content-Type": "application/json",
            "X-TC-Action": action,
            "X-TC-Version": "2022-11-21",
            "X-TC-Timestamp": str(stamp),
            "Authorization": signed,
        } | (headers or {})
        return await self.raw(
            "POST", "/", data=io.BytesIO(body), headers={k: v for k, v in sent.items() if v}
        )

    async def raw(self, method: str, path: str, **options: Any) -> Reply:
        async with self._session.request(method, self.url + path, **options) as response:
            return Reply(response.status, response.headers, await response.read())

    async def create(self, content: bytes, **options: Any) -> Reply:
        return await self.call(
            "CreateSkillScan", {"FileBase64": base64.b64encode(content).decode()}, **options
        )

    async def result(self, created: Reply, **options: Any) -> Reply:
        fields = {key: created.response[key] for key in ("ContentHash", "EngineVersion")}
        return await self.call("DescribeSkillScanResult", fields, **options)

    async def settled(self, created: Reply, **options: Any) -> Reply:
        """The result once it is no longer SCANNING; the test's time-out bounds the wait."""
        while True:
            reply = await self.result(created, **options)
            if reply.response["Status"] != "SCANNING":
                return reply
            await asyncio.sleep(0.005)


class Lab:
    """Starts engines on one store path with one detector."""

    def __init__(self, directory: Path) -> None:
        self.store_path = directory / "engine" / "store.sqlite3"
        self.detector = StubDetector()

    def settings(self, **changes: Any) -> EngineSettings:
        fields: dict[str, Any] = {
            "secret_id": SECRET_ID,
            "secret_key": SECRET_KEY,
            "engine_version": 20260501,
            "total_quota": 1000,
            "store_path": self.store_path,
        }
        return EngineSettings(**(fields | changes))

    def caller(self, session: aiohttp.ClientSession, url: str) -> Caller:
        return Caller(session, url)

    @asynccontextmanager
    async def engine(
        self, clock: Callable[[], float] = time.time, **changes: Any
    ) -> AsyncIterator[tuple[Engine, Caller]]:
        timeout = aiohttp.ClientTimeout(total=30)
        async with (
            serve(self.settings(**changes), self.detector, clock=clock) as engine,
            aiohttp.ClientSession(timeout=timeout) as session,
        ):
            yield engine, Caller(session, engine.url)


def make_zip(text: str = "hello") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(
            zipfile.ZipInfo("SKILL.md", (2000, 1, 1, 0, 0, 0)), f"---\nname: demo\n---\n{text}\n"
        )
    return buffer.getvalue()


async def eventually(check: Callable[[], bool]) -> None:
    """Look again until it holds; the test's time-out bounds the wait."""
    while not check():  # noqa: ASYNC110 - what is waited for happens in the engine, behind a socket
        await asyncio.sleep(0.005)


async def judged(engine: Engine, count: int) -> None:
    """Wait until so many scans have succeeded."""
    while True:
        stats = await engine.stats()
        if stats["scans"].get("SUCCESS", 0) >= count:
            return
        await asyncio.sleep(0.005)
