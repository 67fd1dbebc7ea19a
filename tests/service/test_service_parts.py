"""Parts of the service in this process: what cannot be seen, or not be made to happen, from outside."""

import asyncio
import socket
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pytest
from aiohttp import ClientError, ClientSession, web
from cli_lab import SECRET_ID, SECRET_KEY, until
from service_lab import API, ServiceLab
from structlog.testing import capture_logs

from batchscan.config import Config
from batchscan.errors import LedgerError, ReportError, UsageError
from batchscan.formats.registry import FORMATS
from batchscan.ledger.queue import KeyReusedError, Queue, QueueState, Work
from batchscan.ledger.runs import RunRecord, RunRequest
from batchscan.ledger.store import open_ledger
from batchscan.models import Problem, RunState
from batchscan.service import decisions_api, reports_api, stream
from batchscan.service.app import make_app
from batchscan.service.guard import frame
from batchscan.service.problems import problem_response
from batchscan.service.stream import Downloads, Write
from batchscan.service.tokens import TokenFile
from batchscan.service.workers import Workers
from batchscan.service_config import ServiceConfig
from batchscan.settings import settle

WORK = Work(request=RunRequest(sources=("/srv/\udcff",), directory="/", endpoint="embedded"), budget=7)


@asynccontextmanager
async def listening(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def sending(write: Write, downloads: Downloads | None = None) -> web.Application:
    """An application whose one answer is what is written; the guard around it is the service's."""
    sender = downloads or Downloads()

    async def handler(request: web.Request) -> web.StreamResponse:
        return await sender.send(request, write, content_type="text/plain", headers={})

    app = web.Application(middlewares=[frame(problem_response)])
    app.router.add_get("/", handler)
    return app


async def test_one_address_may_not_ask_too_often(lab: ServiceLab) -> None:
    settled = settle({"state_dir": str(lab.state), "config": str(lab.settings(None))})
    app = make_app({}, settled, ServiceConfig(request_rate=1.0))
    async with listening(app) as url, ClientSession() as http:
        codes = []
        for _ in range(15):
            async with http.get(f"{url}{API}/runs") as reply:
                codes.append(reply.status)
                if reply.status == 429:
                    assert reply.headers["Retry-After"] == "1"
        assert codes[:10] == [200] * 10
        assert codes[-1] == 429
        async with http.get(f"{url}/healthz") as reply:
            assert reply.status == 200


async def test_a_rescan_that_matches_nothing_is_no_error_of_the_service(
    lab: ServiceLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", SECRET_ID)
    monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY", SECRET_KEY)
    order = {"rescan": {"which": "verdict", "value": "malicious"}}
    async with lab.service() as endpoint:
        settled = settle({"config": str(lab.settings(endpoint))})
        with capture_logs() as logged:
            async with (
                listening(make_app({}, settled, ServiceConfig(**settled.service))) as url,
                ClientSession() as http,
            ):
                async with http.post(f"{url}{API}/runs", json=order) as reply:
                    run_id = (await reply.json())["run_id"]
                async with http.get(f"{url}{API}/runs/{run_id}/events") as events:
                    await events.read()
                async with http.get(f"{url}{API}/runs/{run_id}") as reply:
                    run = await reply.json()
    assert (run["state"], run["problem"]["code"]) == ("failed", "nothing-matched")
    (ended,) = [line for line in logged if "nothing to" in str(line.get("reason"))]
    assert ended["log_level"] == "warning"
    assert not [line for line in logged if line["log_level"] in ("error", "critical")]


@pytest.mark.parametrize(
    ("drill", "status", "asked"), [("PayInfo:http-503*2", 200, 3), ("PayInfo:InternalError", 502, 3)]
)
async def test_the_quota_outlives_a_fault_of_the_endpoint_within_bounds(
    lab: ServiceLab, monkeypatch: pytest.MonkeyPatch, drill: str, status: int, asked: int
) -> None:
    monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", SECRET_ID)
    monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY", SECRET_KEY)
    async with lab.service(drill=drill) as endpoint:
        settled = settle({"config": str(lab.settings(endpoint))})
        app = make_app({}, settled, ServiceConfig())
        async with (
            listening(app) as url,
            ClientSession() as http,
            http.get(f"{url}{API}/quota") as reply,
        ):
            assert reply.status == status, await reply.text()
        assert endpoint.arrivals == asked


async def test_a_stream_waits_for_its_reader_and_ends_with_it() -> None:
    written: list[int] = []
    ended = threading.Event()

    def endless(file: BinaryIO) -> None:
        try:
            while True:
                file.write(b"x" * 1_000_000)
                written.append(1)
        finally:
            ended.set()

    async with listening(sending(endless)) as url, ClientSession() as http:
        async with http.get(url) as reply:
            await reply.content.read(1)
            while True:  # until nothing moves any more: all buffers are full
                before = len(written)
                await asyncio.sleep(0.3)
                if len(written) == before:
                    break
            assert len(written) < 60, "it is written into memory"
        await until(ended.is_set)


@pytest.mark.parametrize("after", [0, 1, 5_000_000])
async def test_a_stream_that_fails_is_not_taken_for_a_whole_one(after: int) -> None:
    def failing(file: BinaryIO) -> None:
        file.write(b"x" * after)
        if after > 1:
            file.flush()
        raise ReportError("the disk failed")

    async with listening(sending(failing)) as url, ClientSession() as http, http.get(url) as reply:
        if after <= 1:
            assert (reply.status, (await reply.json())["detail"]) == (502, "the disk failed")
        else:
            with pytest.raises(ClientError):
                await reply.read()


@pytest.mark.parametrize(
    ("leaves", "reason"), [(True, "the reader has gone"), (False, "nothing was read for 0 s")]
)
async def test_an_answer_that_is_not_read_to_its_end_is_no_defect(
    monkeypatch: pytest.MonkeyPatch, leaves: bool, reason: str
) -> None:
    if not leaves:
        monkeypatch.setattr(stream, "_LOOK_S", 0.05)
        monkeypatch.setattr(stream, "_WRITE_S", 0.2)
    ended = threading.Event()

    def endless(file: BinaryIO) -> None:
        try:
            while True:
                file.write(b"x" * 1_000_000)
        finally:
            ended.set()

    with capture_logs() as logged:
        async with listening(sending(endless)) as url, ClientSession() as http:
            reply = await http.get(url)
            if leaves:
                reply.close()
            await until(lambda: any(line["event"] == "request" for line in logged))
            await until(ended.is_set)
            if not leaves:
                with pytest.raises(ClientError):
                    await reply.read()
    assert [line["reason"] for line in logged if "not read to its end" in line["event"]] == [reason]
    assert {line["log_level"] for line in logged} == {"info"}
    assert [line["status"] for line in logged if line["event"] == "request"] == [200]


@pytest.mark.parametrize("stops", [False, True])
async def test_an_answer_without_a_length_that_is_cut_off_does_not_look_whole(stops: bool) -> None:
    """As proxies ask: to HTTP/1.0 the end of the connection is the end of the answer."""
    go_on = threading.Event()

    def failing(file: BinaryIO) -> None:
        file.write(b"x" * 5_000_000)
        go_on.wait()
        raise ReportError("the disk failed")

    loop = asyncio.get_running_loop()

    async def to_the_end(reader: socket.socket) -> None:
        while await loop.sock_recv(reader, 1 << 20):
            pass

    try:
        with socket.socket() as reader:
            reader.setblocking(False)
            async with listening(sending(failing)) as url:
                host, _, port = url.removeprefix("http://").partition(":")
                await loop.sock_connect(reader, (host, int(port)))
                await loop.sock_sendall(reader, b"GET / HTTP/1.0\r\n\r\n")
                assert (await loop.sock_recv(reader, 100)).startswith(b"HTTP/1.0 200 OK")
                if not stops:
                    go_on.set()
                    with pytest.raises(ConnectionResetError):
                        await to_the_end(reader)
            if stops:
                with pytest.raises(ConnectionResetError):
                    await to_the_end(reader)
    finally:
        go_on.set()


async def test_a_writer_that_goes_on_without_its_reader_fails_each_time() -> None:
    failed: list[str] = []

    def stubborn(file: BinaryIO) -> None:
        while len(failed) < 10:
            try:
                file.write(b"x" * 1_000_000)
            except BrokenPipeError as error:
                failed.append(str(error))

    async with listening(sending(stubborn)) as url, ClientSession() as http:
        (await http.get(url)).close()
        async with asyncio.timeout(10):
            await until(lambda: len(failed) == 10)


async def test_a_reader_that_is_slow_but_steady_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_LOOK_S", 0.02)
    monkeypatch.setattr(stream, "_WRITE_S", 0.2)
    size = 3 * stream._PIECE

    def whole(file: BinaryIO) -> None:
        file.write(b"~" * size)

    app = sending(whole)

    async def small_buffer(request: web.Request, _: web.StreamResponse) -> None:
        assert request.transport is not None
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)

    app.on_response_prepare.append(small_buffer)
    loop = asyncio.get_running_loop()
    async with listening(app) as url:
        with socket.socket() as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            reader.setblocking(False)
            host, _, port = url.removeprefix("http://").partition(":")
            await loop.sock_connect(reader, (host, int(port)))
            await loop.sock_sendall(reader, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            taken = 0
            while piece := await loop.sock_recv(reader, 4096):
                taken += piece.count(b"~")
                await asyncio.sleep(0.01)
    assert taken == size


async def test_slow_readers_hold_up_nothing_else_and_are_of_a_bounded_number() -> None:
    def endless(file: BinaryIO) -> None:
        while True:
            file.write(b"x" * 1_000_000)

    # what the rest of the service shares: as few threads as there may be, and nobody may keep them
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    async with listening(sending(endless, Downloads(2))) as url, ClientSession() as http:
        first, second = await http.get(url), await http.get(url)
        async with asyncio.timeout(10):
            await asyncio.to_thread(int)
        async with http.get(url) as third:
            assert third.status == 503
            assert third.headers["Retry-After"] == "5"
            assert third.content_type == "application/problem+json"
        first.close()
        while True:  # until the thread has seen that its reader has gone
            async with http.get(url) as fourth:
                if fourth.status == 200:
                    break
            await asyncio.sleep(0.01)
        second.close()


async def test_the_services_end_waits_for_no_report_that_is_being_made() -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def long(file: BinaryIO) -> None:
        threads.append(threading.current_thread())
        file.write(b"x" * 1_000_000)
        begun.set()
        go_on.wait()
        try:
            file.write(b"x" * 1_000_000)
        finally:
            ended.set()

    app = sending(long)
    async with ClientSession() as http:
        async with listening(app) as url:
            before = asyncio.all_tasks()
            reply = await http.get(url)
            await until(begun.is_set)
            under_way = asyncio.all_tasks() - before
        async with asyncio.timeout(10):
            await asyncio.wait(under_way)
        assert not ended.is_set()
        assert threads[0].daemon
        with pytest.raises(ClientError):
            await reply.read()
    go_on.set()
    await until(ended.is_set)


def test_a_file_of_the_services_own_that_fails_is_no_wrong_request(tmp_path: Path) -> None:
    record = RunRecord(
        id=1,
        run_id="r" * 26,
        scope=1,
        state=RunState.COMPLETE,
        started_at=0.0,
        finished_at=1.0,
        request=WORK.request,
        report=tmp_path,  # which can be looked at, but not opened as a file
        counts={},
        summary=None,
    )
    for name in sorted(FORMATS.keys() - {"html"}):  # which asks the ledger first
        with pytest.raises(ReportError, match="cannot be read"):
            reports_api._write(Config(), record, name, BytesIO())
    with pytest.raises(ReportError, match="cannot be read"):
        decisions_api._make(tmp_path, record, BytesIO())
    with pytest.raises(ReportError, match="cannot be written"):
        decisions_api._make(tmp_path / "gone", record, BytesIO())
    assert not list(tmp_path.iterdir())


async def test_a_part_that_ends_is_told_unless_it_may() -> None:
    async def dying() -> None:
        raise LedgerError("gone")

    async def ending() -> None:
        return

    for work, why in ((dying(), "gone"), (ending(), "without an error")):
        workers = Workers()
        workers.start(work, "a part")
        death = await asyncio.wait_for(workers.first_death(), 5)
        assert why in str(death)
        assert death.exit_code == 70
    workers = Workers()
    workers.stopping()
    task = workers.start(asyncio.sleep(60), "another")
    await workers.stop(task)
    assert task.cancelled()


BROKEN = """
from batchscan.service.dispatcher import Dispatcher

async def fill(self, tasks):
    raise RuntimeError("as told by a test")

Dispatcher._fill = fill
from batchscan.cli import main
main()
"""


async def test_a_dead_dispatcher_ends_the_service_loudly(lab: ServiceLab) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", BROKEN, "serve", "--config", str(lab.settings(None))),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=lab.environment({}),
    )
    async with asyncio.timeout(20):
        _, err = await process.communicate()
    assert process.returncode == 70
    assert b"as told by a test" in err
    assert b"'dispatcher'" in err


IMPATIENT = """
from batchscan.service import serve
serve._IDLE_S = 0.2
from batchscan.cli import main
main()
"""


async def test_a_connection_that_says_nothing_is_not_kept(lab: ServiceLab) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", IMPATIENT, "serve", "--config", str(lab.settings(None))),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=lab.environment({}),
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            port = int((await process.stdout.readline()).decode().rpartition(":")[2])
            silent, quiet = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            quiet[1].write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert b"200 OK" in await quiet[0].read()  # to its end, as the other one
            assert await silent[0].read() == b""
            for _, writer in (silent, quiet):
                writer.close()
            process.terminate()
            await process.communicate()
        assert process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def token_file(path: Path, content: bytes, mode: int = 0o600) -> TokenFile:
    path.write_bytes(content)
    path.chmod(mode)
    return TokenFile(path)


def test_a_token_is_right_or_wrong(tmp_path: Path) -> None:
    found = token_file(tmp_path / "token", b"  0123456789abcdef\n")
    assert found.matches("0123456789abcdef")
    for wrong in ("", "0123456789abcde", "0123456789abcdef ", "0123456789ABCDEF", "\udc80" * 16):
        assert not found.matches(wrong)


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (b"", 0o600, "is no token"),
        (b"short\n", 0o600, "is no token"),
        (b"0123456789 abcdef\n", 0o600, "is no token"),
        (b"0123456789abcdef\nsecond line\n", 0o600, "is no token"),
        (b"x" * 5000, 0o600, "is no token"),
        (b"\xff" * 32, 0o600, "is no token"),
        (b"0123456789abcdef", 0o604, "chmod 600"),
        (b"0123456789abcdef", 0o660, "chmod 600"),
    ],
)
def test_what_is_no_token_is_refused_without_being_shown(
    tmp_path: Path, content: bytes, mode: int, why: str
) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        token_file(tmp_path / "token", content, mode)
    assert "0123456789" not in str(caught.value)


