"""Who asks the service during a soak: a client of the API, and a scraper of metrics and probes.

What is told here that must not be is noted as ``wrong``; the checks read it.
"""

import asyncio
import json
import random
import time
from typing import Any, Final

import aiohttp
from soak_lab import TREES, Notes, Trees

FORMATS: Final = ("jsonl", "csv", "html", "sarif", "junit", "markdown", "defectdojo", "ocsf", "parquet")
API: Final = "/api/v1"


class Client:
    """Asks for runs and for all that can be asked about them, one thing after the other."""

    def __init__(self, http: aiohttp.ClientSession, url: str, trees: Trees, notes: Notes, seed: int) -> None:
        self._http = http
        self._url = url
        self._trees = trees
        self._notes = notes
        self._random = random.Random(f"client {seed}")
        self._orders = 0
        self._reports = 0

    async def act(self) -> None:
        """Do one thing."""
        todo = [
            (4, self.order),
            (1, self.order_and_cancel),
            (1, self.rescan),
            (3, self.pages),
            (5, self.report),
            (4, self.files),
            (2, self.look),
            (2, self.mistakes),
        ]
        weights, acts = zip(*todo, strict=True)
        await self._random.choices(acts, weights)[0]()

    async def order(self) -> None:
        """Ask for a scan with a key, at times twice: the second time it is the same run."""
        tree = self._random.choice(TREES)
        part = self._random.choice(["", f"/{self._random.randrange(5)}", "/new"])
        path = self._trees.root / (tree + part)
        if self._random.random() < 0.5:
            for number in range(2):
                self._trees.put(f"asked/order-{self._orders:05}-{number}.zip", self._trees.new())
            path = self._trees.root / "asked"
        if path.exists():
            await self._ask({"sources": [str(path)], "priority": self._random.choice([10, 50, 90])})

    async def order_many(self) -> None:
        """Ask for more new skills than are judged in a moment."""
        for number in range(40):
            self._trees.put(f"last/skill-{number:04}.zip", self._trees.new())
        await self._ask({"sources": [str(self._trees.root / "last")]})

    async def order_and_cancel(self) -> None:
        run = await self._ask({"sources": [str(self._trees.root)], "priority": 20})
        await asyncio.sleep(self._random.uniform(0, 1.5))
        await self._expect({202, 409}, "POST", f"/runs/{run['run_id']}/cancel")

    async def rescan(self) -> None:
        await self._ask({"rescan": {"which": "verdict", "value": "malicious", "sample": 2}})

    async def pages(self) -> None:
        """Go through runs, newest first: none comes twice."""
        seen: list[str] = []
        cursor = ""
        for _ in range(5):
            page = json.loads(await self._expect({200}, "GET", f"/runs?limit=7{cursor}"))
            seen += [run["run_id"] for run in page["runs"]]
            if page["next"] is None:
                break
            cursor = f"&before={page['next']}"
        if len(set(seen)) != len(seen):
            self._notes.add(wrong="a run is on two pages", runs=seen)

    async def report(self) -> None:
        """Each format in its turn."""
        page = json.loads(await self._expect({200}, "GET", "/runs?limit=20&state=complete"))
        if page["runs"]:
            run_id = self._random.choice(page["runs"])["run_id"]
            kind = FORMATS[self._reports % len(FORMATS)]
            self._reports += 1
            body = await self._expect({200}, "GET", f"/runs/{run_id}/report?format={kind}")
            self._notes.add(report=kind, size=len(body))

    async def files(self) -> None:
        digest = self._random.choice(self._trees.made)
        await self._expect({200, 404}, "GET", f"/files/{digest}")
        await self._expect({200, 404}, "GET", "/files?path=skill-0001.zip")

    async def look(self) -> None:
        """What a browser and a script look at."""
        for path in ("/quota", "/schedules", "/openapi.json", "/runs?state=running"):
            await self._expect({200}, "GET", path)
        for path in ("/view/", "/view/runs", "/view/schedules"):
            await self._expect({200}, "GET", path, prefix="")

    async def mistakes(self) -> None:
        await self._expect({404}, "GET", "/runs/20200101T000000Z-00000000")
        await self._expect({403}, "POST", "/runs", json={"sources": ["/etc"]})
        await self._expect({422}, "POST", "/runs", json={"sources": []})

    async def until_quiet(self, limit_s: float) -> bool:
        """Wait until no run is open."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            page = json.loads(await self._expect({200}, "GET", "/runs?state=queued&state=running"))
            if not page["runs"]:
                return True
            await asyncio.sleep(0.5)
        return False

    async def _ask(self, body: dict[str, Any]) -> dict[str, Any]:
        self._orders += 1
        key = f"soak-{self._orders}"
        run: dict[str, Any] = json.loads(await self._order(body, key))
        if self._random.random() < 0.3:
            again = json.loads(await self._order(body, key))
            if again["run_id"] != run["run_id"]:
                self._notes.add(wrong="a key stands for two runs", key=key)
        self._notes.add(order=run["run_id"], key=key, body=body)
        return run

    async def _order(self, body: dict[str, Any], key: str) -> bytes:
        return await self._expect({202}, "POST", "/runs", json=body, headers={"Idempotency-Key": key})

    async def _expect(
        self, wanted: set[int], method: str, path: str, *, prefix: str = API, **how: Any
    ) -> bytes:
        began = time.monotonic()
        async with self._http.request(method, f"{self._url}{prefix}{path}", **how) as reply:
            body = await reply.read()
        self._notes.add(
            asked=f"{method} {path.partition('?')[0]}", s=time.monotonic() - began, status=reply.status
        )
        if reply.status not in wanted:
            self._notes.add(
                wrong="an answer", asked=f"{method} {path}", status=reply.status, body=body[:500].decode()
            )
        return body


class Scraper:
    """Reads the metrics and the probes, as Prometheus and an orchestrator do."""

    def __init__(self, http: aiohttp.ClientSession, url: str, notes: Notes) -> None:
        self._http = http
        self._url = url
        self._notes = notes
        self.scrapes = 0

    async def scrape(self) -> str:
        """The metrics, once the probes have said that all is well."""
        for path in ("/healthz", "/readyz", "/metrics"):
            async with self._http.get(self._url + path) as reply:
                text = await reply.text()
            if reply.status != 200:
                self._notes.add(wrong="a probe", asked=path, status=reply.status, body=text[:500])
        self.scrapes += 1
        return text
