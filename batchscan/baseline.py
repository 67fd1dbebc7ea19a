"""A baseline: findings that were known before, so that a gate counts only what came since.

A finding is known when the baseline has one of the same content that is as bad or worse. A changed file is
other content, and so is judged anew; where a file lies does not matter.

33 bytes of memory a finding in the baseline, nothing for its other rows.
"""

from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from batchscan.errors import ReportError, UsageError
from batchscan.models import RiskLevel, Row
from batchscan.report.lines import digest_of, read_rows
from batchscan.report.survey import NAMES_LIMIT

_DIGEST_BYTES = 32
_RANKS: Final = {RiskLevel.SUSPICIOUS: b"\x01", RiskLevel.MALICIOUS: b"\x02"}
_ABOVE_ALL = b"\x03"


class Baseline:
    """Knows findings by their content.

    Attributes:
        findings: different contents that are malicious or suspicious in it.
        missing: inputs without a verdict in it; what they are now is not known from before.
        endpoints: who judged, in the order met; a finding of another engine is known all the same.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self.missing = 0
        self.endpoints: dict[str, None] = {}
        parts = [bytearray() for _ in range(256)]  # by the first byte, so that sorting takes no room
        for row in rows:
            self._note(row)
            if (key := _key(row)) is not None:
                parts[key[0]] += key
        self._known = [_Records(_sorted(parts.pop())) for _ in range(256)][::-1]
        self.findings = sum(len(part) for part in self._known)

    @classmethod
    def load(cls, report: Path) -> "Baseline":
        """Read a report. Blocks for about 5 seconds a million rows.

        Raises:
            UsageError: there is no such file, it is no report, or it is cut off.
        """
        try:
            return cls(read_rows(report))
        except ReportError as error:
            raise UsageError(f"the baseline cannot be used: {error}") from error

    def covers(self, row: Row) -> bool:
        """Whether the row is a finding that is known: the same content, and as bad or worse there.

        False for a row that is no finding.
        """
        key = _key(row)
        if key is None:
            return False
        found = self._known[key[0]].last_before(key[:_DIGEST_BYTES] + _ABOVE_ALL)
        return found is not None and found >= key

    def _note(self, row: Row) -> None:
        if row.verdict is None:
            self.missing += 1
        if row.endpoint not in self.endpoints and len(self.endpoints) < NAMES_LIMIT:
            self.endpoints[row.endpoint] = None


class _Records:
    """Sorted digests, each with the rank of its finding, in one piece of memory."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __len__(self) -> int:
        return len(self._content) // (_DIGEST_BYTES + 1)

    def __getitem__(self, number: int) -> bytes:
        start = number * (_DIGEST_BYTES + 1)
        return self._content[start : start + _DIGEST_BYTES + 1]

    def last_before(self, key: bytes) -> bytes | None:
        number = bisect_right(self, key)
        return self[number - 1] if number else None


def _sorted(content: bytearray) -> bytes:
    """Sort records; of several with one digest the worst stays."""
    records = _Records(bytes(content))
    worst = {record[:_DIGEST_BYTES]: record for record in sorted(records[n] for n in range(len(records)))}
    return b"".join(worst.values())


def _key(row: Row) -> bytes | None:
    """Digest and rank of a finding; None for a row that is none."""
    rank = None if row.verdict is None else _RANKS.get(row.verdict)
    digest = None if rank is None else digest_of(row)
    return None if rank is None or digest is None else digest + rank
