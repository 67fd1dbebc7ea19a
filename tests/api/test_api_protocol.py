"""Requests as bytes and answers as records, without a socket."""

# the vendor's SDK, a witness only, has no types
# mypy: disable-error-code="import-untyped"

import hashlib
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_service import DIGEST, SUCCESS_BODY
from tencentcloud.csip.v20221121 import models as sdk

from batchscan.api import protocol, reading
from batchscan.api.protocol import ScanStatus, decipher
from batchscan.api.reactions import CREATE, PAY_INFO, RESULT
from batchscan.errors import Reaction, ServiceError
from batchscan.models import Capability, RiskLevel, Rule

HASH = "sha256:" + DIGEST.hex()
FINISHED: dict[str, Any] = {
    "SkillName": "weather",
    "SkillDescription": "Tells the weather",
    "ContentHash": HASH,
    "UploadFileCount": 37,
    "RiskLevel": "malicious",
    "PrimaryRuleID": "90002",
    "Mitigation": "Do not install it.",
    "RiskDescription": "Runs commands.",
    "SecurityScore": 0,
    "EngineVersion": 20200,
    "CapabilityTags": [{"ID": "file_read", "Name": "Reads files"}],
    "RuleCatalog": [
        {"RuleID": "90001", "RuleName": "Supply chain"},
        {"RuleID": "90002", "RuleName": "Command execution"},
    ],
    "ScanItems": [
        {"ScanType": "AI", "RuleList": [{"RuleID": "90002", "Description": "runs curl | sh"}]},
        {"ScanType": "STATIC", "RuleList": [{"RuleID": "90009", "Description": "new rule"}]},
        {"ScanType": "STATIC"},
    ],
    "ReportURL": "https://reports.example/1?sign=abc",
    "ScannedAt": "2026-04-02T09:13:23+08:00",
}


def answer(data: object, status: object = "SUCCESS") -> dict[str, Any]:
    return {"Status": status, "Data": data, "RequestId": "rid"}


def envelope(response: object) -> bytes:
    return json.dumps({"Response": response}).encode()


def read(data: object, status: object = "SUCCESS") -> protocol.ScanResult:
    return protocol.read_result(answer(data, status), DIGEST, 7)


def failure(
    status: int, body: bytes, action: str = CREATE, headers: dict[str, str] | None = None
) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        decipher(status, headers or {}, body, action)
    return caught.value


# requests


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.text(max_size=300))
def test_a_submission_decodes_to_what_the_sdk_sends(content: bytes, filename: str) -> None:
    import base64

    request = protocol.create_request(content, filename)
    body = json.loads(request.body)
    theirs = sdk.CreateSkillScanRequest()
    theirs.from_json_string(request.body.decode("ascii"))
    assert base64.b64decode(body.pop("FileBase64"), validate=True) == content
    assert theirs.FileBase64 == base64.b64encode(content).decode()
    assert request.payload_hash == hashlib.sha256(request.body).hexdigest()
    assert request.action == CREATE
    name = body.pop("FileName")
    assert len(name) <= 255
    assert name.isprintable()
    assert name == filename or len(filename) > 255 or not filename.isprintable()
    assert body == {}


def test_bytes_of_a_submission_equal_the_sdks() -> None:
    theirs = sdk.CreateSkillScanRequest()
    theirs.FileBase64, theirs.FileName = "UEsDBA==", '技能 "demo".zip'
    ours = protocol.create_request(b"PK\x03\x04", '技能 "demo".zip')
    assert ours.body == json.dumps(theirs._serialize()).encode()


def test_undecodable_and_long_names_are_made_harmless() -> None:
    body = json.loads(protocol.create_request(b"", "a\udcff\x1b\n" + "x" * 300).body)
    assert body["FileName"] == "a???" + "x" * 251


def test_a_request_shows_no_content() -> None:
    request = protocol.create_request(b"secret skill", "a.zip")
    assert "c2VjcmV0" not in f"{request!r} {request}"
    assert f"{len(request.body)} bytes" in repr(request)


def test_bytes_of_the_reads_equal_the_sdks() -> None:
    theirs = sdk.DescribeSkillScanResultRequest()
    theirs.ContentHash, theirs.EngineVersion = HASH, 20260501
    ours = protocol.result_request(DIGEST, 20260501)
    assert ours.action == RESULT
    assert ours.body == json.dumps(theirs._serialize(allow_none=False)).encode()
    assert protocol.pay_info_request().body == b"{}"
    assert protocol.pay_info_request().action == PAY_INFO


# envelopes


