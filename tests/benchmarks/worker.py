"""One way to submit the ZIPs of a directory, as a process that counts its own CPU around the work.

Usage: worker.py WAY URL DIRECTORY [COUNT]; prints JSON: ``count``, ``cpu_s``, ``wall_s`` of the submissions,
without start-up and without the first two, which warm up. File names are the digest and ``.zip``.
"""

import asyncio
import base64
import hashlib
import json
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lab import SECRET_ID, SECRET_KEY

WARM = 2
LIMIT_BYTES = 7_340_032
THREADS = 8
TASKS = 16  # as batchscan's own run has them


class Meter:
    """CPU and wall time of this process from its making on."""

    def __init__(self) -> None:
        self._cpu, self._wall = _cpu_s(), time.monotonic()

    def stop(self, count: int) -> None:
        wall_s, cpu_s = time.monotonic() - self._wall, _cpu_s() - self._cpu
        print(json.dumps({"count": count, "cpu_s": cpu_s, "wall_s": wall_s}))


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def floor(url: str, files: Sequence[Path]) -> None:
    """Read, two SHA-256 passes (content and body), base64, one write to the socket, one answer read."""
    import pybase64

    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def submit(file: Path) -> None:
            content = file.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            body = b"".join(
                (
                    b'{"FileBase64": "',
                    pybase64.b64encode(content),
                    f'", "FileName": "{digest}.zip"}}'.encode(),
                )
            )
            payload = hashlib.sha256(body).hexdigest()
            fields = f"Host: {host}\r\nX-Payload: {payload}\r\nContent-Length: {len(body)}"
            connection.sendall(f"POST / HTTP/1.1\r\n{fields}\r\n\r\n".encode())
            connection.sendall(body)
            if digest.encode() not in connection.recv(65536):
                raise SystemExit("the sink did not take it")

        _in_turn(submit, files)


def _in_turn(submit: Callable[[Path], None], files: Sequence[Path]) -> None:
    for file in files[:WARM]:
        submit(file)
    meter = Meter()
    for file in files[WARM:]:
        submit(file)
    meter.stop(len(files) - WARM)


async def exchange(url: str, files: Sequence[Path]) -> None:
    """aiohttp alone: bodies that are there already, nothing signed, nothing checked but the status."""
    import aiohttp
    import pybase64

    bodies = {
        file: b'{"FileBase64": "%b", "FileName": "%b"}'
        % (pybase64.b64encode(file.read_bytes()), file.name.encode())
        for file in files
    }
    async with aiohttp.ClientSession() as session:

        async def submit(file: Path) -> None:
            async with session.post(url, data=bodies[file]) as reply:
                await reply.read()
                reply.raise_for_status()

        await _at_once(submit, files, TASKS)


async def ours(url: str, files: Sequence[Path], *, limited: bool = False) -> None:
    """Batchscan's client alone: read, compare the digest, build, sign, send, check the answer.

    ``limited``: behind aiolimiter as its documentation shows it, which is what our pacer replaces.
    """
    from aiolimiter import AsyncLimiter

    from batchscan.api.client import endpoint, open_client
    from batchscan.api.credentials import Credentials, Secret, StaticCredentials
    from batchscan.api.protocol import Request, create_request
    from batchscan.content import read_bytes

    def load(file: Path, digest: bytes) -> Request:
        read = read_bytes(bytes(file), LIMIT_BYTES)
        if not isinstance(read, tuple) or hashlib.sha256(read[1]).digest() != digest:
            raise SystemExit(f"{file} is not what its name says")
        return create_request(read[1], file.name)

    limiter = AsyncLimiter(20, 1) if limited else None
    key = StaticCredentials(Credentials(SECRET_ID, Secret(SECRET_KEY), None, "benchmark"))
    async with open_client(endpoint(url), key) as client:

        async def submit(file: Path) -> None:
            digest = bytes.fromhex(file.stem)
            request = await asyncio.to_thread(load, file, digest)
            if limiter is not None:
                await limiter.acquire()
            await client.create(request, digest)

        await _at_once(submit, files, THREADS if limited else TASKS)


