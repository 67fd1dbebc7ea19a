"""The client over real sockets: what it sends, how it takes failures, what it learns."""

import asyncio
import gzip
import hashlib
import ssl
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yarl
from scripted_service import DIGEST, SUCCESS_BODY, Call, Service, close, http, refusal, reset, running
from structlog.testing import capture_logs

from batchscan import __version__
from batchscan.api import protocol, signature
from batchscan.api.client import MAX_REPLY, Endpoint, ScanClient, Timeouts, open_client
from batchscan.api.credentials import Credentials, Secret, StaticCredentials
from batchscan.errors import CredentialsError, Reaction, ServiceError, UsageError

DATA = Path(__file__).parent / "data"
SCANNING = http({"Status": "SCANNING", "Data": {}, "RequestId": "r"})
EXPIRED = "AuthFailure.SignatureExpire"
BAD_TOKEN = "AuthFailure.TokenFailure"
REQUEST = protocol.create_request(b"PK\x05\x06" + b"\0" * 18, "demo.zip")


class Renewed:
    """A source whose token changes with each refresh."""

    def __init__(self, *, gone: bool = False) -> None:
        self.refreshes = 0
        self.gone = gone

    async def get(self) -> Credentials:
        return Credentials("AKID", Secret("KEY"), Secret(f"TOKEN{self.refreshes}"), "test")

    async def refresh(self) -> Credentials:
        await asyncio.sleep(0)
        if self.gone:
            raise CredentialsError("the file is gone")
        self.refreshes += 1
        return await self.get()


async def failing(client: ScanClient, *, poll: bool = False) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await (client.result(DIGEST, 7) if poll else client.create(REQUEST, DIGEST))
    return caught.value


async def hang(call: Call) -> bytes:
    await asyncio.Event().wait()
    raise AssertionError(call)


# what is sent


async def test_a_call_is_signed_as_it_is_sent(service: Service, source: StaticCredentials) -> None:
    before = int(time.time())
    async with open_client(service.endpoint, source) as client:
        submission = await client.create(REQUEST, DIGEST)
    (call,) = service.calls
    assert submission == protocol.Submission(DIGEST, 20260501, "rid-ok")
    assert call.line == "POST / HTTP/1.1"
    assert call.body == REQUEST.body
    sent = call.headers
    assert sent["host"] == service.endpoint.host
    assert sent["content-type"] == "application/json"
    assert sent["x-tc-action"] == "CreateSkillScan"
    assert sent["x-tc-version"] == "2022-11-21"
    assert sent["x-tc-language"] == "en-US"
    assert sent["x-tc-token"] == "FakeSessionToken/+=="
    assert sent["x-tc-requestclient"] == f"batchscan-{__version__}"
    assert before <= int(sent["x-tc-timestamp"]) <= time.time()
    assert sent["authorization"] == signature.authorization(
        secret_id="AKIDEXAMPLE0000000000000000000000000",
        secret_key="FakeSecretKeyForLoopbackTests000",
        host=sent["host"],
        content_type=sent["content-type"],
        timestamp=int(sent["x-tc-timestamp"]),
        payload_hash=hashlib.sha256(call.body).hexdigest(),
    )
    assert not {"expect", "transfer-encoding", "cookie", "x-tc-region"} & sent.keys()
    assert all(count == 1 for count in Counter(name.lower() for name in call.names).values())


async def test_no_language_and_no_token_are_not_sent(service: Service) -> None:
    key = StaticCredentials(Credentials("AKID", Secret("KEY"), None, "test"))
    async with open_client(Endpoint("embedded", service.url), key) as client:
        await client.create(REQUEST, DIGEST)
    assert not {"x-tc-language", "x-tc-token"} & service.calls[0].headers.keys()


