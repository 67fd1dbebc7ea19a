"""What a report has no row for, though its run met it. The ledger's summary of the run tells.

A report that was cut at a line's end, or whose rows somebody took out, looks whole by itself.
"""

import msgspec

from batchscan.report.summary import UNREAD


class Extent(msgspec.Struct, frozen=True):
    """What a summary says of the inputs; ``inputs`` is None where there is no summary."""

    inputs: int | None = None
    skipped: dict[str, int] = {}


class Gaps(msgspec.Struct, frozen=True):
    """What is not there.

    Attributes:
        rowless: inputs that the run had, and the report has no row of.
        unread: directories that the run could not read.
    """

    rowless: int = 0
    unread: int = 0

    @property
    def any(self) -> bool:
        """Whether there is a gap."""
        return bool(self.rowless or self.unread)

    def told(self) -> tuple[str, ...]:
        """Say each in words."""
        lines = []
        if self.rowless:
            lines.append(f"the run had {self.rowless} more inputs than the report has rows")
        if self.unread:
            lines.append(f"{self.unread} directories could not be read")
        return tuple(lines)


def extent_of(summary: str | None) -> Extent:
    """Read what the ledger's summary of a run says of its inputs."""
    return Extent() if summary is None else msgspec.json.decode(summary, type=Extent)


def find_gaps(summary: str | None, rows: int) -> Gaps:
    """Hold a report of so many rows against the summary of its run, None where that is not known."""
    extent = extent_of(summary)
    rowless = 0 if extent.inputs is None else max(0, extent.inputs - rows)
    return Gaps(rowless=rowless, unread=extent.skipped.get(UNREAD, 0))
