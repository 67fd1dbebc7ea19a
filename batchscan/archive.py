"""Look at a ZIP the way several readers would, without extracting or inflating anything.

Rule: only what no reader can open is a ``Problem``; whatever is odd, hostile or ambiguous is a note
on an ``Inspection`` and goes to the scan, because that is what the scan is for. What Python's
``zipfile`` opens is opened here with the same file count. Layout: PKWARE APPNOTE 6.3.10, sections
4.3.7 (local header), 4.3.12 (central directory), 4.3.14 to 4.3.16 (end records).

Work is one pass over the central directory: time and memory are linear in its bytes, whatever the
counts and sizes in it claim. ``docs/inputs.md`` explains every note.
"""

import re
import unicodedata
from array import array
from collections.abc import Iterator
from itertools import islice
from operator import lt
from struct import Struct
from typing import NamedTuple

from batchscan.models import Inspection, Problem

BOMB_RATIO = 200
"""Declared bytes per compressed byte in one file; code and prose stay below 20."""
BOMB_RATIO_FLOOR_BYTES = 1 << 20
"""Files that declare less than this are never a bomb by ratio."""
BOMB_TOTAL_BYTES = 256 << 20
"""Declared bytes of all files together; 7 MB of code or prose unpack to less than 100 MB."""
MANY_ENTRIES = 10_000
"""More entries than this are noted: each file is billed."""
DESCRIPTOR_BYTES = 24
"""The longest data descriptor (APPNOTE 4.3.9): a smaller gap between entries hides nothing."""

_END = Struct("<4s4H2LH")
_END64 = Struct("<4s8x4x2L4Q")
_LOCATOR = Struct("<4sLQL")
_CENTRAL = Struct("<4s4xHH4xLLLHHHH2xLL")
_CHAIN = Struct("<4s24x3H")
_LOCAL = Struct("<4s2xHH4xLLLHH")
_EXTRA = Struct("<HH")
_U64 = Struct("<Q")

_END_SIGNATURE = b"PK\x05\x06"
_CENTRAL_SIGNATURE = b"PK\x01\x02"
_LOCAL_SIGNATURE = b"PK\x03\x04"
_MAX_COMMENT = 1 << 16  # one more than can be: zipfile looks that far
_MAX_END_RECORDS = 4  # readers disagree about the last or the last but one; a forger may plant 16,000
_MAX32 = 0xFFFFFFFF
_MAX16 = 0xFFFF
_ENCRYPTED = 0x2041  # bits 0 (encrypted), 6 (strong encryption), 13 (masked directory)
_HAS_DESCRIPTOR = 0x8
_UTF8 = 0x800
_STORED, _DEFLATED = 0, 8
_DEFLATE_LIMIT = 1032  # zlib's technical notes: no deflate stream expands further
_LINK_KIND = 0xA  # the file type nibble of a Unix mode, as in stat(2)
_PLAIN_KINDS = frozenset((0, 4, 8))  # none given, directory, regular file
_MAGIC_BYTES = 4
_ARCHIVE_MAGIC = frozenset(
    (_LOCAL_SIGNATURE, _END_SIGNATURE, b"\x1f\x8b\x08\x00", b"7z\xbc\xaf", b"Rar!", b"\xfd7zX")
)
_ARCHIVE_SUFFIXES = frozenset(
    b"zip jar war apk whl egg tar tgz tbz tbz2 txz gz bz2 xz zst 7z rar cab iso".split()
)

_end_record = re.compile(_END_SIGNATURE, re.DOTALL)
_odd_name = re.compile(rb"[\x00-\x1f\x7f-\xff\\:]|\.\.|^/|^\Z")
_traversal = re.compile(rb"(?:^|[/\\])\.\.(?:\Z|[/\\\x00])")
_foreign_root = re.compile(rb"[A-Za-z]:|[/\\]{2}")
_skill_md = re.compile(rb"(?:^|[/\\])skill\.md\Z", re.IGNORECASE)
_controls = re.compile("[\x01-\x1f\x7f-\x9f]")
_bidi = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class _End(NamedTuple):
    """What an end record says, and where its central directory would be."""

    start: int
    stop: int
    shift: int  # bytes in front of the archive that its offsets do not count
    entries: int
    wide: bool
    notes: frozenset[str]


class _Entry(NamedTuple):
    """One central directory header; the name as its raw bytes."""

    flags: int
    method: int
    crc: int
    packed: int
    size: int
    disk: int
    attributes: int
    offset: int
    name: bytes
    whole: bool