async def test_actions_are_counted_and_the_connection_is_kept(
    service: Service, source: StaticCredentials
) -> None:
    seen: list[str] = []
    ended: list[tuple[str, str | None, bool]] = []

    def answered(action: str, code: str | None, seconds: float) -> None:
        ended.append((action, code, seconds > 0))

    service.script(http(SUCCESS_BODY), SCANNING, http({"OrderStatus": 1, "RequestId": "r"}))
    async with open_client(service.endpoint, source, on_request=seen.append, on_answer=answered) as client:
        await client.create(REQUEST, DIGEST)
        assert (await client.result(DIGEST, 7)).status is protocol.ScanStatus.SCANNING
        assert (await client.pay_info()).order_status == 1
    assert seen == ["CreateSkillScan", "DescribeSkillScanResult", "DescribeSkillScanPayInfo"]
    assert seen == [call.headers["x-tc-action"] for call in service.calls]
    assert ended == [(action, None, True) for action in seen]
    assert service.calls[1].fields == {"ContentHash": f"sha256:{DIGEST.hex()}", "EngineVersion": 7}
    assert service.connections == 1


async def test_the_largest_body_arrives_whole(service: Service, source: StaticCredentials) -> None:
    content = bytes(range(256)) * 28672  # 7 MiB
    request = await asyncio.to_thread(protocol.create_request, content, "big.zip")
    async with open_client(service.endpoint, source) as client:
        await client.create(request, DIGEST)
    (call,) = service.calls
    assert len(call.body) == 9_786_753  # 9,786,712 of them base64
    assert call.body == request.body


async def test_cookies_are_not_kept(service: Service, source: StaticCredentials) -> None:
    service.script(http(SUCCESS_BODY, headers={"Set-Cookie": "a=b"}))
    async with open_client(service.endpoint, source) as client:
        await client.create(REQUEST, DIGEST)
        await client.create(REQUEST, DIGEST)
    assert "cookie" not in service.calls[1].headers


async def test_proxies_of_the_environment_are_not_used(
    service: Service, source: StaticCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with open_client(service.endpoint, source) as client:
        await client.create(REQUEST, DIGEST)


async def test_connections_are_bounded_and_signatures_do_not_queue(
    service: Service, source: StaticCredentials
) -> None:
    gate = asyncio.Event()

    async def gated(_: Call) -> bytes:
        await gate.wait()
        return SCANNING

    service.script(gated)
    started: list[str] = []
    async with open_client(service.endpoint, source, max_connections=2, on_request=started.append) as client:
        polls = [asyncio.ensure_future(client.result(DIGEST, 7)) for _ in range(6)]
        await service.arrived(2)
        assert len(started) == 2
        gate.set()
        await asyncio.gather(*polls)
    assert len(started) == 6
    assert service.connections == 2


async def test_waiting_for_a_connection_has_a_limit(service: Service, source: StaticCredentials) -> None:
    limits = Timeouts(total_s=0.05)
    async with open_client(service.endpoint, source, max_connections=1, timeouts=limits) as client:
        await client._free.acquire()  # as a call does that never comes back
        error = await failing(client)
    assert (error.code, error.policy.reaction) == ("connect-failed", Reaction.TRANSIENT)
    assert service.calls == []


# failures on the way

HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"


async def cut(call: Call) -> None:
    call.writer.write(HALF)
    await call.writer.drain()


async def stall(call: Call) -> bytes:
    call.writer.write(HALF)
    return await hang(call)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (reset, "connection-lost"),
        (close, "connection-lost"),
        (cut, "connection-lost"),
        (hang, "timeout"),
        (stall, "timeout"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "bad-reply"),
        (http(b"not gzip", headers={"Content-Encoding": "gzip"}), "connection-lost"),
        (http(b" " * (MAX_REPLY + 1)), "reply-too-large"),
        (
            http(gzip.compress(b" " * (MAX_REPLY * 8)), headers={"Content-Encoding": "gzip"}),
            "reply-too-large",
        ),
        (http(b"", 503), "http-5xx"),
    ],
)
async def test_after_sending_the_outcome_is_unknown(
    service: Service, source: StaticCredentials, answer: Any, code: str
) -> None:
    service.script(answer)
    limits = Timeouts(read_s=0.3 if code == "timeout" else 30)
    async with open_client(service.endpoint, source, timeouts=limits) as client:
        created = await failing(client)
        polled = await failing(client, poll=True)
    assert (created.code, created.policy.reaction) == (code, Reaction.UNKNOWN)
    assert (polled.code, polled.policy.reaction) == (code, Reaction.TRANSIENT)
    assert created.message.isprintable()