def test_success_is_the_response_object_whatever_the_content_type() -> None:
    assert decipher(200, {"Content-Type": "text/html"}, envelope(SUCCESS_BODY), CREATE) == SUCCESS_BODY
    assert decipher(201, {}, b"\xef\xbb\xbf" + envelope(SUCCESS_BODY), CREATE) == SUCCESS_BODY


def test_an_error_carries_code_request_id_status_and_time() -> None:
    body = envelope({"Error": {"Code": "InternalError.Db", "Message": "oops"}, "RequestId": "rid"})
    error = failure(200, body, headers={"date": "Thu, 28 May 2026 20:26:40 GMT"})
    assert (error.code, error.message, error.request_id, error.status) == (
        "InternalError.Db",
        "oops",
        "rid",
        200,
    )
    assert error.server_time == 1780000000.0
    assert error.policy.reaction is Reaction.TRANSIENT


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (429, envelope({"Error": {"Code": "RequestLimitExceeded"}}), "RequestLimitExceeded"),
        (500, envelope({"Error": {"Code": "RequestLimitExceeded", "Message": "m"}}), "RequestLimitExceeded"),
        (429, b"", "http-429"),
        (413, b"", "http-413"),
        (404, b"<html>", "http-4xx"),
        (502, b"<html>bad gateway</html>", "http-5xx"),
        (500, envelope(SUCCESS_BODY), "http-5xx"),
        (302, envelope(SUCCESS_BODY), "http-3xx"),
        (200, b"", "bad-reply"),
        (200, b"<html>", "bad-reply"),
        (200, b"{]", "bad-reply"),
        (200, b"[" * 100_000, "bad-reply"),
        (200, b'{"Response":' * 50_000, "bad-reply"),
        (200, b"9" * 5000, "bad-reply"),
        (200, b'{"other": 1}', "bad-reply"),
        (200, envelope([]), "bad-reply"),
        (200, envelope({}), "bad-reply"),
        (200, envelope({"Error": "boom", "ContentHash": HASH}), "bad-reply"),
        (200, envelope({"Error": {}, "ContentHash": HASH}), "bad-reply"),
        (200, envelope({"Error": {"Code": 7}, "ContentHash": HASH}), "bad-reply"),
        (200, envelope({"Error": {"Code": "hash-mismatch"}}), "bad-reply"),
    ],
)
def test_failed_replies(status: int, body: bytes, code: str) -> None:
    error = failure(status, body)
    assert error.code == code
    assert error.status == status
    assert error.message


def test_error_null_is_no_error() -> None:
    assert decipher(200, {}, envelope({"Error": None, "Status": "X"}), RESULT)["Status"] == "X"


def test_a_missing_object_is_a_state_of_a_poll_only() -> None:
    body = envelope({"Error": {"Code": "ResourceNotFound.X", "Message": "gone"}, "RequestId": "rid"})
    found = protocol.read_result(decipher(200, {}, body, RESULT), DIGEST, 7)
    assert found == protocol.ScanResult(ScanStatus.NOT_FOUND, None, "gone", "rid")
    assert failure(200, body, CREATE).policy.reaction is Reaction.ITEM


def test_messages_are_one_bounded_line_without_opaque_runs() -> None:
    told = "bad\n\x1b[31m " + "QUJD" * 40 + " header " + "x y " * 400
    error = failure(200, envelope({"Error": {"Code": "A", "Message": told}}))
    assert len(error.message) <= 500
    assert error.message.isprintable()
    assert "QUJD" not in str(error)
    html = b"<html>Authorization: TC3 Signature=" + b"ab" * 32
    assert "abab" not in str(failure(502, html))


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 99 May 2026 20:26:40 GMT", "Mon, 1 Jan 99999 0:0:0"])
def test_an_unreadable_date_is_none(date: str) -> None:
    assert failure(500, b"", headers={"Date": date}).server_time is None


# submissions


@pytest.mark.parametrize("told", [HASH, HASH.upper(), DIGEST.hex()])
@pytest.mark.parametrize("version", [20260501, "20260501"])
def test_submission(told: str, version: object) -> None:
    response = {"ContentHash": told, "EngineVersion": version, "Status": "whatever", "RequestId": 5}
    assert protocol.read_submission(response, DIGEST) == protocol.Submission(DIGEST, 20260501, None)