def inspect(content: bytes | memoryview) -> Inspection | Problem:
    """Judge whether ``content`` is a ZIP, count its files and note what is odd about it.

    Costs about 5 microseconds an entry and never raises. For a large directory call it off the event loop.

    Returns:
        An ``Inspection``, or a ``Problem`` with the code ``empty`` (no bytes) or ``not-a-zip`` (no end
        record, cut short, or a central directory that is out of bounds or unreadable).
    """
    view = memoryview(content).cast("B")
    if not view:
        return Problem("empty", "the file has 0 bytes; a ZIP has at least 22")
    found = False
    for at in _end_positions(view):
        found = True
        for end in _layouts(view, at):
            if _is_readable(view, end):
                return _Survey(view, end).conclude()
    if found:
        return Problem(
            "not-a-zip", "the central directory is out of bounds or unreadable; the file is damaged"
        )
    if view[:4] == _LOCAL_SIGNATURE:
        return Problem("not-a-zip", "it starts like a ZIP but has no end record; the file is cut short")
    return Problem("not-a-zip", "no ZIP end record in the last 65,558 bytes; this is no ZIP")


def _end_positions(view: memoryview) -> Iterator[int]:
    """Offsets of possible end records, in the order in which zipfile would take them."""
    last = len(view) - _END.size
    first = None
    if last >= 0 and view[last : last + 4] == _END_SIGNATURE:
        first = last
        yield last
    tail = max(last - _MAX_COMMENT, 0)
    positions = [tail + match.start() for match in _end_record.finditer(view[tail:])]
    for at in reversed(positions[-_MAX_END_RECORDS:]):
        if at != first and at <= last:
            yield at


class _Directory(NamedTuple):
    """What an end record, or its ZIP64 twin, says of the central directory."""

    record: int  # where the record starts
    disk: int
    first_disk: int
    here: int
    total: int
    size: int
    offset: int
    disks: int = 1


def _layouts(view: memoryview, at: int) -> Iterator[_End]:
    """Where the central directory of this end record may be.

    First where zipfile looks (it ends where the end record starts), then where Go's archive/zip looks
    first (the stated offset). A ZIP64 record counts right in front of its locator, as zipfile has it, and
    behind the end record's own words where only the locator leads to it.
    """
    *fields, comment = _END.unpack_from(view, at)[1:]
    short = _Directory(at, *fields)
    notes = set()
    if comment:
        notes.add("comment")
    if at + _END.size + comment != len(view):
        notes.add("suffix-data" if at + _END.size + comment < len(view) else "cut-comment")
    near, far = _wide_records(view, at)
    if near is not None:
        yield from _places(view, near, notes | _wide_notes(near, short), wide=True)
        return
    if far is not None and far[-4:-1] != short[-4:-1]:  # count, size and offset
        yield from _places(view, short, notes | {"ambiguous-directory"}, wide=False)
    else:
        yield from _places(view, short, notes, wide=False)
    if far is not None:
        yield from _places(view, far, notes | _wide_notes(far, short), wide=True)


def _wide_notes(wide: _Directory, short: _Directory) -> set[str]:
    notes = {"zip64"}
    if short.total not in (_MAX16, wide.total):
        notes.add("lying-count")
    if wide.disks > 1:
        notes.add("split-archive")
    return notes


def _places(view: memoryview, told: _Directory, notes: set[str], *, wide: bool) -> Iterator[_End]:
    stop, total, size, offset = told.record, told.total, told.size, told.offset
    if told.disk or told.first_disk or told.here != total:
        notes.add("split-archive")
    start = stop - size
    if start != offset and view[offset : offset + 4] == _CENTRAL_SIGNATURE:
        notes.add("ambiguous-directory")
    if start >= 0:
        yield _End(start, stop, start - offset, total, wide, frozenset(notes))
    if start != offset and offset + size <= stop:
        yield _End(offset, offset + size, 0, total, wide, frozenset(notes | {"hidden-data"}))


def _wide_records(view: memoryview, at: int) -> tuple[_Directory | None, _Directory | None]:
    """The ZIP64 records of the end record at ``at``: right in front of the locator, and where it says."""
    place = at - _LOCATOR.size
    if place < 0:
        return None, None
    signature, _, stated, disks = _LOCATOR.unpack_from(view, place)
    if signature != b"PK\x06\x07":
        return None, None
    near, far = (
        _wide_record(view, start, disks) if 0 <= start <= place - _END64.size else None
        for start in (place - _END64.size, stated)
    )
    return near, far


def _wide_record(view: memoryview, start: int, disks: int) -> _Directory | None:
    signature, *fields = _END64.unpack_from(view, start)
    return _Directory._make((start, *fields, disks)) if signature == b"PK\x06\x06" else None


