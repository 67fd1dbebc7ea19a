"""The real service in a subprocess, asked over real HTTP; its endpoint is real, and in the test's process.

Each service is watched: it ends in time, prints no traceback and no secret.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from cli_lab import SECRET_KEY, TOKEN, Lab, Service

API = "/api/v1"
STOP_S = 10.0
ENDS = {"complete", "incomplete", "cancelled", "failed"}
JSON = {"Content-Type": "application/json"}


def toml(values: Mapping[str, Any]) -> str:
    """Keys of a table; what JSON writes of texts, numbers and lists is TOML."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


@dataclass
class Reply:
    """What came back, read whole."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    def problem(self, status: int, code: str) -> dict[str, Any]:
        """The problem document, which is to be this one."""
        assert self.status == status, self.text
        assert self.headers["Content-Type"].startswith("application/problem+json")
        document: dict[str, Any] = self.json
        assert document["status"] == status
        assert document["type"] == f"urn:batchscan:problem:{code}", document
        assert document["request_id"] == self.headers["X-Request-ID"]
        return document


@dataclass
class Event:
    """One event of a stream."""

    id: str
    kind: str
    data: dict[str, Any]


@dataclass
class Serving:
    """A service that runs.

    Attributes:
        headers: sent with every request.
    """

    url: str
    process: asyncio.subprocess.Process
    http: aiohttp.ClientSession
    errors: asyncio.Task[bytes]
    headers: dict[str, str] = field(default_factory=dict)

    async def ask(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **how: Any
    ) -> Reply:
        sent = {**self.headers, **(headers or {})}
        async with self.http.request(method, self.url + path, headers=sent, **how) as reply:
            return Reply(reply.status, reply.headers, (await reply.read()).decode())

    async def get(self, path: str, **how: Any) -> Reply:
        return await self.ask("GET", API + path, **how)

    async def post(self, path: str, body: Any = None, **how: Any) -> Reply:
        return (
            await self.ask("POST", API + path, json=body, **how)
            if body is not None
            else await self.ask("POST", API + path, **how)
        )

    async def order(self, body: Mapping[str, Any], **how: Any) -> dict[str, Any]:
        """Ask for a run that is to be accepted."""
        reply = await self.post("/runs", body, **how)
        assert reply.status == 202, reply.text
        run: dict[str, Any] = reply.json
        return run

    async def run(self, run_id: str) -> dict[str, Any]:
        reply = await self.get(f"/runs/{run_id}")
        assert reply.status == 200, reply.text
        run: dict[str, Any] = reply.json
        return run

    async def ended(self, run_id: str) -> dict[str, Any]:
        """The run, once it has ended."""
        async for _ in self.events(f"/runs/{run_id}/events"):
            pass
        run = await self.run(run_id)
        assert run["state"] in ENDS
        return run

    async def events(self, path: str, last: str | None = None) -> AsyncGenerator[Event, None]:
        """What a stream tells, until it ends."""
        headers = {**self.headers, **({} if last is None else {"Last-Event-ID": last})}
        async with self.http.get(self.url + API + path, headers=headers) as reply:
            assert reply.status == 200, await reply.text()
            fields: dict[str, str] = {}
            async for raw in reply.content:
                line = raw.decode().rstrip("\n")
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "data" in fields:
                    yield Event(fields["id"], fields["event"], json.loads(fields["data"]))
                    fields = {}

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def stopped(self, limit_s: float = STOP_S) -> str:
        """Wait for its end; return what it wrote on stderr, which holds no secret."""
        async with asyncio.timeout(limit_s):
            await self.process.wait()
        errors = (await self.errors).decode()
        assert "Traceback" not in errors, errors
        for secret in (SECRET_KEY, TOKEN):
            assert secret not in errors
        return errors

    async def kill(self) -> None:
        """As the kernel does when memory is short."""
        self.process.kill()
        await self.process.wait()


class ServiceLab(Lab):
    """Directories, endpoints and services of one test."""

    def settings(self, service: Service | None, keys: Mapping[str, Any] | None = None, **top: Any) -> Path:
        """A settings file: of the service at an endpoint, with these keys of [service]."""
        self.inputs.mkdir(exist_ok=True)
        endpoint = {} if service is None else {"endpoint": service.url}
        fast = {"first_poll": "50ms", "poll_interval": "100ms", "rate": 0, "log_level": "info"}
        table = {"port": 0, "roots": [str(self.inputs)], "request_rate": 1000.0, **(keys or {})}
        path = self.path / "batchscan.toml"
        values = {"state_dir": str(self.state), **endpoint, **fast, **top}
        path.write_text(f"{toml(values)}\n[service]\n{toml(table)}")
        return path

    @asynccontextmanager
    async def serving(self, settings: Path, *args: str, token: str | None = None) -> AsyncIterator[Serving]:
        """A service that lives as long as the block, and ends well if it has not ended in it."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "batchscan", "serve", "--config", str(settings), *args),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment({}),
            cwd=self.path,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        errors = asyncio.create_task(process.stderr.read())
        try:
            async with asyncio.timeout(20):
                url = (await process.stdout.readline()).decode().strip()
            assert url, (await errors).decode()
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            timeout = aiohttp.ClientTimeout(total=30)
            async with aiohttp.ClientSession(timeout=timeout) as http:
                serving = Serving(url, process, http, errors, headers)
                yield serving
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                await serving.stopped()
                assert process.returncode == 0
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await errors
            await process.wait()

    def report_of(self, run_id: str) -> Path:
        return self.state / "reports" / f"{run_id}.jsonl"
