"""A token service and a metadata server on loopback, and what the tests of roles need beside them.

The service verifies signatures; that its verifier is right is shown by the vendor's SDK, which it accepts.
"""

import itertools
import json
import re
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from batchscan.api import signature
from batchscan.api.credentials import CredentialSource, RoleServices, find_credentials

BASE_KEY = "BaseSecretKeyForLoopbackTests000"
BASE_TOKEN = "BaseTokenForLoopbackTests+/=="
IDENTITY = "eyJhbGciOiJSUzI1NiJ9.identity-for-loopback-tests.c2lnbmF0dXJl"
ROLE_KEY = "RoleSecretKeyForLoopbackTests000"
ROLE_TOKEN = "RoleTokenForLoopbackTests+/=="
SECRETS = (BASE_KEY, BASE_TOKEN, IDENTITY, ROLE_KEY, ROLE_TOKEN)
ARN = "qcs::cam::uin/12345678:roleName/auditor"
ENV = {"TENCENTCLOUD_SECRET_ID": "AKIDbase", "TENCENTCLOUD_SECRET_KEY": BASE_KEY}
NOW = 1_800_000_000.0
EXPIRES = int(NOW) + 7200
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def envelope(response: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"Response": response}, headers=headers)


def refused(code: str, message: str = "told so", **headers: str) -> web.Response:
    error = {"Error": {"Code": code, "Message": message}, "RequestId": "rid-7"}
    return envelope(error, headers=headers)


def role_keys(number: int) -> dict[str, Any]:
    return {"TmpSecretId": f"AKIDrole{number}", "TmpSecretKey": ROLE_KEY, "Token": ROLE_TOKEN}


def verified(headers: Mapping[str, str], body: bytes, secret_key: str) -> bool:
    """Whether a request to the token service is signed with ``secret_key``, as received."""
    parts = re.fullmatch(
        r"TC3-HMAC-SHA256 Credential=(?P<id>[^/]+)/(?P<date>[\d-]{10})/sts/tc3_request, "
        r"SignedHeaders=content-type;host, Signature=(?P<signature>[0-9a-f]{64})",
        headers["Authorization"],
    )
    assert parts, headers["Authorization"]
    timestamp = int(headers["X-TC-Timestamp"])
    assert parts["date"] == utc_day(timestamp)
    return parts["signature"] == signature.signature(
        secret_key=secret_key,
        timestamp=timestamp,
        service="sts",
        signed_headers=(("content-type", headers["Content-Type"]), ("host", headers["Host"])),
        payload_hash=signature.payload_sha256(body),
    )


def utc_day(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, UTC).date().isoformat()


class Cloud:
    """The token service at ``/`` and the metadata server; ``script`` goes before the usual answers."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: list[tuple[web.Request, bytes]] = []
        self.script: list[Answer | web.Response] = []
        self.bound_role = "auditor"
        self.metadata_code = "Success"
        self.numbers = itertools.count(1)

    @property
    def services(self) -> RoleServices:
        return RoleServices(self.url, metadata_url=f"{self.url}meta/")

    def fields(self, index: int = -1) -> Any:
        return json.loads(self.calls[index][1])

    def headers(self, index: int = -1) -> Mapping[str, str]:
        return self.calls[index][0].headers

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.calls.append((request, body))
        if self.script:
            answer = self.script.pop(0)
            if not isinstance(answer, web.Response):
                return await answer(request)
            # a copy: a response can be sent only once
            return web.Response(body=answer.body, status=answer.status, headers=answer.headers)
        if request.path.startswith("/meta/"):
            return self.metadata(request)
        if request.headers["X-TC-Action"] == "AssumeRole" and not verified(request.headers, body, BASE_KEY):
            return refused("AuthFailure.SignatureFailure")
        answered = {"Credentials": role_keys(next(self.numbers)), "ExpiredTime": EXPIRES, "RequestId": "r"}
        return envelope(answered)

    def metadata(self, request: web.Request) -> web.Response:
        name = request.path.removeprefix("/meta/")
        if not name:
            return web.Response(text=self.bound_role, status=200 if self.bound_role else 404)
        if name != self.bound_role:
            return web.Response(text="not found", status=404)
        fields = role_keys(next(self.numbers)) | {"ExpiredTime": EXPIRES, "Code": self.metadata_code}
        return web.json_response(fields)


@asynccontextmanager
async def listening(answer: Answer) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def put(home: Path, name: str, text: str) -> Path:
    path = home / name
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    return path


def pod(home: Path) -> dict[str, str]:
    token = put(home, "identity", IDENTITY + "\n")
    return {
        "TKE_REGION": "ap-singapore",
        "TKE_PROVIDER_ID": "tke-oidc",
        "TKE_WEB_IDENTITY_TOKEN_FILE": str(token),
        "TKE_ROLE_ARN": "qcs::cam::uin/1:roleName/pod",
    }


def found(
    cloud: Cloud,
    home: Path,
    env: Mapping[str, str],
    *,
    profile: str | None = None,
    services: RoleServices | None = None,
    clock: Callable[[], float] = lambda: NOW,
) -> CredentialSource:
    asked = cloud.services if services is None else services
    ini = home / "etc" / "credentials"
    return find_credentials(profile, env, home, asked, system_ini=ini, clock=clock)


def hidden(error: BaseException, *texts: str) -> None:
    """No secret in what a person, a log, or a traceback with local variables could show."""
    shown = [*texts]
    link: BaseException | None = error
    while link is not None:
        below = traceback.TracebackException.from_exception(link, capture_locals=True)
        shown += [str(frame.locals) for frame in below.stack if "/tests/" not in frame.filename]
        shown += [str(link), repr(link), repr(link.args)]
        link = link.__cause__ or link.__context__
    for secret in SECRETS:
        assert not [text for text in shown if secret in text]
    assert not [text for text in shown if re.search(r"Signature=[0-9a-f]{64}", text)]