def _is_readable(view: memoryview, end: _End) -> bool:
    """Whether there is header after header up to the end of the central directory.

    Looked at first and cheaply: a forger may plant several directories that break at their last entry.
    """
    at, stop = end.start, end.stop
    while at < stop:
        if at + _CENTRAL.size > stop:
            return False
        signature, name, extra, comment = _CHAIN.unpack_from(view, at)
        if signature != _CENTRAL_SIGNATURE:
            return False
        at += _CENTRAL.size + name + extra + comment
    return True


def _entries(view: memoryview, end: _End) -> Iterator[tuple[_Entry, tuple[str, ...]]]:
    """Each header of a readable central directory, and what is odd about its extra fields.

    A last name that runs out of the directory is cut, as zipfile does.
    """
    at, stop = end.start, end.stop
    while at < stop:
        _, flags, method, crc, packed, size, name, extra, comment, disk, attributes, offset = (
            _CENTRAL.unpack_from(view, at)
        )
        begin = at + _CENTRAL.size
        middle = begin + name
        at = middle + extra + comment
        odd: tuple[str, ...] = ()
        if extra:
            fields = view[min(middle, stop) : min(middle + extra, stop)]
            packed, size, offset, odd = _wide_fields(fields, packed, size, offset)
        raw = bytes(view[begin : min(middle, stop)])
        yield (
            _Entry(flags, method, crc, packed, size, disk, attributes, offset + end.shift, raw, at <= stop),
            odd,
        )


