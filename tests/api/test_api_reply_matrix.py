"""Every kind of reply the official SDK was recorded with: ours reads it at least as well.

The SDK runs beside our client against the same scripted service. Where it reads a reply, our reading must
be equal; where it is known to be wrong, the line says so and ours must be right.
"""

# the vendor's SDK, a witness only, has no types
# mypy: disable-error-code="import-untyped"

import asyncio
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from scripted_service import DIGEST, SUCCESS_BODY, Action, Service, close, http, reset
from tencentcloud.common.credential import Credential
from tencentcloud.common.exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.csip.v20221121 import models
from tencentcloud.csip.v20221121.csip_client import CsipClient

from batchscan.api import protocol
from batchscan.api.client import open_client
from batchscan.api.credentials import StaticCredentials
from batchscan.errors import Reaction, ServiceError

REQUEST = protocol.create_request(b"PK\x05\x06" + b"\0" * 18, '技能 "demo".zip')
ERROR = {"Error": {"Code": "RequestLimitExceeded", "Message": "freq"}, "RequestId": "rid-err"}
CLEAN = json.dumps({"Response": SUCCESS_BODY}).encode()


def kind(content_type: str) -> Mapping[str, str]:
    return {"Content-Type": content_type}


async def chunked(_: Any) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (CLEAN[:9], CLEAN[9:])) + b"0\r\n\r\n"


@dataclass(frozen=True)
class Case:
    """``ours`` and ``sdk``: ``OK``, an error code, or None (the SDK's answer is of no interest)."""

    name: str
    reply: bytes | Action
    ours: str
    sdk: str | None
    reaction: Reaction | None = None


T, U = Reaction.THROTTLE, Reaction.UNKNOWN
LIMIT = "RequestLimitExceeded"
MISSED = "OK"  # the SDK takes the error for a success in which every field is None

CASES = [
    Case("error, application/json", http(ERROR), LIMIT, LIMIT, T),
    Case("error, charset", http(ERROR, headers=kind("application/json; charset=utf-8")), LIMIT, MISSED, T),
    Case("error, text/plain", http(ERROR, headers=kind("text/plain")), LIMIT, LIMIT, T),
    Case("error, text charset", http(ERROR, headers=kind("text/plain; charset=utf-8")), LIMIT, MISSED, T),
    Case("error, no content type", http(ERROR, headers=kind("")), LIMIT, MISSED, T),
    Case("error, other case", http(ERROR, headers=kind("Application/JSON")), LIMIT, MISSED, T),
    Case("success, charset", http(SUCCESS_BODY, headers=kind("application/json; charset=utf-8")), "OK", "OK"),
    Case("html page", http(b"<html>", headers=kind("text/html")), "bad-reply", "JSONDecodeError", U),
    Case("invalid JSON", http(b"{nope"), "bad-reply", "JSONDecodeError", U),
    Case("no Response", http(b'{"a": 1}'), "bad-reply", "KeyError", U),
    Case("error without id", http({"Error": ERROR["Error"]}), LIMIT, "KeyError", T),
    Case("error without text", http({"Error": {"Code": LIMIT}, "RequestId": "r"}), LIMIT, "KeyError", T),
    Case("429 with error", http(ERROR, 429), LIMIT, "ServerNetworkError", T),
    Case("500 with error", http(ERROR, 500), LIMIT, "ServerNetworkError", T),
    Case("502 html", http(b"<html>bad gateway</html>", 502), "http-5xx", "ServerNetworkError", U),
    Case("413 empty", http(b"", 413), "http-413", "ServerNetworkError", Reaction.ITEM),
    Case("201 success", http(SUCCESS_BODY, 201), "OK", "ServerNetworkError"),
    Case("302", http(b"", 302, {"Location": "/x"}), "http-3xx", None, Reaction.RUN),
    Case("gzip", http(gzip.compress(CLEAN), headers={"Content-Encoding": "gzip"}), "OK", "OK"),
    Case("chunked", chunked, "OK", "OK"),
    Case("empty body", http(b""), "bad-reply", "JSONDecodeError", U),
    Case("null fields", http(dict.fromkeys(SUCCESS_BODY)), "bad-reply", MISSED, U),
    Case("extra fields", http(SUCCESS_BODY | {"New": 1}), "OK", "OK"),
    Case("deprecated", http(SUCCESS_BODY | {"DeprecatedWarning": "soon"}), "OK", None),
    Case("version as text", http(SUCCESS_BODY | {"EngineVersion": "20260501"}), "OK", "OK"),
    Case(
        "other hash", http(SUCCESS_BODY | {"ContentHash": "sha256:00"}), "hash-mismatch", "OK", Reaction.ITEM
    ),
    Case("close", close, "connection-lost", "ClientNetworkError", U),
    Case("reset", reset, "connection-lost", "ClientNetworkError", U),
]


