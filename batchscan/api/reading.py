"""Reading what a service sent: bounded, printable where it meets a person, and None where it is wrong.

The texts of an answer partly come from inside the scanned skill, so an attacker writes them. Nothing in
here raises, whatever the input.
"""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any, Final, TypeVar

T = TypeVar("T")

MAX_TEXT: Final = 8192
"""Characters kept of any one text."""

_MAX_MESSAGE = 500
_MAX_EXCERPT = 80
_MAX_ID = 128
_MAX_INT = 2**63 - 1  # the vendor's int64, and what a database column holds
_CODE = re.compile(r"[A-Za-z0-9_.]{1,128}")
# signatures, tokens, and content in base64 that a gateway echoes: nothing that explains an error is so long
_OPAQUE = re.compile(r"[A-Za-z0-9+/=_-]{48,}")


def envelope(body: bytes) -> Mapping[str, Any]:
    """The ``Response`` object, empty when the body is no such thing.

    Broken UTF-8, lone surrogates and a byte order mark are read over: a skill's description must not be
    able to make its own verdict unreadable.
    """
    try:
        document = json.loads(body.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return {}
    return mapping(mapping(document).get("Response"))


def mapping(value: object) -> Mapping[str, Any]:
    """``value`` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def mappings(value: object) -> list[Mapping[str, Any]]:
    """The JSON objects in ``value``, if it is a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def first(limit: int, items: Iterable[T]) -> tuple[T, ...]:
    """At most ``limit`` of ``items``."""
    return tuple(islice(items, limit))


def text(value: object) -> str | None:
    """A text of at most ``MAX_TEXT`` characters that UTF-8 can hold; None when empty or no text."""
    if not isinstance(value, str) or not value:
        return None
    return value[:MAX_TEXT].encode("utf-8", "replace").decode()


def url(value: object) -> str | None:
    """An address as it is: a shortened one would be useless, so one that is too long is dropped."""
    told = text(value)
    return told if told == value and told is not None and told.startswith(("https://", "http://")) else None


def integer(value: object) -> int | None:
    """A number from 0 to 2**63-1, also as a string of digits."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(_MAX_INT)):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _MAX_INT else None


def engine_version(value: object) -> int | None:
    """An opaque positive number: versions seen range from 3 to 20260501 and have no order."""
    return integer(value) or None


def timestamp(value: object) -> float | None:
    """Epoch seconds of an ISO 8601 time with a zone: documented with ``Z``, sent with ``+08:00``."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.timestamp() if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def http_date(headers: Mapping[str, str]) -> float | None:
    """Epoch seconds of the ``Date`` header (RFC 9110), the only hint at the server's clock."""
    told = next((value for name, value in headers.items() if name.lower() == "date"), None)
    if told is None:
        return None
    try:
        moment = parsedate_to_datetime(told)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None


def request_id(response: Mapping[str, Any]) -> str | None:
    """The vendor's id of the call."""
    told = response.get("RequestId")
    return told[:_MAX_ID] if isinstance(told, str) and told.isprintable() and told else None


def error_code(error: object) -> str | None:
    """The vendor's code; None when there is no error or its code is none."""
    told = mapping(error).get("Code")
    return told if isinstance(told, str) and _CODE.fullmatch(told) else None


def error_message(error: object) -> str | None:
    """The vendor's text, for people only."""
    told = mapping(error).get("Message")
    return legible(told, _MAX_MESSAGE) if isinstance(told, str) and told else None


def excerpt(body: bytes) -> str:
    """How an unreadable body begins, for people: no control characters, nothing that may be a secret."""
    if not body:
        return "an empty body"
    begin = legible(body[:MAX_TEXT].decode("utf-8", "replace"), _MAX_EXCERPT)
    return f"a body of {len(body)} bytes that is no answer of this API: {begin!r}"


def shown(value: object) -> str:
    """A wrong value, for a message."""
    if not isinstance(value, str):
        return f"a JSON {type(value).__name__}"
    return repr(_one_line(value)[:_MAX_EXCERPT])


def legible(told: str, limit: int) -> str:
    """``told`` on one line of at most ``limit`` printable characters, opaque runs masked."""
    return _one_line(_OPAQUE.sub("***", told[:MAX_TEXT]))[:limit]


def _one_line(told: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in told[:MAX_TEXT])
