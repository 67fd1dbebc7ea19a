"""The drill: its text form, its dice, and every fault as a caller meets it."""

import asyncio
import contextlib
import time
from email.utils import parsedate_to_datetime

import aiohttp
import pytest
from engine_lab import Lab, Zipped, judged
from hypothesis import given
from hypothesis import strategies as st

from batchscan.embedded.drill import Drill, DrillDice, DrillRule, Fault, Kind, Target

PAY = "DescribeSkillScanPayInfo"


def test_the_text_form() -> None:
    drill = Drill.parse(
        "Create:InternalError@0.2, Result:http-503-json*3,*:delay=2.5@0.1,Judge:failed*2,seed=7"
    )
    assert drill == Drill(
        (
            DrillRule(Target.CREATE, Fault(Kind.CODE, "InternalError"), 0.2),
            DrillRule(Target.RESULT, Fault(Kind.HTTP_JSON, number=503), count=3),
            DrillRule(Target.ANY, Fault(Kind.DELAY, number=2.5), 0.1),
            DrillRule(Target.JUDGE, Fault(Kind.FAILED), count=2),
        ),
        seed=7,
    )
    assert Drill.parse("Create:AuthFailure.TokenFailure").rules[0].fault.text == "AuthFailure.TokenFailure"
    assert (
        Drill.parse("*:content-type=application/json; charset=utf-8")
        .rules[0]
        .fault.text.endswith("charset=utf-8")
    )
    assert Drill.parse("*:skew=-600").rules[0].fault.number == -600
    assert Drill.parse("*:huge").rules[0].fault.number == 64


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "empty rule"),
        ("Create:InternalError,,", "empty rule"),
        ("Create", "expected TARGET:FAULT"),
        ("Create:", "expected TARGET:FAULT"),
        ("Nope:InternalError", "unknown target 'Nope'"),
        ("Create:explode", "unknown fault 'explode'"),
        ("Create:code", "unknown fault 'code'"),
        ("Create:http-200", "status must be"),
        ("Create:http-999", "status must be"),
        ("Create:http-503=1", "takes no value"),
        ("Create:InternalError=1", "takes no value"),
        ("Create:truncate=1", "takes no value"),
        ("*:delay", "needs a value"),
        ("*:delay=soon", "'soon' is not a number"),
        ("*:delay=nan", "must be between"),
        ("*:delay=-1", "must be between"),
        ("*:huge=5000", "must be between"),
        ("Create:InternalError@1.5", "between 0 and 1"),
        ("Create:InternalError@1.5.2", "is not a number"),
        ("Create:failed", "fits only Judge, Result"),
        ("Result:wrong-hash", "fits only Create"),
        ("*:not-found", "fits only Result"),
        ("Judge:truncate", "Judge knows only delay, failed"),
        ("seed=x", "is not a number"),
    ],
)
def test_mistakes_are_named(text: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Drill.parse(text)


@given(st.text(alphabet="Create:*@=.,-0159sdlayhtp IE", max_size=40))
def test_any_text_is_a_drill_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):  # and nothing else
        assert Drill.parse(text).rules or text.startswith("seed=")


def draws(text: str, n: int = 200) -> list[int]:
    dice = DrillDice(Drill.parse(text))
    return [len(dice.request(Target.CREATE)) for _ in range(n)]


def test_dice_repeat_with_the_seed_and_follow_the_probability() -> None:
    assert draws("Create:InternalError@0.3,seed=1") == draws("Create:InternalError@0.3,seed=1")
    assert draws("Create:InternalError@0.3,seed=1") != draws("Create:InternalError@0.3,seed=2")
    assert 30 < sum(draws("Create:InternalError@0.3")) < 90
    assert sum(draws("Create:InternalError@0")) == 0
    assert draws("Create:InternalError*2", 4) == [1, 1, 0, 0]
    assert sum(draws("Result:InternalError")) == 0
    assert DrillDice(None).request(Target.CREATE) == ()


