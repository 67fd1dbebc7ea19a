"""The geometry of charts: numbers in, places out. Pure; the templates draw.

Across, places are percentages, so that a chart is as wide as its column, on a phone too, and its texts
keep their size. Down, they are pixels.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

LEAST: Final = 0.8
"""Width that any count but 0 has at least in a bar, percent: one in a million must be seen."""

_THOUSAND, _MILLION = 1_000, 1_000_000
_ROOM: Final = 2  # columns that a text may reach into
_WIDEST: Final = 9.0  # of a column, percent: three runs are no wall


class Segment(msgspec.Struct, frozen=True):
    """A part of a bar; ``kind`` names its colour and pattern."""

    kind: str
    count: int
    x: float
    width: float


class Column(msgspec.Struct, frozen=True):
    """One column of a strip. ``text`` is its count in few characters, empty for 0."""

    label: str
    count: int
    text: str
    x: float
    middle: float
    width: float
    height: float


class Strip(msgspec.Struct, frozen=True):
    """Columns of one kind at their own scale: beside 50,000 benign ones, three malicious would vanish."""

    kind: str
    columns: list[Column]
    most: int


def bar(parts: Sequence[tuple[str, int]]) -> list[Segment]:
    """Share out a bar among its parts; parts of 0 are left out."""
    present = [(kind, number) for kind, number in parts if number > 0]
    total = sum(number for _, number in present)
    widths = [max(LEAST, 100 * number / total) for _, number in present]
    scale = 100 / sum(widths) if widths else 1
    segments, x = [], 0.0
    for (kind, number), width in zip(present, widths, strict=True):
        segments.append(Segment(kind, number, round(x, 2), round(width * scale, 2)))
        x += width * scale
    return segments


def strip(kind: str, labels: Sequence[str], counts: Sequence[int], height: float, *, texts: bool) -> Strip:
    """Draw one column for each label, the highest ``height`` pixels high.

    ``texts`` writes each count over its column; else only over the last one and the first of the highest.
    """
    most = max(counts, default=0)
    step = 100 / max(1, len(labels))
    width = min(step * 0.8, _WIDEST)
    last = len(labels) - 1
    peak = counts.index(most) if counts else 0
    columns = []
    for place, (label, number) in enumerate(zip(labels, counts, strict=True)):
        named = texts or place == last or (place == peak and last - peak > _ROOM)
        columns.append(
            Column(
                label=label,
                count=number,
                text=compact(number) if number and named else "",
                x=round((place + 0.5) * step - width / 2, 2),
                middle=round((place + 0.5) * step, 2),
                width=round(width, 2),
                height=round(max(2.0, height * number / most), 1) if number else 0.0,
            )
        )
    return Strip(kind, columns, most)


def compact(number: int) -> str:
    """Write a number in at most four characters: ``999``, ``1.2k``, ``12k``, ``3.4M``; cut, not rounded."""
    for unit, name in ((_MILLION, "M"), (_THOUSAND, "k")):
        if number >= 10 * unit:
            return f"{number // unit}{name}"
        if number >= unit:
            return f"{number * 10 // unit / 10:.1f}{name}"
    return str(number)
