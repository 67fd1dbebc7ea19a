"""The file of suppressions: TOML, checked whole, so that all that is wrong with it is told at once.

Every entry names the content that was accepted, by SHA-256: what has no content would also accept what a
file becomes. ``docs/suppressions.md`` says it for people.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import msgspec

from batchscan.toml_document import Purpose, parse_toml, read_text, unknown_key
from batchscan.walk import Patterns, plain

_PURPOSE: Final = Purpose("suppressions", "--suppressions", largest_bytes=64 * 1024 * 1024)
_TABLE: Final = "suppression"
_KEYS: Final = ("sha256", "path", "rule", "reason", "owner", "expires")
_REQUIRED: Final = ("reason", "owner", "expires")
_HEAD = re.compile(r"\s*\[\[\s*suppression\s*\]\]")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LONGEST_GLOB = 4096
_SHOWN_FAULTS = 100


class Acceptance(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One entry of the file.

    Attributes:
        place: where it stands, for messages: ``entry 3 (line 17)``.
        digests: the content it is bound to, SHA-256 in lower-case hex; none only in a faulty file.
        path: a glob that the path of the row must match, too.
        rules: the only rules that are accepted; none means whatever is found in this content.
        expires: the last day (UTC) on which it holds.
    """

    place: str
    digests: tuple[str, ...] = ()
    path: str | None = None
    rules: frozenset[str] = frozenset()
    reason: str
    owner: str
    expires: date

    def means(self, path: str) -> bool:
        """Whether it is about a file at this path."""
        return self.path is None or self._patterns.match(plain(path))

    @cached_property
    def _patterns(self) -> Patterns:
        return Patterns((self.path or "",))


class Faults(msgspec.Struct):
    """What is wrong with a file.

    Attributes:
        problems: one for each fault, with the file and the place in it.
        unbound: entries that are sound but for the content, which they do not name.
    """

    problems: list[str] = []
    unbound: list[Acceptance] = []

    def told(self) -> str:
        """All of it, for a message; so many faults that nobody would read them are counted."""
        left = len(self.problems) - _SHOWN_FAULTS
        return "\n".join(self.problems[:_SHOWN_FAULTS] + ([f"... and {left} more"] if left > 0 else []))


def read_acceptances(path: Path) -> tuple[list[Acceptance], Faults]:
    """Read and check a file of suppressions.

    Returns:
        The sound entries, and what is wrong with the others.

    Raises:
        UsageError: it cannot be read, or is not TOML.
    """
    text = read_text(path, _PURPOSE)
    document = parse_toml(path, text)
    faults = Faults()
    faults.problems = [
        f"{path}: {key}: no such key; entries begin with [[{_TABLE}]]" for key in document if key != _TABLE
    ]
    tables = document.get(_TABLE, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        faults.problems.append(f"{path}: {_TABLE}: not a list of tables; begin each with [[{_TABLE}]]")
        return [], faults
    found = []
    for place, table in zip(_places(text, len(tables)), tables, strict=True):
        wrong = list(_wrong(table))
        faults.problems += [f"{path}, {place}: {problem}" for problem in wrong]
        if wrong:
            continue
        acceptance = _accept(place, table)
        if acceptance.digests:
            found.append(acceptance)
        else:
            faults.unbound.append(acceptance)
            faults.problems.append(
                f"{path}, {place}: names no content: a path alone would also accept what the file becomes;"
                ' add sha256 = ["..."] with the content that was looked at'
            )
    faults.problems += [f"{path}, {problem}" for problem in _repeated(found)]
    return found, faults


def _places(text: str, count: int) -> list[str]:
    """Name the entries, with lines where every entry has a head of its own that can be found."""
    heads = [number for number, line in enumerate(text.split("\n"), 1) if _HEAD.match(line)]
    if len(heads) != count:  # written inline, or one stands inside a text
        return [f"entry {number}" for number in range(1, count + 1)]
    return [f"entry {number} (line {line})" for number, line in enumerate(heads, 1)]


def _wrong(table: Mapping[str, Any]) -> Iterator[str]:
    """All that is wrong with an entry by itself, each problem beginning with its key."""
    for key in table:
        if key not in _KEYS:
            yield f"{key}: {unknown_key(key, _KEYS)}"
    yield from _wrong_finding(table)
    for key in ("reason", "owner"):
        if key in table and (not isinstance(table[key], str) or not table[key].strip()):
            yield f"{key}: must be a text, and not empty"
    expires = table.get("expires")
    if expires is not None and (not isinstance(expires, date) or isinstance(expires, datetime)):
        yield "expires: must be a date without quotes and without a time, as expires = 2027-01-31"
    for key in _REQUIRED:
        if key not in table:
            yield f"{key}: is missing"


def _wrong_finding(table: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the part that says which finding is accepted."""
    for key in ("sha256", "rule"):
        if key in table:
            yield from _wrong_list(key, _listed(table[key]))
    if "path" in table:
        fault = _glob_fault(table["path"])
        if fault:
            yield f"path: {fault}"
        if "rule" not in table:
            yield "rule: is missing; an entry with a path names the rules that are accepted there"
    elif "sha256" not in table:
        yield "sha256: is missing; name the content that was accepted"


def _wrong_list(key: str, values: list[Any]) -> Iterator[str]:
    if not values or not all(isinstance(value, str) and value.strip() for value in values):
        yield f"{key}: must be a text or a list of texts, and not empty"
        return
    if len({value.lower() if key == "sha256" else value for value in values}) < len(values):
        yield f"{key}: names one twice"
    if key == "sha256":
        for value in values:
            if not _DIGEST.fullmatch(value.lower()):
                yield f"sha256: {value[:80]!r} is not 64 hexadecimal digits"


def _glob_fault(glob: object) -> str | None:
    if not isinstance(glob, str):
        return "must be a text: a glob, as team/*.zip"
    if not glob.strip("/. "):
        return "is empty"
    if "\0" in glob or len(glob) > _LONGEST_GLOB:
        return f"is not the glob of a path: it holds a NUL, or is longer than {_LONGEST_GLOB} characters"
    at = glob.find("[")
    while at >= 0:
        end = glob.find("]", at + 2 + glob.startswith("!", at + 1))
        if end < 0:
            return "has a [ without a ]; write [[] for a bracket itself"
        at = glob.find("[", end)
    return None


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _accept(place: str, table: Mapping[str, Any]) -> Acceptance:
    return Acceptance(
        place=place,
        digests=tuple(value.lower() for value in _listed(table.get("sha256"))),
        path=table.get("path"),
        rules=frozenset(_listed(table.get("rule"))),
        reason=table["reason"],
        owner=table["owner"],
        expires=table["expires"],
    )


def _repeated(found: list[Acceptance]) -> Iterator[str]:
    """Entries that say the same of the same content: which one would hold is not for us to choose."""
    first: dict[tuple[str, str | None, frozenset[str]], str] = {}
    for entry in found:
        for digest in entry.digests:
            before = first.setdefault((digest, entry.path, entry.rules), entry.place)
            if before != entry.place:
                yield (
                    f"{entry.place}: accepts the same as {before}, of {digest[:12]}...; keep one of them, and"
                    " change its expires to renew it"
                )
                break
