"""A service on loopback that records what arrives and answers what the test wrote, byte for byte."""

import asyncio
import json
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

from batchscan.api.client import Endpoint

Action = Callable[["Call"], Awaitable[bytes | None]]
SUCCESS_BODY = {
    "ContentHash": "sha256:" + "ab" * 32,
    "EngineVersion": 20260501,
    "Status": "SCANNING",
    "Message": "File received",
    "RequestId": "rid-ok",
}
DIGEST = b"\xab" * 32


@dataclass(frozen=True)
class Call:
    """One request as it arrived."""

    line: str
    headers: Mapping[str, str]
    names: Sequence[str]
    body: bytes
    writer: asyncio.StreamWriter

    @property
    def fields(self) -> Any:
        return json.loads(self.body)


def http(
    body: bytes | Mapping[str, Any] = b"", status: int = 200, headers: Mapping[str, str] | None = None
) -> bytes:
    """A whole reply; a mapping becomes the ``Response`` of an envelope."""
    raw = body if isinstance(body, bytes) else json.dumps({"Response": body}).encode()
    sent = {"Content-Type": "application/json", "Content-Length": str(len(raw))} | dict(headers or {})
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items() if value)
    return f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode("latin-1") + raw


def refusal(code: str, message: str = "told so", **headers: str) -> bytes:
    """An error the vendor's way: status 200, an envelope with ``Error``."""
    error = {"Error": {"Code": code, "Message": message}, "RequestId": "rid-err"}
    return http(error, headers=headers)


async def reset(call: Call) -> None:
    """Close with RST instead of an answer."""
    call.writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    call.writer.transport.abort()


async def close(call: Call) -> None:
    """Close without an answer."""
    call.writer.close()


@dataclass
class Service:
    """The running service; ``replies`` are given in turn, the last one again and again."""

    url: str = ""
    calls: list[Call] = field(default_factory=list)
    connections: int = 0
    replies: list[bytes | Action] = field(default_factory=list)
    _arrival: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("scripted", self.url, "en-US")

    def script(self, *replies: bytes | Action) -> None:
        self.replies[:] = replies
        self.calls.clear()

    async def arrived(self, count: int) -> None:
        """Wait until ``count`` calls have come in."""
        while len(self.calls) < count:
            self._arrival.clear()
            await self._arrival.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while not writer.is_closing():
                call = await _receive(reader, writer)
                self.calls.append(call)
                self._arrival.set()
                answer = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                raw = answer if isinstance(answer, bytes) else await answer(call)
                if raw is None:
                    return
                writer.write(raw)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


async def _receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Call:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = [line.partition(": ")[::2] for line in head[1:] if line]
    headers = {name.lower(): value for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Call(head[0], headers, [name for name, _ in pairs], body, writer)


@asynccontextmanager
async def running(tls: ssl.SSLContext | None = None) -> AsyncIterator[Service]:
    """A service that answers success until told otherwise."""
    service = Service()
    service.script(http(SUCCESS_BODY))
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(service.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls, limit=2**20)
    port = server.sockets[0].getsockname()[1]
    service.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/"
    async with server:
        yield service
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
