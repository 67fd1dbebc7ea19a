"""The service's API without I/O: requests as bytes, answers as records.

Sources: the vendor's pages of the three actions, its "Responses" page (``Response.Error`` is the only mark
of failure, codes decide and never texts) and recordings of the official SDK. Nothing a service sends is
trusted to be well-formed: what is required and unreadable raises ``ServiceError``, what is optional and
unreadable is dropped, and nothing unreadable ever becomes a verdict.
"""

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec
import pybase64

from batchscan.api import reading, signature
from batchscan.api.reactions import CREATE, PAY_INFO, RESULT, policy
from batchscan.errors import ServiceError
from batchscan.models import Capability, RiskLevel, Rule, Verdict

VERSION: Final = "2022-11-21"
CONTENT_TYPE: Final = "application/json"
MAX_FILENAME: Final = 255
MAX_RULES: Final = 1000


class Request(msgspec.Struct, frozen=True):
    """One call, ready to be signed: ``payload_hash`` is the hex SHA-256 of ``body``."""

    action: str
    body: bytes
    payload_hash: str

    def __repr__(self) -> str:  # the body is the operator's file: it belongs into no log
        return f"Request({self.action}, {len(self.body)} bytes)"


class Submission(msgspec.Struct, frozen=True):
    """The service has the content; ``engine_version`` is what its result is asked for with."""

    digest: bytes
    engine_version: int
    request_id: str | None


class ScanStatus(StrEnum):
    """What the service says about a scan."""

    SUCCESS = "SUCCESS"
    SCANNING = "SCANNING"
    FAILED = "FAILED"
    NOT_FOUND = "NOT_FOUND"


class ScanResult(msgspec.Struct, frozen=True):
    """The answer to a poll; ``verdict`` is there with SUCCESS and only then."""

    status: ScanStatus
    verdict: Verdict | None = None
    message: str | None = None
    request_id: str | None = None


class PayInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The account's order, in files. Who the account belongs to is left out on purpose.

    Attributes:
        order_status: 0 none, 1 normal, 2 isolated, 6 on trial, 7 expired, 8 trial ended.
        total, used: quota and what was taken of it, files.
        pay_mode: 0 postpaid, 1 prepaid.
        begin_time, end_time, time_now: as sent, ``YYYY-MM-DD HH:mm:ss``; the vendor states no zone.
        post_pay_status: 0 off, 1 normal, 2 isolated; only the China site sends it.
    """

    order_status: int | None = None
    total: int | None = None
    used: int | None = None
    pay_mode: int | None = None
    begin_time: str | None = None
    end_time: str | None = None
    time_now: str | None = None
    post_pay_status: int | None = None
    request_id: str | None = None

    @property
    def remaining(self) -> int | None:
        """Files left of the quota, None where the service did not say."""
        if self.total is None or self.used is None:
            return None
        return max(self.total - self.used, 0)

    @property
    def exhausted(self) -> bool:
        """Nothing more can be scanned: no valid order or nothing left, and no postpaid billing."""
        if self.post_pay_status == 1:
            return False
        ordered = self.order_status is None or self.order_status in {1, 6}
        return not ordered or self.remaining == 0


def create_request(content: bytes, filename: str) -> Request:
    """Build the submission of ``content``, a ZIP.

    Takes tens of milliseconds for the largest file: call it in a thread. Besides ``content`` and its
    base64 the body exists once. The name is only for the service's logs: it is made printable ASCII
    JSON and cut to 255 characters.
    """
    name = "".join(letter if letter.isprintable() else "?" for letter in filename)[:MAX_FILENAME]
    head, tail = b'{"FileBase64": "', f'", "FileName": {json.dumps(name)}}}'.encode("ascii")
    return _request(CREATE, b"".join((head, pybase64.b64encode(content), tail)))


def result_request(digest: bytes, engine_version: int) -> Request:
    """Ask for the result of ``digest`` by the engine version its submission was answered with."""
    fields = {"ContentHash": f"sha256:{digest.hex()}", "EngineVersion": engine_version}
    return _request(RESULT, json.dumps(fields).encode("ascii"))


def pay_info_request() -> Request:
    """Ask for the account's order and quota."""
    return _request(PAY_INFO, b"{}")


def _request(action: str, body: bytes) -> Request:
    return Request(action, body, signature.payload_sha256(body))


def decipher(status: int, headers: Mapping[str, str], body: bytes, action: str) -> Mapping[str, Any]:
    """The ``Response`` object of a successful call.

    ``Content-Type`` is not looked at, and an error envelope counts whatever the status: gateways and the
    official SDK get both wrong.

    Raises:
        ServiceError: with the vendor's code where there is one, else ``http-...`` or ``bad-reply``.
    """
    response = reading.envelope(body)
    request_id = reading.request_id(response)
    error = response.get("Error")
    code = reading.error_code(error)
    if code is not None and code.partition(".")[0] == "ResourceNotFound" and action == RESULT:
        data = {"Message": reading.error_message(error)}
        return {"Status": ScanStatus.NOT_FOUND.value, "Data": data, "RequestId": request_id}
    if response and error is None and 200 <= status < 300:  # noqa: PLR2004 - the success class of RFC 9110
        return response
    message = reading.error_message(error)
    if code is None:
        code = _http_code(status)
        message = f"HTTP {status}, {message or reading.excerpt(body)}"
    raise ServiceError(
        code,
        message or "the service gave no message",
        policy=policy(code, action),
        request_id=request_id,
        status=status,
        server_time=reading.http_date(headers),
    )


