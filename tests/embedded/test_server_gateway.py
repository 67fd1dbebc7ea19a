"""The gateway's side: signatures, refusals and their codes, caps by arrival, limits of size and time."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from engine_lab import Caller, Lab, Zipped, eventually

from batchscan.api.signature import UNSIGNED_PAYLOAD, payload_sha256, signature
from batchscan.embedded.drill import Drill
from batchscan.embedded.server import serve

PAY = "DescribeSkillScanPayInfo"
CREATE = "CreateSkillScan"
RESULT = "DescribeSkillScanResult"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({}, None),
        ({"secret_key": "wrong"}, "AuthFailure.SignatureFailure"),
        ({"secret_id": "AKIDOTHER"}, "AuthFailure.SecretIdNotFound"),
        ({"headers": {"Authorization": ""}}, "AuthFailure.InvalidAuthorization"),
        ({"headers": {"Authorization": "Basic abc"}}, "AuthFailure.InvalidAuthorization"),
        ({"headers": {"X-TC-Token": "surplus"}}, "AuthFailure.TokenFailure"),
        ({"headers": {"X-TC-Timestamp": ""}}, "MissingParameter"),
        ({"headers": {"X-TC-Timestamp": "soon"}}, "InvalidParameterValue"),
        ({"headers": {"X-TC-Action": ""}}, "MissingParameter"),
        ({"headers": {"X-TC-Version": ""}}, "MissingParameter"),
        ({"headers": {"X-TC-Version": "2018-01-25"}}, "NoSuchVersion"),
        ({"headers": {"X-TC-Action": "DropTables"}}, "InvalidAction"),
        ({"headers": {"Content-Type": "application/json; charset=utf-8"}}, "AuthFailure.SignatureFailure"),
    ],
)
async def test_heads(lab: Lab, options: dict[str, Any], code: str | None) -> None:
    async with lab.engine() as (_, caller):
        reply = await caller.call(PAY, **options)
    assert (reply.status, reply.code) == (200, code)
    assert reply.headers.getall("Content-Type") == ["application/json"]
    assert reply.response["RequestId"]


@pytest.mark.parametrize(("skew", "code"), [(300, None), (301, "AuthFailure.SignatureExpire")])
async def test_the_clock_may_be_five_minutes_off(lab: Lab, skew: int, code: str | None) -> None:
    now = 1_780_000_000
    async with lab.engine(clock=lambda: now) as (_, caller):
        for sign in (1, -1):
            reply = await caller.call(PAY, timestamp=now + sign * skew)
            assert reply.code == code


@pytest.mark.parametrize(
    ("token", "code"),
    [("right", None), ("wrong", "AuthFailure.TokenFailure"), ("", "AuthFailure.TokenFailure")],
)
async def test_a_temporary_key_needs_its_token(lab: Lab, token: str, code: str | None) -> None:
    async with lab.engine(token="right") as (_, caller):
        assert (await caller.call(PAY, headers={"X-TC-Token": token})).code == code


async def test_the_scope_must_hold_the_utc_date_of_the_timestamp(lab: Lab) -> None:
    midnight = 1_780_012_800  # 2026-05-29 00:00:00 UTC
    async with lab.engine(clock=lambda: midnight) as (_, caller):
        assert (await caller.call(PAY, timestamp=midnight)).code is None
        assert (await caller.call(PAY, timestamp=midnight - 1)).code is None
        # signed a second before midnight, sent with the timestamp of midnight: date and signature differ
        reply = await caller.call(PAY, timestamp=midnight - 1, headers={"X-TC-Timestamp": str(midnight)})
        assert reply.code == "AuthFailure.SignatureFailure"


def signed_with(
    lab: Lab,
    caller: Caller,
    body: bytes,
    names: list[str],
    *,
    payload: bytes | None = None,
    extra: dict[str, str] | None = None,
) -> dict[str, str]:
    settings = lab.settings()
    stamp = int(time.time())
    headers = {
        "content-type": "application/json",
        "host": caller.url.removeprefix("http://"),
        "x-tc-action": PAY,
    } | (extra or {})
    made = signature(
        secret_key=settings.secret_key,
        timestamp=stamp,
        service="csip",
        signed_headers=[(name, headers[name].lower()) for name in names],
        payload_hash=payload_sha256(body if payload is None else payload),
    )
    date = time.strftime("%Y-%m-%d", time.gmtime(stamp))
    scope = f"Credential={settings.secret_id}/{date}/csip/tc3_request"
    return {
        "Authorization": f"TC3-HMAC-SHA256 {scope}, SignedHeaders={';'.join(names)}, Signature={made}",
        "X-TC-Timestamp": str(stamp),
    }


async def test_a_superset_of_signed_headers_is_accepted_lower_cased(lab: Lab) -> None:
    async with lab.engine() as (_, caller):
        headers = signed_with(lab, caller, b"{}", ["content-type", "host", "x-tc-action"])
        assert (await caller.call(PAY, body=b"{}", headers=headers)).code is None
        tampered = headers | {"X-TC-Action": RESULT}
        assert (await caller.call(PAY, body=b"{}", headers=tampered)).code == "AuthFailure.SignatureFailure"
        unsorted = signed_with(lab, caller, b"{}", ["host", "content-type"])
        assert (
            await caller.call(PAY, body=b"{}", headers=unsorted)
        ).code == "AuthFailure.InvalidAuthorization"
        too_few = signed_with(lab, caller, b"{}", ["content-type"])
        assert (
            await caller.call(PAY, body=b"{}", headers=too_few)
        ).code == "AuthFailure.InvalidAuthorization"
        absent = signed_with(lab, caller, b"{}", ["content-type", "host", "x-none"], extra={"x-none": ""})
        assert (await caller.call(PAY, body=b"{}", headers=absent)).code == "AuthFailure.SignatureFailure"


async def test_the_body_is_bound_unless_declared_unsigned(lab: Lab) -> None:
    async with lab.engine() as (_, caller):
        headers = signed_with(lab, caller, b"[]", ["content-type", "host"])
        assert (await caller.call(PAY, body=b"{}", headers=headers)).code == "AuthFailure.SignatureFailure"
        unsigned = signed_with(lab, caller, b"", ["content-type", "host"], payload=UNSIGNED_PAYLOAD.encode())
        declared = unsigned | {"X-TC-Content-SHA256": UNSIGNED_PAYLOAD}
        assert (await caller.call(PAY, body=b"{}", headers=declared)).code is None
        assert (await caller.call(PAY, body=b"{}", headers=unsigned)).code == "AuthFailure.SignatureFailure"


GOOD_HASH = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("action", "fields", "code"),
    [
        (CREATE, {}, "MissingParameter"),
        (CREATE, {"FileBase64": "UEs=", "Extra": 1}, "UnknownParameter"),
        (CREATE, {"FileBase64": 5}, "InvalidParameter"),
        (CREATE, {"FileBase64": "UEs=", "FileName": None}, "InvalidParameter"),
        (CREATE, {"FileBase64": ""}, "InvalidParameterValue"),
        (CREATE, {"FileBase64": "####"}, "InvalidParameterValue"),
        (CREATE, {"FileBase64": "UEs"}, "InvalidParameterValue"),
        (CREATE, {"FileBase64": "\u6280"}, "InvalidParameterValue"),
        (CREATE, {"FileBase64": base64.b64encode(b"no zip").decode()}, "InvalidParameterValue"),
        (RESULT, {"ContentHash": GOOD_HASH}, "MissingParameter"),
        (RESULT, {"ContentHash": GOOD_HASH, "EngineVersion": "1"}, "InvalidParameter"),
        (RESULT, {"ContentHash": GOOD_HASH, "EngineVersion": True}, "InvalidParameter"),
        (RESULT, {"ContentHash": GOOD_HASH, "EngineVersion": 2**63}, "InvalidParameter"),
        (RESULT, {"ContentHash": GOOD_HASH, "EngineVersion": 1.5}, "InvalidParameter"),
        (RESULT, {"ContentHash": "ab" * 32, "EngineVersion": 1}, "InvalidParameterValue"),
        (RESULT, {"ContentHash": "sha256:" + "zz" * 32, "EngineVersion": 1}, "InvalidParameterValue"),
        (
            RESULT,
            {"ContentHash": GOOD_HASH, "EngineVersion": 1, "ReportURLExpireHours": 0},
            "InvalidParameterValue",
        ),
        (RESULT, {"ContentHash": GOOD_HASH, "EngineVersion": 1}, None),
        (PAY, {"Any": 1}, "UnknownParameter"),
    ],
)
async def test_fields(lab: Lab, action: str, fields: dict[str, Any], code: str | None) -> None:
    async with lab.engine() as (_, caller):
        assert (await caller.call(action, fields)).code == code


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"a":\xff}', b'{"FileBase64":' + b"[" * 100_000]
)
async def test_bodies_that_are_no_json_object(lab: Lab, body: bytes) -> None:
    async with lab.engine() as (_, caller):
        assert (await caller.call(CREATE, body=body)).code == "InvalidRequest"


async def test_text_that_is_not_utf8_is_a_wrong_type(lab: Lab) -> None:
    async with lab.engine() as (_, caller):
        assert (await caller.call(CREATE, body=b'{"FileBase64":"\xff\xfe"}')).code == "InvalidParameter"


@pytest.mark.parametrize("cut", [1, 4, 21, 22, 50])
async def test_truncated_zips_are_refused(lab: Lab, zipped: Zipped, cut: int) -> None:
    async with lab.engine() as (_, caller):
        assert (await caller.create(zipped("x")[:-cut])).code == "InvalidParameterValue"


@pytest.mark.parametrize("extra", [0, 1, 2])  # base64 pads differently
async def test_the_file_limit_is_exact(lab: Lab, zipped: Zipped, extra: int) -> None:
    content = zipped("x" * (200_000 + extra))
    async with lab.engine(limit_bytes=len(content)) as (_, caller):
        assert (await caller.create(content)).code is None
    for less in (1, 2, 3, 5000):
        async with lab.engine(limit_bytes=len(content) - less) as (_, caller):
            assert (await caller.create(content)).code == "InvalidParameterValue"


async def test_the_largest_file_passes_both_limits(lab: Lab, zipped: Zipped) -> None:
    content = zipped("y" * 7_339_896)
    assert 7_340_000 <= len(content) <= 7_340_032
    async with lab.engine() as (_, caller):
        created = await caller.create(content)
        assert created.code is None
        await caller.settled(created)
    assert lab.detector.seen == [content]


async def test_a_body_above_the_cap_is_refused_by_its_length(lab: Lab) -> None:
    async with lab.engine(body_limit_bytes=100_000) as (_, caller):
        assert (await caller.call(CREATE, body=b"x" * 100_001)).code == "RequestSizeLimitExceeded"
        assert (await caller.call(PAY)).code is None


async def test_a_body_that_declares_too_much_is_refused_before_it_comes(lab: Lab) -> None:
    async with lab.engine(body_limit_bytes=100_000) as (_, caller):
        assert await answered_code(caller, length=100_001, sent=b"") == "RequestSizeLimitExceeded"


async def test_a_body_without_a_length_is_cut_off_while_it_is_read(lab: Lab) -> None:
    """It never ends: only an engine that does not wait for the end can answer."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1000
            yield b"x" * 1000
            await asyncio.sleep(0)

    async with lab.engine(body_limit_bytes=100_000) as (_, caller):
        reply = await caller.raw("POST", "/", data=endless(), headers={"X-TC-Action": CREATE})
        assert reply.code == "RequestSizeLimitExceeded"


