"""The wire of the embedded endpoint, without I/O: names, request shapes, envelopes, texts of the states.

Field names, required fields and key sets are those of the vendor's interface description
(csip, version 2022-11-21); codes are the vendor's common error codes.
"""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, TypeVar

import msgspec

from batchscan.embedded.detection import Detection

VERSION = "2022-11-21"
SERVICE = "csip"
CHINA_TIME = timezone(timedelta(hours=8))
MAX_REPORT_HOURS = 87_600  # ten years; the vendor states no range

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
T = TypeVar("T", bound=msgspec.Struct)


class Action(StrEnum):
    """What can be asked; the last one only on the China site."""

    CREATE = "CreateSkillScan"
    RESULT = "DescribeSkillScanResult"
    PAY_INFO = "DescribeSkillScanPayInfo"
    TASK_LIST = "DescribeSkillScanTaskList"


class Site(StrEnum):
    """Whose habits the endpoint has: caps, actions, fields, time zone."""

    EMBEDDED = "embedded"
    INTL = "intl"
    CHINA = "china"


class WireError(Exception):
    """A refusal that goes to the caller in the error envelope."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class CreateRequest(msgspec.Struct, frozen=True, rename="pascal"):
    """CreateSkillScan."""

    file_base64: str = msgspec.field(name="FileBase64")
    file_name: str = ""


class ResultRequest(msgspec.Struct, frozen=True, rename="pascal"):
    """DescribeSkillScanResult."""

    content_hash: str
    engine_version: Int64
    report_hours: Int64 = msgspec.field(default=8760, name="ReportURLExpireHours")


class PayInfoRequest(msgspec.Struct, frozen=True):
    """DescribeSkillScanPayInfo: no fields."""


class TaskListRequest(msgspec.Struct, frozen=True, rename="pascal"):
    """DescribeSkillScanTaskList; times are ``YYYY-MM-DD HH:mm:ss`` at UTC+8."""

    offset: Int64 = 0
    limit: Int64 = 10
    start_time: str | None = None
    end_time: str | None = None
    order: str = "DESC"
    by: str = "InsertTime"


@cache
def _decoders(shape: type[msgspec.Struct]) -> Mapping[str, tuple[str, bool, msgspec.json.Decoder[Any]]]:
    return {
        field.encode_name: (field.name, field.required, msgspec.json.Decoder(field.type))
        for field in msgspec.structs.fields(shape)
    }


_OBJECT: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])


def parse_request(body: bytes, shape: type[T]) -> T:
    """Read one request body, field by field, so that each kind of mistake has its own code.

    Raises:
        WireError: ``InvalidRequest`` (not a JSON object), ``UnknownParameter``, ``MissingParameter``,
            ``InvalidParameter`` (wrong JSON type).
    """
    try:
        fields = _OBJECT.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError("InvalidRequest", "The request body is not a JSON object in UTF-8.") from error
    decoders = _decoders(shape)
    unknown = sorted(fields.keys() - decoders.keys())
    if unknown:
        raise WireError("UnknownParameter", f"The parameter `{unknown[0][:64]}` is not recognized.")
    values: dict[str, Any] = {}
    for name, (attribute, required, decoder) in decoders.items():
        raw = fields.get(name)
        if raw is None:
            if required:
                raise WireError("MissingParameter", f"The parameter `{name}` is missing.")
            continue
        try:
            values[attribute] = decoder.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise WireError("InvalidParameter", f"The parameter `{name}` has the wrong type.") from error
    return shape(**values)


def parse_content_hash(text: str) -> bytes:
    """``sha256:<64 hex>`` as 32 bytes.

    Raises:
        WireError: ``InvalidParameterValue``.
    """
    prefix, _, digits = text.partition(":")
    try:
        digest = bytes.fromhex(digits)
    except ValueError as error:
        raise _not_a_hash() from error
    if prefix != "sha256" or len(digest) != 32 or len(digits) != 64:  # noqa: PLR2004 - sizes of a SHA-256
        raise _not_a_hash()
    return digest


def _not_a_hash() -> WireError:
    return WireError("InvalidParameterValue", "`ContentHash` must be `sha256:` and 64 hexadecimal digits.")


def content_hash(digest: bytes) -> str:
    """The digest as the wire writes it."""
    return f"sha256:{digest.hex()}"


def new_request_id() -> str:
    """The id of one call, in the vendor's form."""
    return str(uuid.uuid4())


def success(fields: Mapping[str, Any], request_id: str) -> bytes:
    """The envelope of an answer."""
    return msgspec.json.encode({"Response": {**fields, "RequestId": request_id}})


def failure(code: str, message: str, request_id: str) -> bytes:
    """The envelope of a refusal."""
    error = {"Code": code, "Message": message}
    return msgspec.json.encode({"Response": {"Error": error, "RequestId": request_id}})


def iso_time(epoch_s: float, site: Site) -> str:
    """RFC 3339 to the second: at ``+08:00`` on the China site, else with ``Z`` (vendor's examples)."""
    if site is Site.CHINA:
        return datetime.fromtimestamp(epoch_s, CHINA_TIME).isoformat(timespec="seconds")
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


RULE_CATALOG: tuple[tuple[str, str], ...] = (
    ("90001", "Supply chain: untrusted or tampered dependency"),
    ("90002", "Command execution"),
    ("90003", "Network access or data exfiltration"),
    ("90004", "Sensitive file or path access"),
    ("90005", "Prompt injection"),
    ("90006", "Remote script download and execution"),
    ("90007", "Obfuscated or hidden content"),
    ("90008", "Other risk"),
)


def success_data(
    detection: Detection,
    *,
    digest: bytes,
    engine_version: int,
    report_url: str,
    finished_at: float,
    site: Site,
) -> dict[str, Any]:
    """``Data`` of a finished scan: exactly the vendor's keys. There is no AI engine, so its list is empty."""
    hits = [{"RuleID": hit.rule_id, "Description": hit.description} for hit in detection.hits]
    return {
        "SkillName": detection.skill_name,
        "SkillDescription": detection.skill_description,
        "ContentHash": content_hash(digest),
        "UploadFileCount": detection.file_count,
        "RiskLevel": detection.risk_level,
        "PrimaryRuleID": detection.primary_rule_id,
        "Mitigation": detection.mitigation,
        "RiskDescription": detection.description,
        "SecurityScore": detection.score,
        "EngineVersion": engine_version,
        "CapabilityTags": [{"ID": tag, "Name": name} for tag, name in detection.capabilities],
        "RuleCatalog": [{"RuleID": rule, "RuleName": name} for rule, name in RULE_CATALOG],
        "ScanItems": [{"ScanType": "AI", "RuleList": []}, {"ScanType": "STATIC", "RuleList": hits}],
        "ReportURL": report_url,
        "ScannedAt": iso_time(finished_at, site),
    }


def scanning_data(digest: bytes, created_at: float, site: Site) -> dict[str, Any]:
    """``Data`` of a scan that is running."""
    return {"ContentHash": content_hash(digest), "CreatedAt": iso_time(created_at, site)}


def failed_data(digest: bytes, failed_at: float, message: str, site: Site) -> dict[str, Any]:
    """``Data`` of a scan that failed."""
    return {"ContentHash": content_hash(digest), "FailedAt": iso_time(failed_at, site), "Message": message}


def not_found_data(digest: bytes) -> dict[str, Any]:
    """``Data`` where there is no record."""
    return {"ContentHash": content_hash(digest)}
