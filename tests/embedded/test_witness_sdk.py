"""The vendor's own SDK, sync and async, uses the endpoint: what it reads is what it documents.

The SDK is strict where it matters here: it sees an error only under HTTP 200 with exactly
``application/json``, and needs Code, Message and RequestId.
"""

import asyncio
import base64
import hashlib
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from engine_lab import Lab, Zipped
from tencentcloud.common import sign as sdk_sign  # type: ignore[import-untyped]  # ships no types
from tencentcloud.common.credential import Credential  # type: ignore[import-untyped]  # ships no types
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException  # type: ignore[import-untyped]  # ships no types
from tencentcloud.common.profile.client_profile import ClientProfile  # type: ignore[import-untyped]  # ships no types
from tencentcloud.common.profile.http_profile import HttpProfile  # type: ignore[import-untyped]  # ships no types
from tencentcloud.csip.v20221121 import csip_client, csip_client_async, models  # type: ignore[import-untyped]  # ships no types

from batchscan.embedded.detection import DetectionError

Call = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def sdk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, lab: Lab) -> Call:
    """``async with sdk(url) as call: await call("CreateSkillScan", FileBase64=...)``."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    settings = lab.settings()

    @asynccontextmanager
    async def connect(
        url: str, *, key: str = settings.secret_key, token: str | None = None, unsigned: bool = False
    ) -> AsyncIterator[Call]:
        http = HttpProfile(protocol="http", endpoint=url.removeprefix("http://"), reqTimeout=20)
        profile = ClientProfile(httpProfile=http)
        profile.unsignedPayload = unsigned
        credential = Credential(settings.secret_id, key, token)
        module = csip_client if request.param == "sync" else csip_client_async
        client = module.CsipClient(credential, "", profile)

        async def call(action: str, **fields: Any) -> Any:
            message = getattr(models, f"{action}Request")()
            for name, value in fields.items():
                setattr(message, name, value)
            method = getattr(client, action)
            if request.param == "sync":
                return await asyncio.to_thread(method, message)
            return await method(message)

        try:
            yield call
        finally:
            if request.param == "async":
                await client.close()

    return connect


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


async def until(call: Call, created: Any, *states: str) -> Any:
    while True:
        result = await call(
            "DescribeSkillScanResult", ContentHash=created.ContentHash, EngineVersion=created.EngineVersion
        )
        assert result.Status is not None, "the SDK has missed an error"
        if result.Status in states:
            return result
        await asyncio.sleep(0.005)


async def test_create_and_all_four_states(lab: Lab, zipped: Zipped, sdk: Call) -> None:
    content, version = zipped("witness"), lab.settings().engine_version
    lab.detector.gate.clear()
    async with lab.engine() as (engine, _), sdk(engine.url) as call:
        absent = await call(
            "DescribeSkillScanResult", ContentHash="sha256:" + "0" * 64, EngineVersion=version
        )
        assert (absent.Status, absent.Data.ContentHash) == ("NOT_FOUND", "sha256:" + "0" * 64)

        created = await call("CreateSkillScan", FileBase64=encoded(content), FileName="技能-demo.zip")
        assert created.ContentHash == "sha256:" + hashlib.sha256(content).hexdigest()
        assert (created.EngineVersion, created.Status) == (version, "SCANNING")
        assert created.Message
        uuid.UUID(created.RequestId)

        running = await until(call, created, "SCANNING")
        assert running.Data.CreatedAt.endswith("Z")
        assert running.Data.RiskLevel is None

        lab.detector.gate.set()
        done = await until(call, created, "SUCCESS")
        data = done.Data
        assert (data.SkillName, data.SkillDescription, data.UploadFileCount) == ("demo", "A demo skill.", 3)
        assert (data.RiskLevel, data.SecurityScore, data.PrimaryRuleID) == ("malicious", 7, "90002")
        assert (data.RiskDescription, data.Mitigation) == ("It runs commands.", "Do not install it.")
        assert (data.ContentHash, data.EngineVersion) == (created.ContentHash, version)
        assert [(tag.ID, tag.Name) for tag in data.CapabilityTags] == [("file_read", "Reads files")]
        assert [rule.RuleID for rule in data.RuleCatalog] == [f"9000{n}" for n in range(1, 9)]
        assert all(rule.RuleName for rule in data.RuleCatalog)
        assert [item.ScanType for item in data.ScanItems] == ["AI", "STATIC"]
        assert [hit.RuleID for hit in data.ScanItems[1].RuleList] == ["90002", "90004"]
        assert data.ScanItems[0].RuleList == []
        assert "sign=" in data.ReportURL
        assert data.ScannedAt.endswith("Z")
        assert (data.CreatedAt, data.FailedAt, data.Message) == (None, None, None)

        lab.detector.verdict = DetectionError("worn out")
        broken = await call("CreateSkillScan", FileBase64=encoded(zipped("other")))
        failed = await until(call, broken, "FAILED")
        assert failed.Data.FailedAt.endswith("Z")
        assert "worn out" in failed.Data.Message


async def test_pay_info(lab: Lab, zipped: Zipped, sdk: Call) -> None:
    async with lab.engine(site="intl") as (engine, _), sdk(engine.url) as call:
        await until(call, await call("CreateSkillScan", FileBase64=encoded(zipped("x"))), "SUCCESS")
        info = await call("DescribeSkillScanPayInfo")
        assert (info.OrderStatus, info.TotalQuota, info.UsedCount, info.PayMode) == (1, 1000, 3, 1)
        assert info.BetaEndTime == "2026-06-30 23:59:59"
        for text in (info.BeginTime, info.EndTime, info.TimeNow):
            time.strptime(text, "%Y-%m-%d %H:%M:%S")
        assert info.PostPayStatus is None


async def test_task_list_in_china_only(lab: Lab, zipped: Zipped, sdk: Call) -> None:
    async with lab.engine(site="china") as (engine, _), sdk(engine.url) as call:
        done = await until(call, await call("CreateSkillScan", FileBase64=encoded(zipped("x"))), "SUCCESS")
        assert done.Data.ScannedAt.endswith("+08:00")
        listed = await call("DescribeSkillScanTaskList", Limit=200, Order="ASC", By="InsertTime")
        assert listed.TotalCount == 1
        (task,) = listed.TaskList
        assert (task.SkillName, task.DeductCount) == ("demo", 3)
        assert task.InsertTime.endswith("+08:00")
        assert (await call("DescribeSkillScanPayInfo")).PostPayStatus == 0
    async with lab.engine(site="intl") as (engine, _), sdk(engine.url) as call:
        assert await refused(call, "DescribeSkillScanTaskList") == "InvalidAction"


async def refused(call: Call, action: str, **fields: Any) -> str:
    with pytest.raises(TencentCloudSDKException) as caught:
        await call(action, **fields)
    assert caught.value.message
    uuid.UUID(caught.value.requestId)
    return str(caught.value.code)


async def test_refusals_reach_the_caller_with_their_code(lab: Lab, zipped: Zipped, sdk: Call) -> None:
    async with lab.engine(caps={"DescribeSkillScanPayInfo": 1}, total_quota=0) as (engine, _):
        async with sdk(engine.url, key="wrong") as call:
            code = await refused(call, "CreateSkillScan", FileBase64=encoded(zipped("x")))
            assert code == "AuthFailure.SignatureFailure"
        async with sdk(engine.url) as call:
            assert await refused(call, "CreateSkillScan", FileBase64="!") == "InvalidParameterValue"
            assert await refused(call, "CreateSkillScan") == "MissingParameter"
            code = await refused(call, "CreateSkillScan", FileBase64=encoded(zipped("x")))
            assert code == "LimitExceeded"
            codes: set[str] = set()
            while not codes:  # on a machine that stalls, four calls may be more than a second apart
                answers = await asyncio.gather(
                    *(call("DescribeSkillScanPayInfo") for _ in range(4)), return_exceptions=True
                )
                codes = {answer.code for answer in answers if isinstance(answer, TencentCloudSDKException)}
            assert codes == {"RequestLimitExceeded"}


async def test_a_skewed_clock_is_told(lab: Lab, sdk: Call) -> None:
    now = time.time()
    async with lab.engine(clock=lambda: now + 1000) as (engine, _), sdk(engine.url) as call:
        assert await refused(call, "DescribeSkillScanPayInfo") == "AuthFailure.SignatureExpire"


async def test_temporary_keys(lab: Lab, sdk: Call) -> None:
    async with lab.engine(token="FakeSessionToken/+==") as (engine, _):
        async with sdk(engine.url, token="FakeSessionToken/+==") as call:
            assert (await call("DescribeSkillScanPayInfo")).OrderStatus == 1
        for wrong in ("expired", None):
            async with sdk(engine.url, token=wrong) as call:
                assert await refused(call, "DescribeSkillScanPayInfo") == "AuthFailure.TokenFailure"


async def test_unsigned_payload(lab: Lab, zipped: Zipped, sdk: Call) -> None:
    async with lab.engine() as (engine, _), sdk(engine.url, unsigned=True) as call:
        created = await call("CreateSkillScan", FileBase64=encoded(zipped("x")))
        assert (await until(call, created, "SUCCESS")).Data.UploadFileCount == 3


async def test_the_largest_file(lab: Lab, zipped: Zipped, sdk: Call) -> None:
    content = zipped("z" * 7_339_896)
    async with lab.engine() as (engine, _), sdk(engine.url) as call:
        created = await call("CreateSkillScan", FileBase64=encoded(content))
        assert created.ContentHash == "sha256:" + hashlib.sha256(content).hexdigest()


async def test_the_witness_can_say_no(lab: Lab, sdk: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signature that is wrong inside the SDK itself is refused: the endpoint does check it."""
    right = sdk_sign.Sign.sign_tc3

    def wrong(*arguments: Any) -> str:
        made = right(*arguments)
        return f"{'0' if made[0] != '0' else '1'}{made[1:]}"

    async with lab.engine() as (engine, _), sdk(engine.url) as call:
        monkeypatch.setattr(sdk_sign.Sign, "sign_tc3", wrong)
        assert await refused(call, "DescribeSkillScanPayInfo") == "AuthFailure.SignatureFailure"