async def test_a_body_that_does_not_come_is_given_up(lab: Lab) -> None:
    async with lab.engine(body_timeout_s=0.05) as (_, caller):
        assert await answered_code(caller, length=10, sent=b"{") == "InvalidRequest"


async def answered_code(caller: Caller, *, length: int, sent: bytes) -> str:
    """The code that answers a request whose body stays incomplete."""
    host, port = caller.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST / HTTP/1.1\r\nHost: x\r\nX-TC-Action: {CREATE}\r\nContent-Length: {length}\r\n\r\n"
    writer.write(head.encode() + sent)
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    size = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    body = await reader.readexactly(size)
    writer.close()
    await writer.wait_closed()
    return str(json.loads(body)["Response"]["Error"]["Code"])


async def test_other_methods_and_paths(lab: Lab) -> None:
    async with lab.engine() as (_, caller):
        got = await caller.raw("GET", "/")
        assert (got.status, got.code) == (200, "UnsupportedProtocol")
        assert (await caller.raw("POST", "/?a=b", data=b"{}")).code == "InvalidRequest"
        for method, path in [
            ("GET", "/x"),
            ("POST", "/x"),
            ("GET", "/-/stats"),
            ("GET", "/-/report/zz?sign=1"),
        ]:
            assert (await caller.raw(method, path)).status == 404


