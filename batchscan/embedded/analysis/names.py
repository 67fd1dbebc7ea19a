"""Which entry names may become paths. Pure text rules, the same on every platform."""

import re
import unicodedata

from batchscan.models import RiskLevel

_MAX_NAME_BYTES = 1024
_MAX_PART_BYTES = 255
_MAX_DEPTH = 32
_SHOWN_CHARS = 120
_DRIVE = re.compile(r"^[A-Za-z]:")
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Joiners that ordinary names in Persian, Indic scripts and emoji need.
_JOINERS = frozenset("\u200c\u200d")


def printable(text: str) -> str:
    """``text`` for a report: nothing invisible in it, at most 120 characters."""
    cut = text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in cut)


def tidy_name(name: str) -> str:
    """An accepted entry name as a relative path with ``/``; empty and ``.`` steps removed."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def collision_key(name: str) -> str:
    """Equal for names that some file system cannot keep apart (case, Unicode form, trailing dots)."""
    folded = unicodedata.normalize("NFC", name).casefold()
    return "/".join(part.rstrip(". ") or part for part in folded.split("/"))


def refuse_name(name: str) -> tuple[RiskLevel, str] | None:
    """Why a name must not become a path, with what it makes of the skill; None when it may.

    A path that leaves the skill has no honest purpose; a name that is only strange may have one.
    """
    path = name.replace("\\", "/")
    parts = path.split("/")
    too_long = _size(path) > _MAX_NAME_BYTES or max(_size(part) for part in parts) > _MAX_PART_BYTES
    hidden = any(
        unicodedata.category(char) in _INVISIBLE_CATEGORIES and char not in _JOINERS for char in name
    )
    findings = (
        (".." in [part.rstrip(" ") for part in parts], RiskLevel.MALICIOUS, "path traversal"),
        (path.startswith("//") or bool(_DRIVE.match(path)), RiskLevel.MALICIOUS, "drive or network path"),
        (path.startswith("/"), RiskLevel.MALICIOUS, "absolute path"),
        (hidden, RiskLevel.SUSPICIOUS, "control or invisible characters in a name"),
        (not tidy_name(name), RiskLevel.SUSPICIOUS, "empty name"),
        (too_long or len(parts) > _MAX_DEPTH, RiskLevel.SUSPICIOUS, "name too long or too deep"),
    )
    return next(((level, text) for fires, level, text in findings if fires), None)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
