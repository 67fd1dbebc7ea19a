"""Hostile and odd ZIPs, made by code: nothing in here is a sample of anything real.

Each function returns the bytes of one file. ``CORPUS`` names those that take no arguments.
"""

import functools
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from hostile_quine import quine

SKILL_MD = b"---\nname: demo\ndescription: A demo skill.\n---\n\n# Demo\n"
GIB = 1 << 30


@dataclass(frozen=True)
class Entry:
    """One file; what is None is told truthfully. ``content`` is stored, not compressed."""

    name: bytes
    content: bytes = b""
    method: int = 0
    flags: int = 0
    size: int | None = None
    packed: int | None = None
    mode: int = 0o100644
    extra: bytes = b""
    disk: int = 0
    offset: int | None = None
    local_name: bytes | None = None
    crc: int | None = None


SKILL = Entry(b"SKILL.md", SKILL_MD)


def build(
    entries: Iterable[Entry] = (SKILL,),
    *,
    count: int | None = None,
    comment: bytes = b"",
    comment_length: int | None = None,
    disk: int = 0,
    wide: bool = False,
    before: bytes = b"",
) -> bytes:
    """A ZIP with whatever lies in it. ``before`` is put in front and counted in the offsets."""
    out = bytearray(before)
    directory = bytearray()
    told = 0
    for entry in entries:
        told += 1
        at = len(out) if entry.offset is None else entry.offset
        size = len(entry.content) if entry.size is None else entry.size
        packed = len(entry.content) if entry.packed is None else entry.packed
        crc = zlib.crc32(entry.content) if entry.crc is None else entry.crc
        name = entry.name if entry.local_name is None else entry.local_name
        if entry.offset is None:
            out += struct.pack(
                "<4s5H3L2H", b"PK\3\4", 20, entry.flags, entry.method, 0, 33, crc, packed, size, len(name), 0
            )
            out += name + entry.content
        directory += struct.pack(
            "<4s6H3L5H2L",
            *(b"PK\1\2", 0x0314, 20, entry.flags, entry.method, 0, 33, crc, packed, size),
            *(len(entry.name), len(entry.extra), 0, entry.disk, 0, entry.mode << 16, at),
        )
        directory += entry.name + entry.extra
    start = len(out)
    out += directory
    told = told if count is None else count
    short = told
    if wide:
        place = len(out)
        out += struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, told, told, len(directory), start)
        out += struct.pack("<4sLQL", b"PK\6\7", 0, place, 1)
        short = 0xFFFF
    length = len(comment) if comment_length is None else comment_length
    out += struct.pack(
        "<4s4H2LH", b"PK\5\6", disk, disk, short & 0xFFFF, short & 0xFFFF, len(directory), start, length
    )
    return bytes(out + comment)


def plain_skill(files: int = 3) -> bytes:
    """An honest skill: SKILL.md and deflated text, as zipfile writes it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("SKILL.md", (2000, 1, 1, 0, 0, 0)), SKILL_MD)
        for number in range(1, files):
            info = zipfile.ZipInfo(f"references/note-{number}.md", (2000, 1, 1, 0, 0, 0))
            archive.writestr(info, f"Note {number}.\n" * 20)
    return out.getvalue()


def empty_archive() -> bytes:
    return build([])


def text_file() -> bytes:
    return b"This is a text file, whatever its name says.\n" * 20


def truncated() -> bytes:
    return plain_skill()[:-30]


def without_end() -> bytes:
    return plain_skill()[:60]


def flat_bomb() -> bytes:
    """Headers that declare 10 GB in files of at most 4 GB, in a few hundred bytes."""
    bombs = [Entry(b"zeros-%d" % n, b"\0" * 64, method=8, size=(10 * GIB) // 4) for n in range(4)]
    return build([SKILL, *bombs])


def real_bomb(mib: int = 64) -> bytes:
    """Zeros that truly inflate to so many MiB."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("SKILL.md", SKILL_MD)
        archive.writestr("zeros", b"\0" * (mib << 20))
    return out.getvalue()