@pytest.mark.parametrize(
    ("change", "code", "reaction"),
    [
        ({"ContentHash": "sha256:" + "cd" * 32}, "hash-mismatch", Reaction.ITEM),
        ({"ContentHash": ""}, "hash-mismatch", Reaction.ITEM),
        ({"ContentHash": None}, "bad-reply", Reaction.UNKNOWN),
        ({"ContentHash": [HASH]}, "bad-reply", Reaction.UNKNOWN),
        ({"EngineVersion": None}, "bad-reply", Reaction.UNKNOWN),
        ({"EngineVersion": True}, "bad-reply", Reaction.UNKNOWN),
        ({"EngineVersion": 1.5}, "bad-reply", Reaction.UNKNOWN),
        ({"EngineVersion": -3}, "bad-reply", Reaction.UNKNOWN),
        ({"EngineVersion": 2**63}, "bad-reply", Reaction.UNKNOWN),
        ({"EngineVersion": "9" * 400}, "bad-reply", Reaction.UNKNOWN),
        ({"EngineVersion": "٣"}, "bad-reply", Reaction.UNKNOWN),
    ],
)
def test_unusable_submission(change: dict[str, Any], code: str, reaction: Reaction) -> None:
    with pytest.raises(ServiceError) as caught:
        protocol.read_submission(SUCCESS_BODY | change, DIGEST)
    assert (caught.value.code, caught.value.policy.reaction) == (code, reaction)
    assert caught.value.request_id == "rid-ok"


# results


def test_a_finished_scan() -> None:
    result = read(FINISHED)
    verdict = result.verdict
    assert result.status is ScanStatus.SUCCESS
    assert verdict is not None
    assert verdict.level is RiskLevel.MALICIOUS
    assert verdict.engine_version == 20200
    assert verdict.score == 0
    assert (verdict.skill_name, verdict.skill_description) == ("weather", "Tells the weather")
    assert (verdict.file_count, verdict.primary_rule) == (37, "90002")
    assert verdict.rules == (
        Rule("90002", "Command execution", "AI", "runs curl | sh"),
        Rule("90009", None, "STATIC", "new rule"),
    )
    assert verdict.capabilities == (Capability("file_read", "Reads files"),)
    assert (verdict.summary, verdict.mitigation) == ("Runs commands.", "Do not install it.")
    assert verdict.report_url == "https://reports.example/1?sign=abc"
    assert verdict.scanned_at == 1775092403.0


@pytest.mark.parametrize("status", ["SCANNING", "FAILED", "NOT_FOUND"])
@pytest.mark.parametrize("data", [None, [], "x", {}, {"ContentHash": HASH, "Message": "m"}])
def test_no_verdict_without_success(status: str, data: object) -> None:
    result = read(FINISHED | data if isinstance(data, dict) else data, status)
    assert result.status is ScanStatus(status)
    assert result.verdict is None
    assert result.message == ("m" if isinstance(data, dict) and data else None)


@pytest.mark.parametrize("status", ["QUEUED", "success", "", None, 1, ["SUCCESS"], {}, True])
def test_an_unknown_status_is_no_result(status: object) -> None:
    with pytest.raises(ServiceError) as caught:
        read(FINISHED, status)
    assert (caught.value.code, caught.value.request_id) == ("unknown-status", "rid")


@pytest.mark.parametrize("level", ["high", "Benign", "", None, 0, ["benign"], {"benign": 1}])
def test_an_unknown_risk_level_is_no_verdict(level: object) -> None:
    with pytest.raises(ServiceError) as caught:
        read(FINISHED | {"RiskLevel": level})
    assert (caught.value.code, caught.value.policy.reaction) == ("unknown-risk-level", Reaction.ITEM)


@pytest.mark.parametrize("data", [None, [], "x", {}, {"ContentHash": HASH}])
def test_success_without_a_risk_level_is_no_verdict(data: object) -> None:
    with pytest.raises(ServiceError, match="unknown-risk-level"):
        read(data)


def test_a_result_for_other_content_is_refused() -> None:
    with pytest.raises(ServiceError, match="hash-mismatch"):
        read(FINISHED | {"ContentHash": "sha256:" + "cd" * 32})


WRONG: st.SearchStrategy[Any] = st.sampled_from(
    [None, [], {}, "", "x", -1, 1.5, True, [1, None, "x", []], {"a": 1}, 2**70]
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(FINISHED.keys() - {"RiskLevel", "ContentHash"})), WRONG))
def test_optional_fields_of_a_wrong_type_are_dropped(wrong: dict[str, Any]) -> None:
    verdict = read(FINISHED | wrong).verdict
    assert verdict is not None
    assert verdict.level is RiskLevel.MALICIOUS
    assert verdict.engine_version == (7 if "EngineVersion" in wrong else 20200) or wrong["EngineVersion"] == 1
    assert verdict.score is None or 0 <= verdict.score <= 100
    if "ScanItems" in wrong:
        assert verdict.rules == ()
    if "CapabilityTags" in wrong:
        assert verdict.capabilities == ()
    if "ReportURL" in wrong:
        assert verdict.report_url is None
    if "ScannedAt" in wrong:
        assert verdict.scanned_at is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Response", "Error", "Code", "Message", "RequestId", "Status", "Data", *FINISHED]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(st.integers(100, 999), JSON, st.sampled_from([CREATE, RESULT, PAY_INFO]))
