"""A receiver of notices on loopback: real HTTP, as told what to answer, and checked as the page says."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import jsonschema
from aiohttp import web

from batchscan.notice import notice_schema

SECRET = "TheSecretOfTheReceiver0001"
TOKEN = "T0000-B0000-hunter2hunter2"
NOTICES = jsonschema.Draft202012Validator(notice_schema())


class Inbox:
    """What arrived. Answers with the statuses in turn, then with 204; ``None`` is no answer at all."""

    def __init__(self, statuses: Iterable[int | None]) -> None:
        self.url = ""
        self.requests: list[tuple[web.Request, bytes]] = []
        self.arrived = asyncio.Event()
        self.ended = asyncio.Event()
        self._statuses = list(statuses)

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(body) for _, body in self.requests]

    def notice(self) -> dict[str, Any]:
        """The one notice that arrived, checked."""
        assert len(self.requests) == 1
        notice: dict[str, Any] = self.bodies[0]
        NOTICES.validate(notice)
        return notice

    async def take(self, request: web.Request) -> web.Response:
        self.requests.append((request, await request.read()))
        self.arrived.set()
        status = self._statuses.pop(0) if self._statuses else 204
        if status is None:
            await self.ended.wait()
        return web.Response(status=status or 204, headers={"Location": self.url} if status == 302 else {})


@asynccontextmanager
async def inbox(*statuses: int | None) -> AsyncIterator[Inbox]:
    box = Inbox(statuses)
    app = web.Application()
    app.router.add_route("*", "/{token}", box.take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        box.url = f"http://127.0.0.1:{port}/{TOKEN}"
        yield box
    finally:
        box.ended.set()
        await runner.cleanup()


def verified(request: web.Request, body: bytes, secret: str = SECRET) -> bool:
    """Check a signature as docs/notify.md tells receivers to."""
    signed = request.headers["X-Batchscan-Timestamp"].encode() + b"." + body
    expected = "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, request.headers["X-Batchscan-Signature"])
