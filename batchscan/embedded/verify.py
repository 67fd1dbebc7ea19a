"""Checks the TC3-HMAC-SHA256 signature of a request the way the vendor's gateway documents it.

Rules (vendor: Signature v3, common parameters): at least ``content-type`` and ``host`` are signed, any
sorted superset is fine; values are trimmed and lower-cased; the scope's date is the UTC date of
``X-TC-Timestamp``; the timestamp is at most five minutes off; ``UNSIGNED-PAYLOAD`` replaces the hash of
the body. The order of the checks is not documented: ours goes from cheap to dear.
"""

import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from batchscan.api.signature import UNSIGNED_PAYLOAD, payload_sha256, signature
from batchscan.embedded.wire import SERVICE, WireError

MAX_SKEW_S = 300
_AUTHORIZATION = re.compile(
    r"TC3-HMAC-SHA256 Credential=(?P<id>[^/,\s]+)/(?P<date>\d{4}-\d\d-\d\d)/(?P<service>[^/,\s]+)/tc3_request"
    r",\s*SignedHeaders=(?P<headers>[^,\s]+),\s*Signature=(?P<signature>[0-9a-f]{64})",
    re.ASCII,
)
_TIMESTAMP = re.compile(r"\d{1,12}", re.ASCII)


class Key(msgspec.Struct, frozen=True):
    """The one key that the endpoint knows. ``token`` is set for a temporary key."""

    secret_id: str
    secret_key: str
    token: str | None = None

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Key(secret_id={self.secret_id!r})"


def verify(headers: Mapping[str, str], body: bytes, key: Key, now: float) -> None:
    """Accept a signed ``POST /`` with an empty query, or say why not.

    Args:
        headers: as received; looked up without regard to case.
        body: as received.
        key: the key to accept.
        now: epoch seconds.

    Raises:
        WireError: ``AuthFailure.*`` or ``MissingParameter`` (no timestamp).
    """
    match = _AUTHORIZATION.fullmatch(headers.get("Authorization", ""))
    if match is None:
        raise WireError(
            "AuthFailure.InvalidAuthorization",
            "The `Authorization` header is missing or not in the form of TC3-HMAC-SHA256.",
        )
    timestamp = _timestamp(headers)
    if not _same(match["id"], key.secret_id):
        raise WireError("AuthFailure.SecretIdNotFound", "The SecretId is not found.")
    if abs(now - timestamp) > MAX_SKEW_S:
        raise WireError(
            "AuthFailure.SignatureExpire",
            f"The timestamp is more than {MAX_SKEW_S} seconds away from the server's time.",
        )
    if not _same(headers.get("X-TC-Token", ""), key.token or ""):
        raise WireError("AuthFailure.TokenFailure", "The token is missing, wrong or expired.")
    scope = (match["date"], match["service"])
    if scope != (datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d"), SERVICE):
        raise WireError(
            "AuthFailure.SignatureFailure",
            f"The credential scope must be the UTC date of the timestamp and `{SERVICE}`.",
        )
    expected = signature(
        secret_key=key.secret_key,
        timestamp=timestamp,
        service=SERVICE,
        signed_headers=_signed_headers(match["headers"], headers),
        payload_hash=_payload_hash(headers, body),
    )
    if not _same(expected, match["signature"]):
        raise WireError("AuthFailure.SignatureFailure", "The signature does not match the request.")


def _timestamp(headers: Mapping[str, str]) -> int:
    text = headers.get("X-TC-Timestamp")
    if text is None:
        raise WireError("MissingParameter", "The header `X-TC-Timestamp` is missing.")
    if _TIMESTAMP.fullmatch(text) is None:
        raise WireError("InvalidParameterValue", "The header `X-TC-Timestamp` must be Unix seconds.")
    return int(text)


def _signed_headers(text: str, headers: Mapping[str, str]) -> list[tuple[str, str]]:
    names = text.split(";")
    if names != sorted(set(names)) or not {"content-type", "host"} <= set(names) or text != text.lower():
        raise WireError(
            "AuthFailure.InvalidAuthorization",
            "`SignedHeaders` must be sorted, in lower case, and name `content-type` and `host`.",
        )
    absent = [name for name in names if name not in headers]
    if absent:
        raise WireError("AuthFailure.SignatureFailure", f"The signed header `{absent[0][:64]}` was not sent.")
    signed = [(name, headers[name].strip().lower()) for name in names]
    if any(not value.isascii() for _, value in signed):
        raise WireError("AuthFailure.SignatureFailure", "A signed header holds characters outside ASCII.")
    return signed


def _payload_hash(headers: Mapping[str, str], body: bytes) -> str:
    if headers.get("X-TC-Content-SHA256") == UNSIGNED_PAYLOAD:
        return payload_sha256(UNSIGNED_PAYLOAD.encode())
    return payload_sha256(body)


def _same(left: str, right: str) -> bool:
    """Compare in constant time; header bytes that are no text arrive as surrogates."""
    return hmac.compare_digest(left.encode(errors="surrogateescape"), right.encode(errors="surrogateescape"))