async def test_the_cap_refuses_what_arrives_above_it_in_any_second(lab: Lab) -> None:
    async with lab.engine(caps={PAY: 3}, stats=True) as (engine, caller):
        started = time.monotonic()
        replies = await asyncio.gather(*(caller.call(PAY) for _ in range(10)))
        if time.monotonic() - started < 1:  # else the machine stalled and more may pass
            assert [reply.code for reply in replies].count("RequestLimitExceeded") == 7
        assert (await caller.call(RESULT)).code == "MissingParameter"
        stats = json.loads((await caller.raw("GET", "/-/stats")).body)
        arrivals = engine.arrivals(PAY)
        assert engine.requests[PAY] == 10
        assert engine.throttled[PAY] == stats["actions"][PAY]["throttled"]
    assert len(arrivals) == 10
    assert list(arrivals) == sorted(arrivals)
    assert stats["actions"][PAY]["requests"] == 10
    assert stats["actions"][PAY]["cap"] == 3


async def test_made_up_actions_do_not_grow_the_counters(lab: Lab) -> None:
    async with lab.engine() as (engine, caller):
        for n in range(5):
            await caller.call(f"Action{n}")
        assert engine.requests == {"other": 5}


async def test_secrets_and_bodies_stay_out_of_the_log(
    lab: Lab, zipped: Zipped, capsys: pytest.CaptureFixture[str]
) -> None:
    async with lab.engine() as (_, caller):
        await caller.settled(await caller.create(zipped("x")))
    logged = capsys.readouterr()
    text = logged.out + logged.err
    assert "engine.request" in text
    assert lab.settings().secret_key not in text + repr(lab.settings())
    assert "TC3-HMAC" not in text
    assert base64.b64encode(zipped("x"))[:40].decode() not in text