def _wide_fields(
    extra: memoryview, packed: int, size: int, offset: int
) -> tuple[int, int, int, tuple[str, ...]]:
    """Apply a ZIP64 extra field (APPNOTE 4.5.3) and say what is odd about the extra fields."""
    at = 0
    while at + _EXTRA.size <= len(extra):
        kind, length = _EXTRA.unpack_from(extra, at)
        at += _EXTRA.size
        if at + length > len(extra):
            return packed, size, offset, ("bad-extra-field",)
        if kind == 1:
            values = _U64.iter_unpack(extra[at : at + length // 8 * 8])
            try:
                size = next(values)[0] if size == _MAX32 else size
                packed = next(values)[0] if packed == _MAX32 else packed
                offset = next(values)[0] if offset == _MAX32 else offset
            except StopIteration:
                return packed, size, offset, ("bad-extra-field", "zip64")
            return packed, size, offset, ("zip64",)
        at += length
    return packed, size, offset, ()


class _Survey:
    """What is known after each entry. Holds 8 bytes and one hash for each, never the entries."""

    def __init__(self, view: memoryview, end: _End) -> None:
        self.view = view
        self.end = end
        self.notes = set(end.notes)
        self.files = 0
        self.entries = 0
        self.total = 0
        self.has_skill = False
        self.folded: set[int] = set()
        self.spans = array("Q")
        for entry, odd in _entries(view, end):
            self._add(entry)
            self.notes.update(odd)

    def _add(self, entry: _Entry) -> None:
        """Take one entry into account."""
        self.entries += 1
        name = entry.name
        shown = name if b"\0" not in name else _until_nul(name)
        if not shown.endswith(b"/"):
            self.files += 1
            if not self.has_skill and _skill_md.search(shown):
                self.has_skill = True
            _, dot, suffix = shown.rpartition(b".")
            if dot and suffix.lower() in _ARCHIVE_SUFFIXES:
                self.notes.add("nested-archive")
        if _odd_name.search(name):
            self.notes.update(_name_notes(name))
        self.folded.add(hash(_fold(shown)))
        if entry.flags & _ENCRYPTED:
            self.notes.add("encrypted")
        kind = entry.attributes >> 28
        if kind not in _PLAIN_KINDS:
            self.notes.add("symlink" if kind == _LINK_KIND else "special-file")
        if entry.disk and not (self.end.wide and entry.disk == _MAX16):
            self.notes.add("split-archive")
        self._weigh(entry)
        self._place(entry)

    def _weigh(self, entry: _Entry) -> None:
        size, packed = entry.size, entry.packed
        self.total += size
        if size > BOMB_RATIO_FLOOR_BYTES and size > BOMB_RATIO * packed:
            self.notes.add("zip-bomb-ratio")
        if entry.method == _STORED:
            # encryption adds a header of at least 12 bytes
            if size != packed and not entry.flags & _ENCRYPTED:
                self.notes.add("lying-size")
        elif entry.method != _DEFLATED:
            self.notes.add("unsupported-method")
        elif size > _DEFLATE_LIMIT * packed:
            self.notes.add("lying-size")

    def _place(self, entry: _Entry) -> None:
        """Compare the entry with its local header and remember which bytes it takes."""
        at = entry.offset
        if not entry.whole or not 0 <= at <= self.end.start - _LOCAL.size:
            self.notes.add("entry-out-of-bounds")
            return
        signature, flags, method, crc, packed, size, name, extra = _LOCAL.unpack_from(self.view, at)
        begin = at + _LOCAL.size
        if (
            signature != _LOCAL_SIGNATURE
            or method != entry.method
            or (flags ^ entry.flags) & (_ENCRYPTED | _UTF8)
            or self.view[begin : begin + name] != entry.name
        ) or (
            (packed, size, crc) != (entry.packed, entry.size, entry.crc)
            and not flags & _HAS_DESCRIPTOR  # it holds the sizes then
            and _MAX32 not in (packed, size)  # a local ZIP64 extra holds them then
        ):
            self.notes.add("local-header-mismatch")
        begin += name + extra
        stop = begin + entry.packed
        if stop > self.end.start:
            self.notes.add("entry-out-of-bounds")
            stop = self.end.start
        if (
            entry.method == _STORED
            and entry.size >= _MAGIC_BYTES
            and bytes(self.view[begin : begin + _MAGIC_BYTES]) in _ARCHIVE_MAGIC
        ):
            self.notes.add("nested-archive")
        if stop <= _MAX32:
            self.spans.append(at << 32 | stop)

    def conclude(self) -> Inspection:
        """Draw the conclusions that need all entries."""
        end, notes = self.end, self.notes
        if not self.has_skill:
            notes.add("no-skill-md")
        if self.entries > MANY_ENTRIES:
            notes.add("many-entries")
        if self.total > BOMB_TOTAL_BYTES:
            notes.add("zip-bomb-size")
        if self.entries != end.entries:
            notes.add("lying-count")
        if len(self.folded) < self.entries:
            notes.update(self._same_names())
        first = self._gaps()
        if first > 0:
            notes.add("prefix-data")
        if self._end_records(first) > 1:
            notes.add("multiple-end-records")
        return Inspection(self.files, tuple(sorted(notes)))

    def _same_names(self) -> set[str]:
        """Tell names given twice from names that differ only in case or normal form."""
        distinct = len({hash(_until_nul(entry.name)) for entry, _ in _entries(self.view, self.end)})
        notes = set()
        if distinct < self.entries:
            notes.add("duplicate-name")
        if distinct > len(self.folded):
            notes.add("case-collision")
        return notes

    def _gaps(self) -> int:
        """Note entries that share bytes and bytes that belong to none; return where the first one starts."""
        if not self.spans:
            return 0 if self.entries else self.end.start
        ordered = all(map(lt, self.spans, islice(self.spans, 1, None)))
        spans = self.spans if ordered else sorted(self.spans)
        reached = spans[0] >> 32
        for span in spans:
            start, stop = span >> 32, span & _MAX32
            if start < reached:
                self.notes.add("overlapping-entries")
            elif start - reached > DESCRIPTOR_BYTES:
                self.notes.add("hidden-data")
            reached = max(reached, stop)
        if self.end.start - reached > DESCRIPTOR_BYTES:
            self.notes.add("hidden-data")
        return spans[0] >> 32

    def _end_records(self, first: int) -> int:
        """How many end records lie outside the files: in front of the first one, or behind the last one."""
        return sum(
            len(_end_record.findall(part)) for part in (self.view[:first], self.view[self.end.start :])
        )


def _until_nul(name: bytes) -> bytes:
    """The name as readers in C, and zipfile, see it."""
    return name.partition(b"\0")[0]


def _fold(name: bytes) -> bytes:
    """A form that is equal for names that a case-insensitive or normalising file system takes for one."""
    if name.isascii():
        return name.lower()
    text = name.decode(errors="surrogateescape")
    return unicodedata.normalize("NFC", text.casefold()).encode(errors="surrogateescape")


def _name_notes(name: bytes) -> set[str]:
    """What is odd about one name; only called for names that are not plain ASCII paths."""
    notes = set()
    if not name:
        notes.add("empty-name")
    if b"\0" in name:
        notes.add("nul-in-name")
    if _traversal.search(name):
        notes.add("path-traversal")
    if _foreign_root.match(name):
        notes.add("unc-or-drive-path")
    elif name.startswith((b"/", b"\\")):
        notes.add("absolute-path")
    try:
        text = name.decode()
    except UnicodeDecodeError:
        notes.add("undecodable-name")
        text = name.decode("ascii", errors="ignore")
    if _controls.search(text):
        notes.add("control-in-name")
    if _bidi.search(text):
        notes.add("bidi-in-name")
    return notes
