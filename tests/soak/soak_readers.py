"""Who listens to the service during a soak: readers of event streams, of four kinds.

What a reader sees that must not be is noted as ``wrong``; what it saw is noted at the end.
"""

import asyncio
import json
import random

import aiohttp
from soak_lab import Notes
from soak_load import API


class Reader:
    """One reader of events of all runs, and what it saw.

    Attributes:
        numbers: ids of ``run.state`` events, in the order in which they came.
        gaps: lasts after which a snapshot stood for what was missed.
    """

    def __init__(self, http: aiohttp.ClientSession, url: str, name: str, notes: Notes) -> None:
        self._http = http
        self._url = url
        self._notes = notes
        self.name = name
        self.numbers: list[int] = []
        self.gaps = 0
        self.comebacks = 0
        self.open = False
        self.last: int | None = None

    async def read(self, *, seconds: float | None = None, pause_s: float = 0.0) -> None:
        """Read until the stream ends, or for so long; a slow reader pauses between two looks."""
        headers = {} if self.last is None else {"Last-Event-ID": str(self.last)}
        back = self.last is not None
        try:
            async with asyncio.timeout(seconds):
                async with self._http.get(
                    f"{self._url}{API}/events", headers=headers, read_bufsize=2048
                ) as reply:
                    if reply.status != 200:
                        self._notes.add(wrong="a stream", status=reply.status, body=await reply.text())
                        return
                    self.open = True
                    await self._take(reply, back=back, pause_s=pause_s)
        except TimeoutError:
            pass
        finally:
            self.open = False

    async def follow(self, run_id: str) -> None:
        """Follow one run: its stream ends with it."""
        async with self._http.get(f"{self._url}{API}/runs/{run_id}/events") as reply:
            if reply.status != 200:
                self._notes.add(wrong="a stream", run_id=run_id, status=reply.status)
                return
            self.open = True
            try:
                state = None
                async for raw in reply.content:
                    if raw.startswith(b"data: "):
                        state = json.loads(raw[6:]).get("state", state)
            finally:
                self.open = False
        self._notes.add(followed=run_id, state=state)

    async def _take(self, reply: aiohttp.ClientResponse, *, back: bool, pause_s: float) -> None:
        number, kind, lines = 0, "", 0
        async for raw in reply.content:
            name, _, value = raw.decode().rstrip("\n").partition(": ")
            if name == "id":
                number = int(value)
            elif name == "event":
                kind = value
            elif name == "data":
                self._saw(number, kind, back=back)
            lines += 1
            if pause_s and lines % 20 == 0:
                await asyncio.sleep(pause_s)

    def _saw(self, number: int, kind: str, *, back: bool) -> None:
        if kind == "snapshot" and back:
            self.gaps += 1
        if kind != "snapshot" and self.last is not None and number <= self.last:
            self._notes.add(wrong="an event came again", reader=self.name, number=number, last=self.last)
        if kind == "run.state":
            self.numbers.append(number)
        self.last = number


class Readers:
    """Fifty readers, of four kinds; each is back at once when its stream has ended."""

    def __init__(self, http: aiohttp.ClientSession, url: str, notes: Notes, seed: int, count: int) -> None:
        self._http = http
        self._url = url
        self._notes = notes
        self._random = random.Random(f"readers {seed}")
        self._stopped = False
        kinds = (["plain"] * 6 + ["slow"] * 2 + ["comes back"] * 1 + ["follows"] * 1) * (count // 10)
        self.readers = [Reader(http, url, f"{kind} {number}", notes) for number, kind in enumerate(kinds)]

    @property
    def open(self) -> int:
        return sum(reader.open for reader in self.readers)

    def stop(self) -> None:
        """Nobody comes back any more."""
        self._stopped = True

    async def run(self) -> None:
        await asyncio.gather(*map(self._live, self.readers))

    def note(self) -> None:
        """Write down what all have seen."""
        for reader in self.readers:
            self._notes.add(
                reader=reader.name, numbers=reader.numbers, gaps=reader.gaps, comebacks=reader.comebacks
            )

    async def _live(self, reader: Reader) -> None:
        kind = reader.name.rpartition(" ")[0]
        while not self._stopped:
            try:
                if kind == "follows":
                    await self._follow(reader)
                elif kind == "comes back":
                    await reader.read(seconds=self._random.uniform(3, 40))
                else:
                    await reader.read(pause_s=self._random.uniform(2, 8) if kind == "slow" else 0.0)
            except aiohttp.ClientError as error:
                if not self._stopped:
                    self._notes.add(wrong="a stream broke", reader=reader.name, error=repr(error))
            reader.comebacks += 1
            if not self._stopped:
                await asyncio.sleep(0.2)

    async def _follow(self, reader: Reader) -> None:
        url = f"{self._url}{API}/runs?limit=5&state=queued&state=running"
        async with self._http.get(url) as reply:
            runs = (await reply.json())["runs"]
        if runs:
            await reader.follow(self._random.choice(runs)["run_id"])
        else:
            await asyncio.sleep(1)