def ours_unsigned(url: str, files: Sequence[Path]) -> None:
    """The same without the hash over the body, as ``UNSIGNED-PAYLOAD`` allows; the program never does so."""
    from batchscan.api import signature

    told = signature.payload_sha256(signature.UNSIGNED_PAYLOAD.encode())
    signature.payload_sha256 = lambda body: told  # noqa: ARG005 - called as the one it replaces
    asyncio.run(ours(url, files))


def ours_uvloop(url: str, files: Sequence[Path]) -> None:
    """The same on uvloop's event loop."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ours(url, files))


async def _at_once(submit: Callable[[Path], Any], files: Sequence[Path], tasks: int) -> None:
    for file in files[:WARM]:
        await submit(file)
    meter = Meter()
    left = iter(files[WARM:])

    async def work() -> None:
        for file in left:
            await submit(file)

    async with asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(work())
    meter.stop(len(files) - WARM)


def _sdk_client(url: str, module: Any) -> Any:
    from tencentcloud.common.credential import Credential  # type: ignore[import-untyped]  # ships no types
    from tencentcloud.common.profile.client_profile import ClientProfile  # type: ignore[import-untyped]  # ships no types
    from tencentcloud.common.profile.http_profile import HttpProfile  # type: ignore[import-untyped]  # ships no types

    http = HttpProfile(
        protocol="http", endpoint=url.removeprefix("http://"), keepAlive=True
    )  # at its best: its default is a connection per call
    return module.CsipClient(Credential(SECRET_ID, SECRET_KEY), "", ClientProfile(httpProfile=http))


def _sdk_request(file: Path) -> Any:
    from tencentcloud.csip.v20221121 import models  # type: ignore[import-untyped]  # ships no types

    request = models.CreateSkillScanRequest()
    request.FileBase64 = base64.b64encode(file.read_bytes()).decode()
    request.FileName = file.name
    return request


def sdk(url: str, files: Sequence[Path], *, threads: int, poll: bool = False) -> None:
    """The official SDK, in threads with a client each; ``poll``: until there is a verdict."""
    from tencentcloud.csip.v20221121 import csip_client, models

    own = threading.local()

    def submit(file: Path) -> None:
        if not hasattr(own, "client"):
            own.client = _sdk_client(url, csip_client)
        made = own.client.CreateSkillScan(_sdk_request(file))
        if not made.ContentHash:
            raise SystemExit("the SDK has missed an error")
        if not poll:
            return
        ask = models.DescribeSkillScanResultRequest()
        ask.ContentHash, ask.EngineVersion = made.ContentHash, made.EngineVersion
        while own.client.DescribeSkillScanResult(ask).Status != "SUCCESS":
            time.sleep(0.05)

    if threads == 1:
        _in_turn(submit, files)
        return
    with ThreadPoolExecutor(threads) as pool:
        _drain(pool.map(submit, files[:WARM]))
        meter = Meter()
        _drain(pool.map(submit, files[WARM:]))
        meter.stop(len(files) - WARM)


def _drain(results: Iterable[None]) -> None:
    for _ in results:
        pass


async def sdk_async(url: str, files: Sequence[Path]) -> None:
    """The official SDK's asynchronous client."""
    from tencentcloud.csip.v20221121 import csip_client_async

    client = _sdk_client(url, csip_client_async)
    try:

        async def submit(file: Path) -> None:
            made = await client.CreateSkillScan(_sdk_request(file))
            if not made.ContentHash:
                raise SystemExit("the SDK has missed an error")

        await _at_once(submit, files, TASKS)
    finally:
        await client.close()


def main(way: str, url: str, directory: Path, count: int | None = None) -> None:
    files = sorted(directory.rglob("*.zip"))[:count]
    ways: dict[str, Callable[[], None]] = {
        "floor": lambda: floor(url, files),
        "exchange": lambda: asyncio.run(exchange(url, files)),
        "ours": lambda: asyncio.run(ours(url, files)),
        "ours-unsigned": lambda: ours_unsigned(url, files),
        "ours-uvloop": lambda: ours_uvloop(url, files),
        "limited": lambda: asyncio.run(ours(url, files, limited=True)),
        "sdk": lambda: sdk(url, files, threads=1),
        "sdk-threads": lambda: sdk(url, files, threads=THREADS),
        "sdk-poll": lambda: sdk(url, files, threads=THREADS, poll=True),
        "sdk-async": lambda: asyncio.run(sdk_async(url, files)),
    }
    ways[way]()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else None)
