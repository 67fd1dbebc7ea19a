"""The embedded endpoint by itself, and the one inside of a run: what each shows of itself."""

import asyncio

import pytest
from aiohttp import ClientSession
from cli_lab import Lab, until

from batchscan.connect import Standalone, _embedded, run_standalone
from batchscan.settings import settle

STATS = "/-/stats"


async def test_the_counters_of_an_engine_by_itself_can_be_read_on_any_port(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settle({"state_dir": str(lab.state)}).config
    stop, said = asyncio.Event(), list[str]()

    def is_up() -> bool:
        lines = capsys.readouterr().out.splitlines()
        said.extend(line for line in lines if line.startswith("http://"))  # logs go there, too, in a test
        return bool(said)

    running = asyncio.create_task(run_standalone(config, Standalone(port=0, site="embedded"), stop))
    await until(is_up)
    async with ClientSession() as http, http.get(said[0] + STATS) as reply:
        assert reply.status == 200
        assert (await reply.json())["actions"].keys() >= {"CreateSkillScan"}
    stop.set()
    await running


async def test_the_engine_of_a_run_shows_nothing(lab: Lab) -> None:
    config = settle({"state_dir": str(lab.state)}).config
    async with (
        _embedded(config) as (endpoint, _),
        ClientSession() as http,
        http.get(endpoint.url + STATS) as reply,
    ):
        assert reply.status == 404
