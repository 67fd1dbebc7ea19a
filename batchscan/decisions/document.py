"""The file of decisions, ``batchscan.decisions/1``: one JSON object, a line for its head and for each one.

So it is read whole by any reader of JSON, and by lines in bounded memory. The head holds counts, which are
known when all is written: room for them is left, and filled at the end.
"""

import stat
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from batchscan.decisions.policy import Action
from batchscan.decisions.ruling import Reason
from batchscan.errors import UsageError
from batchscan.models import RiskLevel
from batchscan.suppressions import Suppression

DECISIONS_SCHEMA: Final = "batchscan.decisions/1"

_OPEN: Final = b',"decisions":[\n'
_CLOSE: Final = b"]}\n"
_MOST: Final = 10**12
"""No count is larger."""
_LONGEST_LINE_BYTES: Final = 64 << 20


class Counts(msgspec.Struct, kw_only=True):
    """How many decisions there are, of each kind.

    Attributes:
        inputs: all of them: ``allow`` and ``warn`` and ``block``.
        without_verdict: those whose reason is that there is no verdict that counts, and carried ones.
        suppressed: those that an accepted finding decided.
        carried: those that were kept from the previous decisions.
    """

    inputs: int = 0
    allow: int = 0
    warn: int = 0
    block: int = 0
    without_verdict: int = 0
    suppressed: int = 0
    carried: int = 0


class SuppressionCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many entries the file of suppressions has, and how many somebody has to see to, as ``Audit``."""

    entries: int
    unused: int
    expired: int
    expiring: int
    kept: int


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What the decisions have in common. The order of the fields is the order of the keys.

    Attributes:
        run_id: the run whose report was decided on.
        run_state: where it stands, None where the ledger does not know it.
        report: file name of the report.
        made_at: RFC 3339, UTC.
        policy_fingerprint: of the policy, see ``Policy.fingerprint``.
    """

    schema: str = DECISIONS_SCHEMA
    run_id: str
    run_state: str | None
    report: str
    made_at: str
    policy_fingerprint: str
    counts: Counts
    suppressions: SuppressionCounts | None = None


class Carried(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict of before that a decision still rests on.

    Attributes:
        decided_at: when it was decided on while it counted, RFC 3339.
        until: the end of the grace; carrying it on does not change it.
        verdict, score, rules, endpoint, engine_version: as they were then; rules by their ids.
    """

    decided_at: str
    until: str
    verdict: RiskLevel
    score: int | None
    rules: tuple[str, ...]
    endpoint: str
    engine_version: int | None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What to do about one input. The order of the fields is the order of the keys.

    Attributes:
        expires_at: an ``allow`` or ``warn`` does not hold longer, RFC 3339; None: as long as the file.
        suppression: the accepted finding that decided.
        carried: the verdict of before, where there is no new one and the grace is not over.
    """

    path: str
    source: str
    manifest_line: int | None
    id: Any
    sha256: str | None
    decision: Action
    reason: Reason
    verdict: RiskLevel | None
    score: int | None
    rules: tuple[str, ...]
    endpoint: str
    engine_version: int | None
    expires_at: str | None
    suppression: Suppression | None
    carried: Carried | None


class DecisionsWriter:
    """Writes the document into a file that can be written at any place.

    Args:
        file: empty.
        head: what the file begins with; its counts are filled in at the end.
    """

    def __init__(self, file: BinaryIO, head: Head) -> None:
        self._file = file
        self._encoder = msgspec.json.Encoder()
        self._separator = b""
        largest = Counts(**dict.fromkeys(Counts.__struct_fields__, _MOST))
        entries = SuppressionCounts(**dict.fromkeys(SuppressionCounts.__struct_fields__, _MOST))
        longest = msgspec.structs.replace(head, counts=largest, suppressions=entries)
        self._room = len(self._encoder.encode(longest))
        self._file.write(b" " * self._room + _OPEN)

    def add(self, decision: Decision) -> None:
        """Write the next decision."""
        self._file.write(self._separator + self._encoder.encode(decision))
        self._separator = b",\n"

    def finish(self, head: Head) -> None:
        """Write the end, and the head as it is now known."""
        self._file.write(b"\n" + _CLOSE)
        self._file.seek(0)
        self._file.write(self._encoder.encode(head).removesuffix(b"}").ljust(self._room))


def read_head(path: Path) -> Head:
    """Read the head of a file of decisions.

    Raises:
        UsageError: it cannot be read, is of another schema, or not as batchscan writes it.
    """
    with _opened(path) as file:
        return _head(file.readline(_LONGEST_LINE_BYTES), path)


def read_decisions(path: Path) -> Iterator[Decision]:
    """Yield the decisions of a file, one after the other.

    Raises:
        UsageError: as ``read_head``; or it has not as many decisions as its head counts.
    """
    decoder = msgspec.json.Decoder(Decision)
    with _opened(path) as file:
        number = _head(file.readline(_LONGEST_LINE_BYTES), path).counts.inputs
        found = 0
        while (line := file.readline(_LONGEST_LINE_BYTES)) and line != _CLOSE:
            try:
                yield decoder.decode(line.rstrip(b"\n").removesuffix(b","))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise _foreign(path, f"line {found + 2}: {error}") from error
            found += 1
        if line != _CLOSE or found != number:
            raise _foreign(path, f"it is cut off, or changed: {found} of {number} decisions")


def decisions_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the file, as shipped in the package."""
    content = files(__package__).joinpath("decisions.schema.json").read_bytes()
    return msgspec.json.decode(content, type=dict[str, Any])


def _opened(path: Path) -> BinaryIO:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _foreign(path, "it is not a regular file")
        return path.open("rb")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); name a file of decisions") from error


def _head(line: bytes, path: Path) -> Head:
    if not line.endswith(_OPEN):
        raise _foreign(path, "its first line is not their head")
    try:
        head = msgspec.json.decode(line.removesuffix(_OPEN) + b"}", type=Head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _foreign(path, str(error)) from error
    if head.schema != DECISIONS_SCHEMA:
        raise _foreign(path, f"its schema is {head.schema!r}, not {DECISIONS_SCHEMA!r}")
    return head


def _foreign(path: Path, why: str) -> UsageError:
    return UsageError(f"{path}: these are no decisions as `batchscan decide` writes them ({why})")