@functools.cache
def huge_bomb(mib: int = 3072) -> bytes:
    """Zeros that truly inflate to 3 GiB, out of 3 MB: one compressed megabyte, again and again."""
    packer = zlib.compressobj(9, wbits=-15)
    packed = packer.compress(b"\0" * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return build([SKILL, Entry(b"zeros", packed * mib + packer.flush(), method=8, size=mib << 20, crc=0)])


def overlapping() -> bytes:
    """Two directory entries over the same bytes."""
    return build([SKILL, Entry(b"SKILL.md", SKILL_MD, offset=0), Entry(b"b", b"b")])


def overlapping_bomb() -> bytes:
    """Three hundred entries over one piece of a megabyte of zeros: the compact kind of bomb."""
    packer = zlib.compressobj(9, wbits=-15)
    packed = packer.compress(b"\0" * (1 << 20)) + packer.flush()
    crc = zlib.crc32(b"\0" * (1 << 20))
    bomb = Entry(b"zeros-000", packed, method=8, size=1 << 20, crc=crc)
    at = 30 + len(SKILL.name) + len(SKILL.content)
    others = [replace(bomb, name=b"zeros-%03d" % number, offset=at) for number in range(1, 300)]
    return build([SKILL, bomb, *others])


def nested_bomb(levels: int = 3, copies: int = 8, mib: int = 4) -> bytes:
    """ZIPs in ZIPs, each level several times, around zeros: 2 GiB in a few kilobytes."""
    content, name = b"\0" * (mib << 20), "zeros-{}"
    for level in range(levels):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            if level == levels - 1:
                archive.writestr("SKILL.md", SKILL_MD)
            for number in range(copies):
                archive.writestr(zipfile.ZipInfo(name.format(number), (2000, 1, 1, 0, 0, 0)), content, 8)
        content, name = out.getvalue(), f"level-{level}-{{}}.zip"
    return content


def zip64() -> bytes:
    return build(wide=True)


def zip64_lying_count() -> bytes:
    """A trillion entries, says the end record."""
    return build(count=1 << 40, wide=True)


def zip64_elsewhere() -> bytes:
    """A ZIP64 record that only its locator leads to, and that names another directory."""
    wide = build([SKILL, Entry(b"second", b"2")], wide=True)
    at, end = wide.rindex(b"PK\6\7"), wide.rindex(b"PK\5\6")
    short = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, 0, 0, 0)
    return wide[:at] + b"#" * 60 + wide[at:end] + short


def zip64_extra() -> bytes:
    """The true sizes stand in the ZIP64 extra field."""
    size = len(SKILL_MD)
    extra = struct.pack("<HHQQ", 1, 16, size, size)
    return build([Entry(b"SKILL.md", SKILL_MD, size=0xFFFFFFFF, packed=0xFFFFFFFF, extra=extra)])


def lying_size() -> bytes:
    return build([Entry(b"SKILL.md", SKILL_MD, size=len(SKILL_MD) + 1)])


def lying_count() -> bytes:
    return build([SKILL, Entry(b"second", b"2")], count=1)


def beyond_the_end() -> bytes:
    """An entry that claims more bytes than the file has."""
    return build([Entry(b"SKILL.md", SKILL_MD, packed=1 << 24, size=1 << 24)])


def duplicate_names() -> bytes:
    return build([SKILL, Entry(b"SKILL.md", b"another one")])


def case_collision() -> bytes:
    return build([SKILL, Entry(b"run.sh", b"1"), Entry(b"RUN.sh", b"2")])


def named(name: bytes, *, utf8: bool = True) -> bytes:
    """A skill with one more file of this name."""
    return build([SKILL, Entry(name, b"x", flags=0x800 if utf8 else 0)])


def traversal() -> bytes:
    return named(b"../../etc/cron.d/job")


def backslash_traversal() -> bytes:
    return named(b"docs\\..\\..\\evil.bat")


def absolute() -> bytes:
    return named(b"/etc/passwd")


def unc() -> bytes:
    return named(b"\\\\server\\share\\evil.dll")


def drive() -> bytes:
    return named(b"C:\\Windows\\evil.dll")


def nul_name() -> bytes:
    return named(b"harmless.txt\0.exe")


def control_name() -> bytes:
    return named(b"a\x1b[2Jb")


def newline_name() -> bytes:
    """A name that would forge a second line."""
    return named(b"a.md\nerror: all is well\r\n")


