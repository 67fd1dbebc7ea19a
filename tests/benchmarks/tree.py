"""Trees of small, distinct skill ZIPs, made quickly: a million of them in about a minute."""

import hashlib
import struct
import zlib
from pathlib import Path

_PER_DIRECTORY = 1000
_NAME = b"SKILL.md"
_DOS_2000 = (0, (2000 - 1980) << 9 | 1 << 5 | 1)


def skill_zip(number: int, size: int = 0) -> bytes:
    """A stored ZIP with one SKILL.md, unlike that of any other number.

    Args:
        number: what makes it distinct.
        size: bytes of the ZIP, about; the rest is filler.
    """
    text = b"---\nname: skill-%d\ndescription: Sorts list %d.\n---\nSort the list.\n" % (number, number)
    if size > len(text):
        text += b"\n" + (b"%032x\n" % number) * ((size - len(text)) // 33)
    crc, length = zlib.crc32(text), len(text)
    time, date = _DOS_2000
    common = struct.pack("<HHHHHLLLHH", 20, 0, 0, time, date, crc, length, length, len(_NAME), 0)
    local = b"PK\x03\x04" + common + _NAME + text
    central = b"PK\x01\x02" + struct.pack("<H", 20) + common + struct.pack("<HHHLL", 0, 0, 0, 0, 0) + _NAME
    end = b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, 1, 1, len(central), len(local), 0)
    return local + central + end


def make_tree(root: Path, count: int, size: int = 0, *, first: int = 0, by_digest: bool = False) -> Path:
    """Fill ``root`` with that many ZIPs, a thousand to a directory; what is there is kept.

    Args:
        root: the tree; a file beside it notes that it is complete.
        count: how many.
        size: bytes of each, about.
        first: number of the first: trees with other numbers share no content.
        by_digest: name files by their digest, for the sink.
    """
    done = root.with_name(f"{root.name}.{count}.{size}.made")
    if done.exists():
        return root
    for start in range(0, count, _PER_DIRECTORY):
        directory = root / f"{start // _PER_DIRECTORY:05d}"
        directory.mkdir(parents=True, exist_ok=True)
        for number in range(start, min(start + _PER_DIRECTORY, count)):
            content = skill_zip(first + number, size)
            name = hashlib.sha256(content).hexdigest() if by_digest else f"skill-{number:07d}"
            (directory / f"{name}.zip").write_bytes(content)
    done.touch()
    return root