def _http_code(status: int) -> str:
    if status in {413, 429}:
        return f"http-{status}"
    return f"http-{status // 100}xx" if 300 <= status < 600 else "bad-reply"  # noqa: PLR2004 - RFC 9110


def read_submission(response: Mapping[str, Any], digest: bytes) -> Submission:
    """What a submission was answered with. ``Status`` is documented as fixed, so it is not looked at.

    Raises:
        ServiceError: ``hash-mismatch`` or ``bad-reply``.
    """
    _check_hash(response.get("ContentHash"), digest, CREATE, response)
    engine_version = reading.engine_version(response.get("EngineVersion"))
    if engine_version is None:
        raise _unusable("bad-reply", "the answer has no usable EngineVersion", CREATE, response)
    return Submission(digest, engine_version, reading.request_id(response))


def read_result(response: Mapping[str, Any], digest: bytes, engine_version: int) -> ScanResult:
    """The state of a scan, with the verdict when it is finished.

    Args:
        response: what ``decipher`` returned.
        digest: what was asked about.
        engine_version: what it was asked with; the verdict's own goes before it.

    Raises:
        ServiceError: ``unknown-status``, ``unknown-risk-level`` or ``hash-mismatch``.
    """
    try:
        status = ScanStatus(str(response.get("Status")))
    except ValueError:
        told = reading.shown(response.get("Status"))
        raise _unusable("unknown-status", f"Status is {told}", RESULT, response) from None
    data = reading.mapping(response.get("Data"))
    if data.get("ContentHash") is not None:
        _check_hash(data["ContentHash"], digest, RESULT, response)
    verdict = _verdict(data, engine_version, response) if status is ScanStatus.SUCCESS else None
    return ScanResult(status, verdict, reading.text(data.get("Message")), reading.request_id(response))


def read_pay_info(response: Mapping[str, Any]) -> PayInfo:
    """The account's order; whatever is missing or unreadable is None."""
    return PayInfo(
        order_status=reading.integer(response.get("OrderStatus")),
        total=reading.integer(response.get("TotalQuota")),
        used=reading.integer(response.get("UsedCount")),
        pay_mode=reading.integer(response.get("PayMode")),
        begin_time=reading.text(response.get("BeginTime")),
        end_time=reading.text(response.get("EndTime")),
        time_now=reading.text(response.get("TimeNow")),
        post_pay_status=reading.integer(response.get("PostPayStatus")),
        request_id=reading.request_id(response),
    )


def _verdict(data: Mapping[str, Any], asked_version: int, response: Mapping[str, Any]) -> Verdict:
    try:
        level = RiskLevel(str(data.get("RiskLevel")))
    except ValueError:
        told = reading.shown(data.get("RiskLevel"))
        raise _unusable("unknown-risk-level", f"RiskLevel is {told}", RESULT, response) from None
    version = reading.engine_version(data.get("EngineVersion"))
    score = reading.integer(data.get("SecurityScore"))
    return Verdict(
        level=level,
        engine_version=asked_version if version is None else version,
        score=score if score is not None and score <= 100 else None,  # noqa: PLR2004 - documented 0 to 100
        skill_name=reading.text(data.get("SkillName")),
        skill_description=reading.text(data.get("SkillDescription")),
        file_count=reading.integer(data.get("UploadFileCount")),
        primary_rule=reading.text(data.get("PrimaryRuleID")),
        rules=_rules(data),
        capabilities=_capabilities(data),
        summary=reading.text(data.get("RiskDescription")),
        mitigation=reading.text(data.get("Mitigation")),
        report_url=reading.url(data.get("ReportURL")),
        scanned_at=reading.timestamp(data.get("ScannedAt")),
    )


def _rules(data: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Every hit of every engine, named from the catalogue that comes with each answer."""
    names = {
        rule_id: reading.text(item.get("RuleName"))
        for item in reading.mappings(data.get("RuleCatalog"))
        if (rule_id := reading.text(item.get("RuleID"))) is not None
    }
    hits = (
        Rule(
            id=rule_id,
            name=names.get(rule_id),
            engine=reading.text(item.get("ScanType")) or "",
            description=reading.text(hit.get("Description")) or "",
        )
        for item in reading.mappings(data.get("ScanItems"))
        for hit in reading.mappings(item.get("RuleList"))
        if (rule_id := reading.text(hit.get("RuleID"))) is not None
    )
    return reading.first(MAX_RULES, hits)


def _capabilities(data: Mapping[str, Any]) -> tuple[Capability, ...]:
    tags = (
        Capability(id=tag_id, name=reading.text(tag.get("Name")) or tag_id)
        for tag in reading.mappings(data.get("CapabilityTags"))
        if (tag_id := reading.text(tag.get("ID"))) is not None
    )
    return reading.first(MAX_RULES, tags)


def _check_hash(told: object, digest: bytes, action: str, response: Mapping[str, Any]) -> None:
    if not isinstance(told, str):
        raise _unusable("bad-reply", "the answer has no usable ContentHash", action, response)
    if told.lower().removeprefix("sha256:") != digest.hex():
        message = f"asked about sha256:{digest.hex()}, answered about {reading.shown(told)}"
        raise _unusable("hash-mismatch", message, action, response)


def _unusable(code: str, message: str, action: str, response: Mapping[str, Any]) -> ServiceError:
    request_id = reading.request_id(response)
    return ServiceError(code, message, policy=policy(code, action), request_id=request_id, status=200)
