"""Events: in order, kept for who comes back, and not kept up by who is slow."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession, StreamReader, web
from cli_lab import until
from service_lab import API, ServiceLab

from batchscan.service import events, events_api
from batchscan.service.app import make_app
from batchscan.service.events import KEPT, PROGRESS, QUEUED, STATE, Event, EventBroker, Subscription
from batchscan.service.keys import BROKER
from batchscan.service.keys import STATE as SERVICE_STATE
from batchscan.service_config import ServiceConfig
from batchscan.settings import settle


async def rest(subscription: Subscription) -> list[Event]:
    subscription.end()
    return [event async for event in subscription]


async def test_each_hears_what_is_meant_for_it_in_order() -> None:
    broker = EventBroker()
    with broker.subscribe() as all_of_them, broker.subscribe("b") as one:
        for number in range(10):
            broker.publish(STATE, "ab"[number % 2], {"number": number})
        assert [event.data["number"] for event in await rest(all_of_them)] == list(range(10))
        assert [event.data["number"] for event in await rest(one)] == [1, 3, 5, 7, 9]
    assert broker.listening == 0


async def test_who_comes_back_hears_the_rest_or_that_it_is_not_known() -> None:
    broker = EventBroker()
    before = broker.number
    sent = [broker.publish(STATE, "a", {"number": number}) for number in range(KEPT + 5)]
    for after, missed, heard in (
        (sent[-1].number, False, 0),
        (sent[-4].number, False, 3),
        (sent[4].number, False, KEPT),
        (sent[3].number, True, 0),
        (before, True, 0),
        (0, True, 0),
        (sent[-1].number + 1, True, 0),
    ):
        with broker.subscribe(after=after) as subscription:
            assert (subscription.missed, subscription.waiting) == (missed, min(heard, QUEUED)), after


async def test_numbers_go_up_over_a_restart() -> None:
    first = EventBroker()
    last = first.publish(STATE, None, {}).number
    await asyncio.sleep(0.002)  # a start takes longer
    second = EventBroker()
    assert second.number >= last
    with second.subscribe(after=last - 1) as subscription:
        assert subscription.missed


async def test_a_slow_listener_loses_progress_first_and_then_all() -> None:
    broker = EventBroker()
    with broker.subscribe() as slow:
        for number in range(QUEUED * 2):
            broker.publish(PROGRESS, "a", {"number": number})
        assert (slow.waiting, slow.cut_off) == (QUEUED, False)
        kept = [broker.publish(STATE, "a", {}) for _ in range(QUEUED)]
        assert (slow.waiting, slow.cut_off) == (QUEUED, False)
        broker.publish(STATE, "a", {})
        assert slow.cut_off
        assert [event async for event in slow] == kept
        broker.publish(STATE, "a", {})
        assert slow.waiting == 0


async def test_all_hear_the_last_word_before_the_end() -> None:
    broker = EventBroker()
    with broker.subscribe() as listening:
        last = broker.publish(STATE, "a", {})
        broker.close()
        assert [event async for event in listening] == [last]
    with broker.subscribe() as late:
        assert [event async for event in late] == []


@asynccontextmanager
async def served(lab: ServiceLab) -> AsyncIterator[tuple[web.Application, int]]:
    """The application in this process, to look inside."""
    settled = settle({"state_dir": str(lab.state), "config": str(lab.settings(None))})
    app = make_app({}, settled, ServiceConfig(request_rate=1000.0))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield app, runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def test_a_reader_that_takes_nothing_is_cut_off_and_holds_up_nobody(
    lab: ServiceLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_api, "_WRITE_S", 0.2)
    monkeypatch.setattr(events, "QUEUED", 10_000)
    async with served(lab) as (app, port), ClientSession() as http:
        broker, state = app[BROKER], app[SERVICE_STATE]
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(slow, ("127.0.0.1", port))
            await loop.sock_sendall(slow, f"GET {API}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            async with http.get(f"http://127.0.0.1:{port}{API}/events") as reply:
                await until(lambda: state.streams == 2)
                heard = asyncio.create_task(_until_last(reply.content))
                for number in range(200):
                    broker.publish(STATE, "a", {"number": number, "text": "x" * 50_000})
                broker.publish(STATE, "a", {"text": "the last one"})
                await heard
                await until(lambda: state.streams == 1)
                assert broker.listening == 1


async def _until_last(content: StreamReader) -> None:
    async for line in content:
        if b"the last one" in line:
            return
    raise AssertionError("the stream ended")