async def test_a_poll_is_not_sent_twice_behind_our_back(service: Service, source: StaticCredentials) -> None:
    service.script(SCANNING, close)
    async with open_client(service.endpoint, source) as client:
        await client.result(DIGEST, 7)
        await failing(client, poll=True)
    assert len(service.calls) == 2


async def test_nobody_listens(source: StaticCredentials) -> None:
    async with running() as service:
        pass
    async with open_client(service.endpoint, source) as client:
        error = await failing(client)
    assert (error.code, error.policy.reaction) == ("connect-failed", Reaction.TRANSIENT)
    assert error.status is None
    assert isinstance(error.__cause__, OSError)


async def test_a_redirect_is_not_followed(service: Service, source: StaticCredentials) -> None:
    service.script(http(SUCCESS_BODY, 307, {"Location": service.url}), http(SUCCESS_BODY))
    async with open_client(service.endpoint, source) as client:
        error = await failing(client)
    assert (error.code, error.policy.reaction, error.status) == ("http-3xx", Reaction.RUN, 307)
    assert len(service.calls) == 1


async def test_a_refusal_in_the_middle_of_the_upload_is_heard(source: StaticCredentials) -> None:
    async def strict(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http(b"", 413, {"Connection": "close"}))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(strict, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    large = protocol.create_request(bytes(7_000_000), "big.zip")
    async with server, open_client(Endpoint("x", f"http://127.0.0.1:{port}/"), source) as client:
        with pytest.raises(ServiceError, match="http-413"):
            await client.create(large, DIGEST)


async def test_cancellation_passes(service: Service, source: StaticCredentials) -> None:
    service.script(hang)
    async with open_client(service.endpoint, source, max_connections=1) as client:
        task = asyncio.ensure_future(client.create(REQUEST, DIGEST))
        await service.arrived(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        service.script(SCANNING)
        await client.result(DIGEST, 7)


# the clock


def dated(seconds: float) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(seconds))


def stamp(call: Call) -> int:
    return int(call.headers["x-tc-timestamp"])


async def test_the_clock_is_corrected_once(service: Service, source: StaticCredentials) -> None:
    ahead = time.time() + 3600
    service.script(refusal(EXPIRED, Date=dated(ahead)), SCANNING)
    async with open_client(service.endpoint, source) as client:
        error = await failing(client, poll=True)
        await client.result(DIGEST, 7)
        assert abs(stamp(service.calls[1]) - ahead) < 30
        assert error.policy.reaction is Reaction.CLOCK
        # proven: a later drift may be corrected again, and back
        service.script(refusal(EXPIRED, Date=dated(time.time())), SCANNING)
        assert (await failing(client, poll=True)).policy.reaction is Reaction.CLOCK
        await client.result(DIGEST, 7)
        assert abs(stamp(service.calls[1]) - time.time()) < 30


async def test_a_correction_that_does_not_help_stops_the_run(
    service: Service, source: StaticCredentials
) -> None:
    service.script(refusal(EXPIRED, Date=dated(time.time() + 3600)))
    async with open_client(service.endpoint, source) as client:
        reactions = [(await failing(client)).policy.reaction for _ in range(3)]
        last = await failing(client)
    assert reactions == [Reaction.CLOCK, Reaction.RUN, Reaction.RUN]
    assert "clock" in last.policy.advice
    assert last.request_id == "rid-err"


@pytest.mark.parametrize(
    "date", ["", "soon", "Mon, 01 Jan 0001 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"]
)
async def test_without_a_usable_date_the_run_stops(
    service: Service, source: StaticCredentials, date: str
) -> None:
    service.script(refusal(EXPIRED, Date=date))
    async with open_client(service.endpoint, source) as client:
        assert (await failing(client)).policy.reaction is Reaction.RUN


def together(count: int, reply: bytes, after: bytes) -> Any:
    """Answers the first ``count`` calls with ``reply``, all at the same time; later ones with ``after``."""
    arrived: list[Call] = []
    gate = asyncio.Event()

    async def answer(call: Call) -> bytes:
        arrived.append(call)
        if len(arrived) > count:
            return after
        if len(arrived) == count:
            gate.set()
        await gate.wait()
        return reply

    return answer


async def test_calls_in_flight_share_one_correction(service: Service, source: StaticCredentials) -> None:
    service.script(together(8, refusal(EXPIRED, Date=dated(time.time() + 3600)), SCANNING))
    with capture_logs() as logs:
        async with open_client(service.endpoint, source) as client:
            errors = await asyncio.gather(*(failing(client, poll=True) for _ in range(8)))
            await client.result(DIGEST, 7)
    assert {error.policy.reaction for error in errors} == {Reaction.CLOCK}
    assert [entry["event"] for entry in logs] == ["clock-corrected"]


# credentials


async def test_credentials_are_refreshed_once(service: Service) -> None:
    source = Renewed()
    service.script(refusal(BAD_TOKEN), SCANNING)
    async with open_client(service.endpoint, source) as client:
        assert (await failing(client, poll=True)).policy.reaction is Reaction.CREDENTIAL
        await client.result(DIGEST, 7)
        service.script(refusal(BAD_TOKEN))
        reactions = [(await failing(client)).policy.reaction for _ in range(3)]
    assert [call.headers["x-tc-token"] for call in service.calls] == ["TOKEN1", "TOKEN2", "TOKEN2"]
    assert reactions == [Reaction.CREDENTIAL, Reaction.RUN, Reaction.RUN]
    assert source.refreshes == 2


async def test_calls_in_flight_share_one_refresh(service: Service) -> None:
    source = Renewed()
    service.script(together(8, refusal(BAD_TOKEN), SCANNING))
    async with open_client(service.endpoint, source) as client:
        errors = await asyncio.gather(*(failing(client, poll=True) for _ in range(8)))
        await client.result(DIGEST, 7)
    assert {error.policy.reaction for error in errors} == {Reaction.CREDENTIAL}
    assert source.refreshes == 1


async def test_a_refresh_that_fails_stops_the_run(service: Service) -> None:
    service.script(refusal(BAD_TOKEN))
    async with open_client(service.endpoint, Renewed(gone=True)) as client:
        error = await failing(client)
    assert (error.code, error.policy.reaction) == ("no-credentials", Reaction.RUN)
    assert isinstance(error.__cause__, CredentialsError)
    assert "the file is gone" in str(error)


@pytest.mark.parametrize("problem", [CredentialsError("none here"), None])
async def test_a_source_without_credentials_stops_the_run(
    service: Service, problem: CredentialsError | None
) -> None:
    class Empty(Renewed):
        async def get(self) -> Credentials:
            if problem is None:
                await asyncio.Event().wait()
                raise AssertionError
            raise problem

    async with open_client(service.endpoint, Empty(), timeouts=Timeouts(total_s=0.1)) as client:
        error = await failing(client)
    assert (error.code, error.policy.reaction) == ("no-credentials", Reaction.RUN)
    assert service.calls == []


# TLS and proxies


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(DATA / "test-server.pem")
    return context


async def test_tls_with_an_authority_of_ones_own(source: StaticCredentials) -> None:
    content = bytes(3_000_000)
    async with (
        running(server_tls()) as service,
        open_client(service.endpoint, source, ca_file=DATA / "test-ca.pem") as client,
    ):
        await client.create(protocol.create_request(content, "a.zip"), DIGEST)
        await client.create(REQUEST, DIGEST)
        assert len(service.calls[0].body) > 4_000_000
        assert service.connections == 1


async def test_an_unknown_authority_is_not_trusted(source: StaticCredentials) -> None:
    async with running(server_tls()) as service, open_client(service.endpoint, source) as client:
        error = await failing(client)
    assert (error.code, error.policy.reaction) == ("tls-untrusted", Reaction.RUN)
    assert service.calls == []


async def test_a_port_that_speaks_no_tls(source: StaticCredentials) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"220 smtp.example ESMTP\r\n" * 10)
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, open_client(Endpoint("x", f"https://127.0.0.1:{port}/"), source) as client:
        error = await failing(client)
    assert (error.code, error.policy.reaction) == ("tls-failed", Reaction.TRANSIENT)


