"""TC3-HMAC-SHA256, the vendor's request signature, for ``POST /`` with an empty query.

Pure and free of imports from this package: the client signs with it and the embedded endpoint verifies
with it. Source: the vendor's "Signature v3" page; the tests hold it against that page's worked examples
and against the official SDK.
"""

import hashlib
import hmac
import time
from collections.abc import Sequence
from typing import Final

ALGORITHM: Final = "TC3-HMAC-SHA256"
SERVICE: Final = "csip"
UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
"""What is hashed in place of the body when ``X-TC-Content-SHA256`` says so."""

_TERMINATOR = "tc3_request"


def payload_sha256(body: bytes) -> str:
    """The hex SHA-256 of what is sent. About 5 ms for the largest body: not for the event loop."""
    return hashlib.sha256(body).hexdigest()


def signature(
    *,
    secret_key: str,
    timestamp: int,
    service: str,
    signed_headers: Sequence[tuple[str, str]],
    payload_hash: str,
) -> str:
    """The 64 hex digits that go after ``Signature=``.

    Args:
        secret_key: the account's key, unprefixed.
        timestamp: seconds since the epoch, the value of ``X-TC-Timestamp``; its UTC date is in the scope.
        service: the product in the credential scope.
        signed_headers: lower-cased names with their values, sorted by name. Values are trimmed and
            lower-cased here, as the vendor's page asks.
        payload_hash: hex SHA-256 of the body.
    """
    names = ";".join(name for name, _ in signed_headers)
    headers = "".join(f"{name}:{value.strip().lower()}\n" for name, value in signed_headers)
    canonical_request = f"POST\n/\n\n{headers}\n{names}\n{payload_hash}"
    date = _utc_date(timestamp)
    string_to_sign = "\n".join(
        (
            ALGORITHM,
            str(timestamp),
            f"{date}/{service}/{_TERMINATOR}",
            hashlib.sha256(canonical_request.encode()).hexdigest(),
        )
    )
    key = f"TC3{secret_key}".encode()
    for part in (date, service, _TERMINATOR):
        key = _hmac(key, part)
    return _hmac(key, string_to_sign).hex()


def authorization(
    *, secret_id: str, secret_key: str, host: str, content_type: str, timestamp: int, payload_hash: str
) -> str:
    """The whole ``Authorization`` value for this service, signing ``content-type;host``.

    ``host`` and ``content_type`` must be sent exactly as given here; ``host`` holds the port where it is
    not the scheme's own.
    """
    signed = signature(
        secret_key=secret_key,
        timestamp=timestamp,
        service=SERVICE,
        signed_headers=(("content-type", content_type), ("host", host)),
        payload_hash=payload_hash,
    )
    scope = f"{_utc_date(timestamp)}/{SERVICE}/{_TERMINATOR}"
    return f"{ALGORITHM} Credential={secret_id}/{scope}, SignedHeaders=content-type;host, Signature={signed}"


def _utc_date(timestamp: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(timestamp))


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