async def test_the_queue_keeps_order_keys_and_ends(tmp_path: Path) -> None:
    async with open_ledger(tmp_path / "ledger.sqlite3", "s") as ledger:
        rows = Queue(ledger)

        async def add(name: str, priority: int, key: str | None = None, mark: bytes | None = None) -> bool:
            run, new = await rows.add(
                name, WORK, priority=priority, origin="api", now=1.0, key=key, fingerprint=mark
            )
            assert run.work == WORK
            return new

        assert [await add(*each) for each in (("a", 0), ("b", 9, "k", b"1"), ("c", 9), ("d", -5))] == [
            True
        ] * 4
        assert not await add("e", 9, "k", b"1")
        with pytest.raises(KeyReusedError, match="run b"):
            await add("e", 9, "k", b"2")
        assert [run.run_id for run in await rows.next(10)] == ["b", "c", "a", "d"]
        begun = await rows.begin("b", now=2.0)
        assert begun is not None
        assert begun.began_at == 2.0
        assert await rows.begin("b", now=3.0) is None
        await rows.put_back("b")
        again = await rows.begin("b", now=4.0)
        assert again is not None
        assert again.began_at == 2.0, "it began once"
        await rows.begin("c", now=4.0)
        asked = await rows.cancel("c", now=5.0)
        assert asked is not None
        assert (asked.state, asked.cancelled, asked.ended_at) == (QueueState.RUNNING, True, None)
        waiting = await rows.cancel("d", now=5.0)
        assert waiting is not None
        assert (waiting.state, waiting.ended_at) == (QueueState.CANCELLED, 5.0)
        assert await rows.cancel("d", now=6.0) is None
        # a kill: what ran goes on, and what was to end, ends
        back = await rows.take_back(now=7.0)
        assert [(run.run_id, run.state) for run in back] == [
            ("b", QueueState.QUEUED),
            ("c", QueueState.CANCELLED),
        ]
        ended = await rows.end("b", QueueState.FAILED, now=8.0, problem=Problem("odd", "as told"))
        assert ended is not None
        assert ended.problem == Problem("odd", "as told")
        assert await rows.end("b", QueueState.COMPLETE, now=9.0) is None
        names = [listed.run_id for listed in await rows.page(before=None, limit=10)]
        assert names == ["d", "c", "b", "a"]
        assert [each.run_id for each in await rows.page(before="c", limit=1)] == ["b"]
        assert [each.run_id for each in await rows.page(before=None, limit=9, states=["failed"])] == ["b"]