def sdk(service: Service) -> CsipClient:
    host = HttpProfile(endpoint=service.endpoint.host, protocol="http", reqTimeout=5)
    return CsipClient(Credential("AKID", "KEY"), "", ClientProfile(httpProfile=host, language="en-US"))


def sdk_create(service: Service) -> tuple[str, models.CreateSkillScanResponse | None]:
    request = models.CreateSkillScanRequest()
    request.FileBase64, request.FileName = "UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA==", '技能 "demo".zip'
    try:
        return "OK", sdk(service).CreateSkillScan(request)
    except TencentCloudSDKException as error:
        return str(error.get_code()), None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_reply(service: Service, source: StaticCredentials, case: Case) -> None:
    service.script(case.reply)
    submission, code, reaction = None, "OK", None
    async with open_client(service.endpoint, source) as client:
        try:
            submission = await client.create(REQUEST, DIGEST)
        except ServiceError as error:
            code, reaction = error.code, error.policy.reaction
    assert (code, reaction) == (case.ours, case.reaction)
    if case.sdk is None:
        return
    sdk_code, response = await asyncio.to_thread(sdk_create, service)
    assert sdk_code == case.sdk
    if submission is not None and response is not None:
        assert response.ContentHash == f"sha256:{submission.digest.hex()}"
        assert int(response.EngineVersion) == submission.engine_version
        assert response.RequestId == submission.request_id


async def test_both_send_the_same_call(service: Service, source: StaticCredentials) -> None:
    service.script(http(SUCCESS_BODY))
    await asyncio.to_thread(sdk_create, service)
    async with open_client(service.endpoint, source) as client:
        await client.create(REQUEST, DIGEST)
    theirs, ours = service.calls
    assert ours.body == theirs.body
    assert ours.line == theirs.line
    for name in ("host", "content-type", "content-length", "x-tc-action", "x-tc-version", "x-tc-language"):
        assert ours.headers[name] == theirs.headers[name]


def result(data: Any, status: str = "SUCCESS") -> bytes:
    return http({"Status": status, "Data": data, "RequestId": "r"})


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (result(None, "NOT_FOUND"), "NOT_FOUND"),
        (http({"Status": "NOT_FOUND", "RequestId": "r"}), "NOT_FOUND"),
        (result({"RiskLevel": "benign", "Brandnew": 1}), "benign"),
        (result({"RiskLevel": "benign", "ScanItems": None}), "benign"),
        (result([]), "unknown-risk-level"),
        (result({"ScanItems": None}), "unknown-risk-level"),
        (result({}, "QUEUED"), "unknown-status"),
    ],
)
async def test_result_reply(service: Service, source: StaticCredentials, reply: bytes, expected: str) -> None:
    service.script(reply)
    async with open_client(service.endpoint, source) as client:
        try:
            found = await client.result(DIGEST, 7)
        except ServiceError as error:
            read = error.code
        else:
            read = found.verdict.level if found.verdict else found.status
    assert read == expected
