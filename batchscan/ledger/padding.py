"""Padding: lists of values in a few lengths, so that a few statements serve lists of any length.

The driver keeps the statements that it has prepared, by their text; one with 500 values takes up to 0.3 MB.
A service makes runs of every size: with a text for each length, a hundred of them came to tens of megabytes.
"""

from collections.abc import Collection
from typing import TypeVar

T = TypeVar("T")


def padded(values: Collection[T]) -> list[T]:
    """Repeat the last value until their number is a power of two.

    For values where one that is there twice changes nothing: of an IN, or of rows that are inserted unless
    they are there.
    """
    found = list(values)
    if found:
        found += found[-1:] * ((1 << (len(found) - 1).bit_length()) - len(found))
    return found