@pytest.mark.parametrize("name", ["absent.pem", "golden_vectors.json"])
async def test_a_bad_ca_file_is_a_usage_error(service: Service, source: StaticCredentials, name: str) -> None:
    with pytest.raises(UsageError, match=name):
        async with open_client(service.endpoint, source, ca_file=DATA / name):
            pass


REMOTE = Endpoint("scan.example.com", "https://scan.example.com/")


class Proxy:
    """Takes CONNECT and answers as told; with ``port`` it then joins the caller with that."""

    def __init__(self, answer: bytes, port: int | None = None) -> None:
        self.answer = answer
        self.port = port
        self.head = ""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.write(self.answer)
        if self.port is not None:
            inner, outer = await asyncio.open_connection("127.0.0.1", self.port)
            await asyncio.gather(pipe(reader, outer), pipe(inner, writer))
        writer.close()


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65536):
        writer.write(chunk)
    writer.close()


async def test_a_proxy_only_sees_the_tunnel(source: StaticCredentials) -> None:
    async with running(server_tls()) as service:
        proxy = Proxy(b"HTTP/1.1 200 Connection established\r\n\r\n", yarl.URL(service.url).port)
        server = await asyncio.start_server(proxy, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ca_file = DATA / "test-ca.pem"
        async with server, open_client(REMOTE, source, proxy=url, ca_file=ca_file) as client:
            await client.create(REQUEST, DIGEST)
        assert service.calls[0].headers["host"] == "scan.example.com"
        assert "proxy-authorization" not in service.calls[0].headers
    assert proxy.head.startswith("CONNECT scan.example.com:443 HTTP/1.1\r\n")
    assert "TC3" not in proxy.head


@pytest.mark.parametrize("status", [b"403 Forbidden", b"407 Proxy Authentication Required", b"502 Bad"])
async def test_a_proxy_that_refuses(source: StaticCredentials, status: bytes) -> None:
    proxy = Proxy(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"http://user:hunter2@127.0.0.1:{port}"
    async with server, open_client(REMOTE, source, proxy=url) as client:
        error = await failing(client)
    assert (error.code, error.policy.reaction) == ("proxy-failed", Reaction.TRANSIENT)
    assert proxy.head.startswith("CONNECT scan.example.com:443 HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic dXNlcjpodW50ZXIy" in proxy.head
    assert "Authorization: TC3" not in proxy.head
    assert "hunter2" not in f"{error}{error!r}{error.__cause__!r}"


async def test_a_proxy_that_is_not_there(source: StaticCredentials) -> None:
    async with open_client(REMOTE, source, proxy="http://user:hunter2@127.0.0.1:1") as client:
        error = await failing(client)
    assert error.code == "proxy-failed"
    assert "hunter2" not in f"{error}{error!r}{error.__cause__!r}"


async def test_loopback_needs_no_proxy(service: Service, source: StaticCredentials) -> None:
    async with open_client(service.endpoint, source, proxy="http://127.0.0.1:1") as client:
        await client.create(REQUEST, DIGEST)


async def test_a_bad_proxy_is_a_usage_error(source: StaticCredentials) -> None:
    with pytest.raises(UsageError, match="proxy"):
        async with open_client(REMOTE, source, proxy="user:hunter2@p"):
            pass