async def test_requests_in_flight_are_answered_at_the_end(lab: Lab) -> None:
    settings = lab.settings(drill=Drill.parse("PayInfo:delay=0.2"))
    async with aiohttp.ClientSession() as session:
        async with serve(settings, lab.detector) as engine:
            call = asyncio.create_task(lab.caller(session, engine.url).call(PAY))
            await eventually(lambda: engine.requests[PAY] > 0)
            assert not call.done()
        assert (await call).code is None


async def test_a_stop_does_not_wait_for_ever(lab: Lab) -> None:
    settings = lab.settings(drill=Drill.parse("PayInfo:delay=60"), stop_timeout_s=0.1)
    async with aiohttp.ClientSession() as session:
        async with serve(settings, lab.detector) as engine:
            call = asyncio.create_task(lab.caller(session, engine.url).call(PAY))
            await eventually(lambda: engine.requests[PAY] > 0)
            stopped = time.monotonic()
        assert time.monotonic() - stopped < 30
        with pytest.raises(aiohttp.ClientError):
            await call


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"site": "mars"}, "site"),
        ({"secret_key": ""}, "secret_key"),
        ({"caps": {"Nope": 1}}, "Nope"),
        ({"caps": {CREATE: 0}}, "at least 1"),
        ({"limit_bytes": 0}, "limit_bytes"),
        ({"total_quota": -1}, "total_quota"),
    ],
)
def test_settings_that_cannot_work_are_refused(lab: Lab, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        lab.settings(**changes)
