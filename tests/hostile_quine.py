"""A ZIP that holds itself, made by code after Russ Cox, "Zip Files All The Way Down" (2010).

The compressed stream is a program of two instructions: L(n) prints the n units that follow it (a stored
block of Deflate), R(n) prints again the n units printed last (a match in a block with fixed codes). The
program below prints the bytes in front of it, itself, and the bytes behind it. Its checksum is part of
what is checked; since a CRC is affine in each bit, the one that fits is the solution of 32 equations.
"""

import struct
import zlib

NAME = b"all/the/way/down/to/the/very/same/archive.zip"
UNIT = 5
MOST_TRIES = 64


def literal(size: int) -> bytes:
    """Print the ``size`` bytes that follow."""
    return b"\0" + struct.pack("<2H", size, size ^ 0xFFFF)


class Bits:
    """Bits in the order of RFC 1951: numbers from their low end, Huffman codes from their high end."""

    def __init__(self) -> None:
        self._bits: list[int] = []

    def number(self, value: int, width: int) -> "Bits":
        self._bits += [value >> n & 1 for n in range(width)]
        return self

    def code(self, value: int, width: int) -> "Bits":
        self._bits += [value >> n & 1 for n in reversed(range(width))]
        return self

    def match(self, length: int, distance: int) -> "Bits":
        """Copy 3 to 114 bytes, by the fixed codes of RFC 1951, sections 3.2.5 and 3.2.6."""
        extra = max((length - 3).bit_length() - 3, 0)
        symbol = 257 + (length - 3 >> extra) + 4 * extra
        self.code(symbol - 256, 7).number((length - 3) & (1 << extra) - 1, extra)
        extra = max((distance - 1).bit_length() - 2, 0)
        symbol = (distance - 1 >> extra) + 2 * extra
        return self.code(symbol, 5).number((distance - 1) & (1 << extra) - 1, extra)

    def bytes(self) -> bytes:
        padded = self._bits + [0] * (-len(self._bits) % 8)
        return bytes(
            sum(bit << n for n, bit in enumerate(padded[at : at + 8])) for at in range(0, len(padded), 8)
        )


def block(*, last: bool) -> Bits:
    return Bits().number(last, 1).number(1, 2)


def repeat_units() -> bytes:
    """R(4), in exactly one unit."""
    return block(last=False).match(10, 20).match(10, 20).code(0, 7).bytes()


def repeat_head(size: int) -> bytes:
    """R of the bytes in front and one L: in one unit, because that L ends in 0xFF, a code of nine bits."""
    return block(last=False).match(size - 1, size).code(0x1FF, 9).code(0, 7).bytes()


def repeat_tail(size: int) -> bytes:
    """R of itself and the bytes behind, and the end of the stream."""
    half = size // 2
    return block(last=True).match(half, size).match(size - half, size).code(0, 7).bytes()


def program(head: bytes, tail: bytes) -> bytes:
    """A stream that inflates to ``head``, itself, and ``tail``."""
    size = len(head) + UNIT
    begin, again, four = literal(size), repeat_head(size), repeat_units()
    length = len(repeat_tail(len(tail) + UNIT))
    for _ in range(2):  # the length of the last instruction is part of what it repeats
        last = repeat_tail(len(tail) + length)
        length = len(last)
    end = literal(len(tail) + len(last))
    one, four_units, nothing = literal(UNIT), literal(4 * UNIT), literal(0)
    code = (
        *(begin, head, begin, again, one, again, one, one),
        *(four_units, again, one, one, four_units, four),
        *(four_units, four, four_units, four, four_units, four),
        *(four_units, four, nothing, nothing, end, four),
        *(nothing, nothing, end, last, tail, last),
    )
    assert {len(begin), len(again), len(four)} == {UNIT}
    return b"".join(code)


def archive(crc: int, minute: int, size: int = 0, packed: int = 0) -> bytes:
    """The whole file, with sizes and checksum as told."""
    fields = (20, 0, 8, minute << 5, 33, crc, packed, size, len(NAME), 0)
    head = struct.pack("<4s5H3L2H", b"PK\3\4", *fields) + NAME
    central = struct.pack("<4s6H3L5H2L", b"PK\1\2", 0x0314, *fields, 0, 0, 0, 0o100644 << 16, 0) + NAME
    place = len(head) + packed
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(central), place, 0)
    stream = program(head, central + end)
    if (len(stream), len(head + stream + central + end)) != (packed, size):
        return archive(crc, minute, len(head + stream + central + end), len(stream))
    return head + stream + central + end


def quine() -> bytes:
    """The archive whose only entry is the archive, byte for byte."""
    for minute in range(MOST_TRIES):  # not every such system of equations has a solution
        start = zlib.crc32(archive(0, minute))
        columns = [zlib.crc32(archive(1 << n, minute)) ^ start ^ 1 << n for n in range(32)]
        crc = solved(columns, start)
        if crc is not None:
            return archive(crc, minute)
    raise AssertionError("no checksum fits")


def solved(columns: list[int], wanted: int) -> int | None:
    """Which columns give ``wanted`` when they are added, one bit for each; arithmetic is modulo 2."""
    basis: dict[int, tuple[int, int]] = {}
    for number, column in enumerate(columns):
        value, used = reduced(column, basis)
        if value:
            basis[value.bit_length()] = (value, used ^ 1 << number)
    value, used = reduced(wanted, basis)
    return None if value else used


def reduced(value: int, basis: dict[int, tuple[int, int]]) -> tuple[int, int]:
    used = 0
    for top in sorted(basis, reverse=True):
        if value >> top - 1 & 1:
            value ^= basis[top][0]
            used ^= basis[top][1]
    return value, used
