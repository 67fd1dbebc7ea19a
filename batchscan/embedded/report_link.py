"""Signed links to a report, like the vendor's pre-signed ``ReportURL``: who has one may read it."""

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import urlencode

PREFIX = "/-/report/"
_HOUR_S = 3600


def report_url(base: str, digest: bytes, engine_version: int, *, secret: str, expires: int) -> str:
    """A link that is valid until ``expires`` (epoch seconds)."""
    path = f"{PREFIX}{digest.hex()}"
    query = {
        "engine": engine_version,
        "expires": expires,
        "sign": _sign(secret, path, str(engine_version), str(expires)),
    }
    return f"{base}{path}?{urlencode(query)}"


def expiry(now: float, hours: int) -> int:
    """The epoch second at which a link made now ends."""
    return int(now) + hours * _HOUR_S


def check_link(path: str, query: Mapping[str, str], *, secret: str, now: float) -> tuple[bytes, int] | None:
    """Digest and engine version that a valid link names; None: wrong or expired."""
    engine, expires, sign = (query.get(name, "") for name in ("engine", "expires", "sign"))
    expected = _sign(secret, path, engine, expires)
    if not hmac.compare_digest(expected.encode(), sign.encode(errors="replace")):
        return None
    # Signed, so written by us: the numbers are well-formed.
    if now >= int(expires):
        return None
    return bytes.fromhex(path.removeprefix(PREFIX)), int(engine)


def _sign(secret: str, path: str, engine: str, expires: str) -> str:
    text = f"report\n{path}\n{engine}\n{expires}".encode(errors="replace")
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