def empty_name() -> bytes:
    return named(b"")


def long_name() -> bytes:
    """As long as a name can be."""
    return named(b"n" * 0xFFFF)


def rtl_name() -> bytes:
    return named("note\u202etxt.exe".encode())


def emoji_name() -> bytes:
    return named("\U0001f600/\u6280\u80fd.md".encode())


def undecodable_name() -> bytes:
    return named(b"\xb0\xa1\xff.md")


def symlink() -> bytes:
    return build([SKILL, Entry(b"link", b"/etc/passwd", mode=0o120777)])


def device() -> bytes:
    return build([SKILL, Entry(b"null", mode=0o020666)])


def encrypted() -> bytes:
    return build([SKILL, Entry(b"secret", b"0" * 12 + b"x", flags=1, size=1)])


def split() -> bytes:
    return build(disk=3)


def prefixed() -> bytes:
    """A script in front whose length the offsets do not count."""
    return b"#!/bin/sh\nexit 0\n" + plain_skill()


def prefixed_and_counted() -> bytes:
    return build(before=b"#!/bin/sh\nexit 0\n")


def suffixed() -> bytes:
    return plain_skill() + b"\njunk behind the end record"


def two_archives() -> bytes:
    """Two ZIPs one after the other: two end records, two truths."""
    return build() + plain_skill()


def archive_in_comment() -> bytes:
    """A whole ZIP in the comment of another: readers disagree about which one it is."""
    return build([SKILL, Entry(b"first", b"1")], comment=plain_skill())


def signature_in_comment() -> bytes:
    """The last end record is none: some readers give up, others find the true one."""
    return build(comment=b"see PK\5\6 there")


def cut_comment() -> bytes:
    return build(comment=b"short", comment_length=500)


@functools.cache
def many(entries: int = 65_536) -> bytes:
    """More entries than a count of 16 bits can say."""
    return build((SKILL, *(Entry(b"f/%d" % n) for n in range(1, entries))), count=entries & 0xFFFF)


def unsupported_method() -> bytes:
    return build([SKILL, Entry(b"old.txt", b"imploded", method=6)])


def nested() -> bytes:
    return build([SKILL, Entry(b"payload.bin", plain_skill())])


def local_header_differs() -> bytes:
    return build([SKILL, Entry(b"shown.txt", b"x", local_name=b"extracted.sh")])


def hidden_data() -> bytes:
    """A file between two others that the directory does not list."""
    honest = build([SKILL, Entry(b"hidden.sh", b"echo hidden " * 10), Entry(b"c", b"c")])
    at = honest.index(b"PK\1\2", honest.index(b"PK\1\2") + 1)
    stop = honest.index(b"PK\1\2", at + 1)
    end = honest.rindex(b"PK\5\6")
    size = end - honest.index(b"PK\1\2") - (stop - at)
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, size, honest.index(b"PK\1\2"), 0)
    return honest[:at] + honest[stop:end] + tail


def bad_extra_field() -> bytes:
    return build([Entry(b"SKILL.md", SKILL_MD, extra=struct.pack("<HH", 0x5455, 40) + b"x")])


def no_skill_md() -> bytes:
    return build([Entry(b"README.md", b"no skill here")])


CORPUS: dict[str, Callable[[], bytes]] = {
    made.__name__: made
    for made in (
        *(plain_skill, empty_archive, text_file, truncated, without_end, flat_bomb, real_bomb, overlapping),
        *(
            huge_bomb,
            overlapping_bomb,
            nested_bomb,
            quine,
            zip64_lying_count,
            zip64_elsewhere,
            newline_name,
            empty_name,
        ),
        *(
            long_name,
            zip64,
            zip64_extra,
            lying_size,
            lying_count,
            beyond_the_end,
            duplicate_names,
            case_collision,
        ),
        *(traversal, backslash_traversal, absolute, unc, drive, nul_name, control_name, rtl_name, emoji_name),
        *(undecodable_name, symlink, device, encrypted, split, prefixed, prefixed_and_counted, suffixed),
        *(two_archives, archive_in_comment, signature_in_comment, cut_comment, many, unsupported_method),
        *(nested, local_header_differs, hidden_data, bad_extra_field, no_skill_md),
    )
}