@pytest.mark.parametrize(
    ("rule", "status", "code"),
    [
        ("PayInfo:InternalError*1", 200, "InternalError"),
        ("*:RequestLimitExceeded.UinLimitExceeded*1", 200, "RequestLimitExceeded.UinLimitExceeded"),
        ("PayInfo:http-503-json*1", 503, "InternalError"),
    ],
)
async def test_refusals_fire_as_often_as_told(lab: Lab, rule: str, status: int, code: str | None) -> None:
    async with lab.engine(drill=Drill.parse(rule)) as (_, caller):
        first, second = await caller.call(PAY), await caller.call(PAY)
    assert (first.status, first.code) == (status, code)
    assert (second.status, second.code) == (200, None)


async def test_http_without_json(lab: Lab) -> None:
    async with lab.engine(drill=Drill.parse("PayInfo:http-502")) as (_, caller):
        reply = await caller.call(PAY)
    assert (reply.status, reply.headers["Content-Type"]) == (502, "text/html")
    assert reply.body.startswith(b"<html>")


async def test_resets_before_and_after_processing(lab: Lab, zipped: Zipped) -> None:
    for when, accepted in (("before", 0), ("after", 1)):
        async with lab.engine(drill=Drill.parse(f"Create:reset-{when}*1")) as (engine, caller):
            before = (await engine.stats())["creates"]["accepted"]
            with pytest.raises(aiohttp.ClientError):
                await caller.create(zipped(when))
            assert (await engine.stats())["creates"]["accepted"] - before == accepted
            assert (await caller.create(zipped(when))).code is None


async def test_damaged_answers(lab: Lab) -> None:
    async with lab.engine(drill=Drill.parse("PayInfo:truncate")) as (_, caller):
        with pytest.raises(aiohttp.ClientPayloadError):
            await caller.call(PAY)
    async with lab.engine(drill=Drill.parse("PayInfo:bad-json")) as (_, caller):
        with pytest.raises(ValueError, match=r"delimiter|property name"):
            _ = (await caller.call(PAY)).response
    async with lab.engine(drill=Drill.parse("PayInfo:no-response")) as (_, caller):
        with pytest.raises(KeyError, match="Response"):
            _ = (await caller.call(PAY)).response
    async with lab.engine(drill=Drill.parse("PayInfo:content-type")) as (_, caller):
        assert (await caller.call(PAY)).headers["Content-Type"] == "text/html"


async def test_a_huge_answer_and_a_caller_that_leaves(lab: Lab) -> None:
    async with lab.engine(drill=Drill.parse("PayInfo:huge=2*1,PayInfo:huge=1000")) as (_, caller):
        whole = await caller.call(PAY)
        assert len(whole.body) > 2 * 1024 * 1024
        assert whole.code is None
        host, port = caller.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST / HTTP/1.1\r\nHost: x\r\nX-TC-Action: " + PAY.encode() + b"\r\nContent-Length: 0\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
        assert (await caller.raw("GET", "/")).status == 200


async def test_a_skewed_clock_shows_in_the_date(lab: Lab) -> None:
    async with lab.engine(drill=Drill.parse("PayInfo:skew=600")) as (_, caller):
        reply = await caller.call(PAY)
        assert reply.code == "AuthFailure.SignatureExpire"
        date = parsedate_to_datetime(reply.headers["Date"]).timestamp()
        assert 500 < date - time.time() < 700
        assert (await caller.call(PAY, timestamp=date)).code is None


async def test_states_and_hashes_that_are_not_true(lab: Lab, zipped: Zipped) -> None:
    async with lab.engine(drill=Drill.parse("Create:wrong-hash*1,Result:not-found*1,Result:failed*2")) as (
        engine,
        caller,
    ):
        wrong = await caller.create(zipped("x"))
        assert wrong.response["ContentHash"] == "sha256:" + "0" * 64
        right = await caller.create(zipped("x"))
        await judged(engine, 1)
        states = [await caller.result(right) for _ in range(3)]
    assert [reply.response["Status"] for reply in states] == ["FAILED", "FAILED", "SUCCESS"]
    assert set(states[0].response["Data"]) == {"ContentHash", "FailedAt", "Message"}


async def test_scans_that_fail_twice_and_then_succeed(lab: Lab, zipped: Zipped) -> None:
    async with lab.engine(drill=Drill.parse("Judge:failed*2,Judge:delay=0.01")) as (engine, caller):
        states = [
            (await caller.settled(await caller.create(zipped("x")))).response["Status"] for _ in range(3)
        ]
        assert states == ["FAILED", "FAILED", "SUCCESS"]
        assert (await engine.stats())["billed_units"] == 3
