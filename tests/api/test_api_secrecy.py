"""On every way to fail: no key, token, signature or content in a log, a text or a traceback with locals.

The tracebacks are rendered with local variables, as rich and some log processors do.
"""

import asyncio
import base64
import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from scripted_service import DIGEST, Call, Service, close, http, refusal, reset, running
from structlog.testing import capture_logs

from batchscan.api import protocol
from batchscan.api.client import Endpoint, Timeouts, open_client
from batchscan.api.credentials import Credentials, Secret, StaticCredentials
from batchscan.errors import ServiceError

KEY = "k3yK3YkeyThatMustNotBeSeen0000000"
TOKEN = "t0k3nThatMustNotBeSeen+/=="
CONTENT = b"PK\x03\x04 content that must not be seen" * 3
REQUEST = protocol.create_request(CONTENT, "a.zip")
BODY_TEXT = base64.b64encode(CONTENT).decode()[:60]


def source() -> StaticCredentials:
    return StaticCredentials(Credentials("AKIDEXAMPLE", Secret(KEY), Secret(TOKEN), "test"))


async def echo_page(call: Call) -> bytes:
    """A gateway's error page that shows the whole request."""
    lines = "<br>".join(f"{name}: {value}" for name, value in call.headers.items())
    return http(f"<h1>{lines}</h1>{call.body.decode()}".encode(), 502)


async def echo_error(call: Call) -> bytes:
    """An error whose parts repeat what was sent in confidence."""
    told = f"{call.headers['x-tc-token']} {call.headers['authorization']} {call.body.decode()}"
    code = call.headers["authorization"].rpartition("=")[2]
    return http({"Error": {"Code": code, "Message": told}, "RequestId": call.headers["x-tc-token"]})


async def echo_result(call: Call) -> bytes:
    """A success whose fields repeat it."""
    told = call.headers["x-tc-token"] + call.headers["authorization"]
    return http({"ContentHash": told, "EngineVersion": 7, "RequestId": told})


async def echo_status_line(call: Call) -> bytes:
    return f"HTTP/9 {call.headers['authorization']} {call.headers['x-tc-token']}\r\n\r\n".encode()


async def hang(call: Call) -> bytes:
    await asyncio.Event().wait()
    raise AssertionError(call)


async def cut(call: Call) -> None:
    call.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
    await call.writer.drain()


ANSWERS: dict[str, Any] = {
    "echo-page": echo_page,
    "echo-error": echo_error,
    "echo-result": echo_result,
    "echo-status-line": echo_status_line,
    "hang": hang,
    "cut": cut,
    "reset": reset,
    "close": close,
    "garbage": b"\x00\x01\r\n\r\n",
    "bad-gzip": http(b"xx", headers={"Content-Encoding": "gzip"}),
    "too-large": http(b" " * 9_000_000),
    "clock": refusal("AuthFailure.SignatureExpire"),
    "token": refusal("AuthFailure.TokenFailure"),
    "signature": refusal("AuthFailure.SignatureFailure"),
    "redirect": http(b"", 302, {"Location": "http://127.0.0.1:1/"}),
}


@pytest.fixture
def seen(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Checks all that a person or a log could get to see of an error."""
    caplog.set_level(logging.DEBUG)
    structlog.reset_defaults()

    def check(error: BaseException, signature: str, logs: list[Any]) -> None:
        texts = [caplog.text, *capfd.readouterr(), str(logs), *_texts(error)]
        for secret in (KEY, TOKEN, signature, BODY_TEXT):
            assert secret
            assert not [text for text in texts if secret in text]

    return check


def _texts(error: BaseException) -> list[str]:
    rendered = traceback.TracebackException.from_exception(error, capture_locals=True)
    # locals of this file hold the secrets on purpose; those of everything below must not
    frames = [frame for frame in rendered.stack if __file__ not in frame.filename]
    texts = [f"{frame.filename} {frame.name} {frame.locals}" for frame in frames]
    link: BaseException | None = error
    while link is not None:
        texts += [str(link), repr(link), repr(link.args)]
        below = traceback.TracebackException.from_exception(link, capture_locals=True)
        texts += [str(frame.locals) for frame in below.stack if __file__ not in frame.filename]
        link = link.__cause__ or link.__context__
    return texts


def signed_with(service: Service) -> str:
    return service.calls[-1].headers["authorization"].rpartition("=")[2]


@pytest.mark.parametrize("name", ANSWERS)
async def test_no_failure_shows_a_secret(service: Service, seen: Callable[..., None], name: str) -> None:
    asyncio.get_running_loop().set_debug(True)
    service.script(ANSWERS[name])
    with capture_logs() as logs:
        limits = Timeouts(read_s=0.1 if name == "hang" else 30)
        async with open_client(service.endpoint, source(), timeouts=limits) as client:
            with pytest.raises(ServiceError) as caught:
                await client.create(REQUEST, DIGEST)
    seen(caught.value, signed_with(service), logs)


async def test_a_server_that_hangs_up_during_the_upload(seen: Callable[..., None]) -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    server = await asyncio.start_server(rude, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    large = protocol.create_request(CONTENT * 60_000, "a.zip")
    with capture_logs() as logs:
        async with server, open_client(Endpoint("x", f"http://127.0.0.1:{port}/"), source()) as client:
            with pytest.raises(ServiceError) as caught:
                await client.create(large, DIGEST)
    assert caught.value.code == "connection-lost"
    seen(caught.value, "Signature=", logs)


async def test_nobody_listens(seen: Callable[..., None]) -> None:
    async with running() as service:
        pass
    with capture_logs() as logs:
        async with open_client(service.endpoint, source()) as client:
            with pytest.raises(ServiceError) as caught:
                await client.create(REQUEST, DIGEST)
    assert caught.value.__cause__ is not None
    seen(caught.value, "Signature=", logs)


async def test_a_verdict_cannot_carry_an_echo(service: Service) -> None:
    async def echo(call: Call) -> bytes:
        told = call.headers["authorization"] + call.headers["x-tc-token"]
        data = {"RiskLevel": "benign", "RiskDescription": told}
        return http({"Status": "SUCCESS", "Data": data, "RequestId": "r"})

    service.script(echo)
    async with open_client(service.endpoint, source()) as client:
        result = await client.result(DIGEST, 7)
    assert result.verdict is not None
    assert TOKEN not in repr(result)
    assert signed_with(service) not in repr(result)