def test_any_json_is_read_or_refused(status: int, response: object, action: str) -> None:
    try:
        fields = decipher(status, {}, envelope(response), action)
        protocol.read_pay_info(fields)
        protocol.read_result(fields, DIGEST, 7)
        protocol.read_submission(fields, DIGEST)
    except ServiceError as error:
        refused = error
    else:
        return
    assert refused.code
    assert refused.message.isprintable()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_are_refused(body: bytes) -> None:
    assert failure(200, body).code == "bad-reply"


def test_texts_and_lists_are_bounded() -> None:
    hits = [{"RuleID": "1", "Description": "d"}] * 5000
    tags = [{"ID": str(n), "Name": "n"} for n in range(5000)]
    verdict = read(
        FINISHED
        | {
            "RiskDescription": "x" * 100_000,
            "ScanItems": [{"ScanType": "AI", "RuleList": hits}],
            "CapabilityTags": tags,
            "ReportURL": "https://a/" + "x" * 9000,
        }
    ).verdict
    assert verdict is not None
    assert verdict.summary == "x" * reading.MAX_TEXT
    assert len(verdict.rules) == len(verdict.capabilities) == protocol.MAX_RULES
    assert verdict.report_url is None


def test_a_skill_cannot_spoil_its_verdict_with_broken_text() -> None:
    body = envelope(answer(FINISHED | {"SkillName": "PLACE"})).replace(b"PLACE", b"\\ud800\xff!")
    verdict = protocol.read_result(decipher(200, {}, body, RESULT), DIGEST, 7).verdict
    assert verdict is not None
    assert verdict.skill_name == "?\ufffd!"
    assert verdict.skill_name.encode()


@pytest.mark.parametrize(
    ("told", "moment"),
    [
        ("2026-04-02T01:13:23Z", 1775092403.0),
        ("2026-04-02T09:13:23.5+08:00", 1775092403.5),
        ("2026-04-02T09:13:23", None),
        ("2026-04-02", None),
        ("0001-01-01T00:00:00+14:00", -62135647200.0),
        ("soon", None),
        (1775092403, None),
    ],
)
def test_times(told: object, moment: float | None) -> None:
    read_moment = reading.timestamp(told)
    assert read_moment == moment
    assert read_moment is None or math.isfinite(read_moment)


# quota


def test_pay_info_leaves_the_tenant_out() -> None:
    info = protocol.read_pay_info(
        {
            "AppID": 1250000000,
            "Uin": "100000000001",
            "NickName": "somebody",
            "OrderStatus": 1,
            "TotalQuota": 1000,
            "UsedCount": 990,
            "PayMode": 1,
            "BeginTime": "2026-05-01 00:00:00",
            "EndTime": 7,
            "RequestId": "rid",
        }
    )
    assert info == protocol.PayInfo(
        order_status=1, total=1000, used=990, pay_mode=1, begin_time="2026-05-01 00:00:00", request_id="rid"
    )
    assert not {"somebody", "100000000001", "1250000000"} & set(repr(info).replace("'", " ").split())
    assert info.remaining == 10


@pytest.mark.parametrize(
    ("fields", "exhausted"),
    [
        ({"OrderStatus": 1, "TotalQuota": 10, "UsedCount": 9}, False),
        ({"OrderStatus": 6, "TotalQuota": 10, "UsedCount": 9}, False),
        ({"OrderStatus": 1, "TotalQuota": 10, "UsedCount": 12}, True),
        ({"OrderStatus": 0, "TotalQuota": 0, "UsedCount": 0}, True),
        ({"OrderStatus": 7, "TotalQuota": 10, "UsedCount": 0}, True),
        ({"OrderStatus": 7, "TotalQuota": 10, "UsedCount": 10, "PostPayStatus": 1}, False),
        ({"OrderStatus": 7, "PostPayStatus": 2}, True),
        ({}, False),
    ],
)
def test_exhausted(fields: dict[str, int], exhausted: bool) -> None:
    assert protocol.read_pay_info(fields).exhausted is exhausted
