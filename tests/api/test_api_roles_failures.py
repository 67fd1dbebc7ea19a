"""Whatever a token service or metadata server sends: an error that names it, and no secret anywhere."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import structlog
from aiohttp import web
from roles_lab import (
    ARN,
    BASE_TOKEN,
    ENV,
    EXPIRES,
    ROLE_KEY,
    Answer,
    Cloud,
    envelope,
    found,
    hidden,
    listening,
    pod,
    refused,
    role_keys,
)
from structlog.testing import capture_logs

from batchscan.api import metadata, roles
from batchscan.api.exchange import Limits
from batchscan.errors import CredentialsError


@pytest_asyncio.fixture
async def cloud() -> AsyncIterator[Cloud]:
    structlog.reset_defaults()
    started = Cloud()
    async with listening(started.serve) as url:
        started.url = url
        yield started


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".tencentcloud").mkdir()
    (tmp_path / ".tccli").mkdir()
    (tmp_path / "etc").mkdir()
    return tmp_path


async def hang(_request: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def echo(request: web.Request) -> web.Response:
    told = (
        f"{request.headers.get('Authorization')} {request.headers.get('X-TC-Token')} {await request.text()}"
    )
    return refused("InvalidParameter", told)


async def echo_page(request: web.Request) -> web.Response:
    return web.Response(text=f"<p>{dict(request.headers)} {await request.text()}", status=502)


async def cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "9999"})
    await response.prepare(request)
    await response.write(ROLE_KEY.encode())
    assert request.transport is not None
    request.transport.abort()
    return response


GIVEN = {"Credentials": role_keys(1), "ExpiredTime": EXPIRES}
FAILURES: dict[str, tuple[Answer | web.Response, str]] = {
    "refused": (refused("ResourceNotFound.RoleNotFound"), r"RoleNotFound: told so \(request rid-7\)"),
    "echo": (echo, "InvalidParameter"),
    "echo-page": (echo_page, "none of this API: HTTP 502"),
    "garbage": (web.Response(body=b"\xff{"), "none of this API: HTTP 200"),
    "deep": (web.Response(body=b"[" * 60_000), "none of this API"),
    "list": (web.Response(text="[]"), "none of this API"),
    "too-large": (web.Response(body=b" " * 70_000), "more than 65536 bytes"),
    "redirect": (web.Response(status=302, headers={"Location": "/"}), "HTTP 302"),
    "hang": (hang, r"no answer within 0\.2 s"),
    "cut": (cut, "ClientPayloadError"),
    "no-error": (envelope({"Error": 7, "RequestId": "r"}), "a code that is none: no reason given"),
    "no-keys": (envelope({"RequestId": "r"}), "without TmpSecretId, TmpSecretKey, Token, ExpiredTime"),
    "no-expiry": (envelope({"Credentials": role_keys(1)}), "without ExpiredTime"),
    "far-expiry": (envelope(GIVEN | {"ExpiredTime": 10**17}), "without ExpiredTime"),
    "expired": (envelope(GIVEN | {"ExpiredTime": 1_700_000_000}), "expired at 2023.*this machine's clock"),
    "bad-token": (envelope(GIVEN | {"Credentials": role_keys(1) | {"Token": "a b"}}), "token holds"),
    "number": (envelope(GIVEN | {"Credentials": role_keys(1) | {"TmpSecretKey": 7}}), "TmpSecretKey"),
}


@pytest.mark.parametrize("kind", ["key", "identity"])
@pytest.mark.parametrize("name", FAILURES)
async def test_failures_say_what_was_tried_and_show_no_secret(
    cloud: Cloud,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
    kind: str,
) -> None:
    answer, told = FAILURES[name]
    cloud.script = [answer]
    if name == "hang":
        monkeypatch.setattr(roles, "_LIMITS", Limits(0.2, 0.2))
    env = ENV | {"TENCENTCLOUD_TOKEN": BASE_TOKEN, "TENCENTCLOUD_ROLE_ARN": ARN}
    source = found(cloud, home, env if kind == "key" else pod(home))
    asyncio.get_running_loop().set_debug(True)
    with capture_logs() as logs, pytest.raises(CredentialsError, match=told) as caught:
        await source.get()
    assert "role qcs::cam::" in str(caught.value)
    assert len(cloud.calls) == 1
    hidden(caught.value, *capfd.readouterr(), str(logs))


@pytest.mark.parametrize("name", ["echo-page", "garbage", "too-large", "redirect", "cut", "list", "hang"])
async def test_a_broken_metadata_server(
    cloud: Cloud, home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    answer, _ = FAILURES[name]
    cloud.script = [answer]
    monkeypatch.setattr(metadata, "_LIMITS", Limits(0.2, 0.2) if name == "hang" else Limits(20, 20))
    with pytest.raises(CredentialsError, match="role auditor of this machine") as caught:
        await found(cloud, home, {"TENCENTCLOUD_CVM_ROLE": "auditor"}).get()
    hidden(caught.value)


async def test_a_status_line_that_echoes_the_request(home: Path) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        told = [line for line in head if line.lower().startswith((b"authorization", b"x-tc-token"))]
        writer.write(b"HTTP/9 " + b" ".join(told) + b"\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    cloud = Cloud()
    cloud.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    env = ENV | {"TENCENTCLOUD_TOKEN": BASE_TOKEN, "TENCENTCLOUD_ROLE_ARN": ARN}
    async with server:
        with pytest.raises(CredentialsError, match="role qcs::cam::") as caught:
            await found(cloud, home, env).get()
    hidden(caught.value)


async def test_nobody_listens(home: Path) -> None:
    cloud = Cloud()
    async with listening(cloud.serve) as url:
        cloud.url = url
    for env in (ENV | {"TENCENTCLOUD_ROLE_ARN": ARN}, pod(home), {"TENCENTCLOUD_CVM_ROLE": "auto"}):
        with pytest.raises(CredentialsError, match="ClientConnectorError") as caught:
            await found(cloud, home, env).get()
        assert caught.value.__cause__ is not None
        hidden(caught.value)
