"""ZIP safety: read a skill's archive into memory without trusting a word it says.

Every size is enforced while inflating, whatever the headers declare, and every name is checked
before it becomes a path. What is refused is not an error but a finding: the rest is still read.
Reading is pure (bytes in, records out); only ``write_tree`` touches the disk.
"""

import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from batchscan.embedded.analysis.names import collision_key, printable, refuse_name, tidy_name
from batchscan.embedded.analysis.signals import FusedRule, Signal
from batchscan.models import RiskLevel

_CENTRAL_SIGNATURE = b"PK\x01\x02"
_LOCAL_SIGNATURE = b"PK\x03\x04"
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")  # APPNOTE 4.3.7
_ENCRYPTED_FLAGS = 0x1 | 0x40 | 0x2000  # traditional, strong, masked headers (APPNOTE 4.4.4)
_UTF8_FLAG = 0x800
_UNIX = 3  # "version made by": only then the high half of external_attr is a Unix mode
_MAX_LINK_BYTES = 4096
_MAX_COMMENT_BYTES = 256  # hosting sites put a commit id there
_CHUNK_BYTES = 256 * 1024


class UnreadableZipError(Exception):
    """The bytes are not a ZIP that can be listed: there is nothing to judge."""


class Limits(msgspec.Struct, frozen=True):
    """What is inflated at most.

    Attributes:
        members: entries, directories included.
        member_bytes: one entry, inflated.
        total_bytes: all entries together, inflated.
        ratio: inflated to stored size of one entry of at least ``ratio_from_bytes``.
        ratio_from_bytes: entries that inflate to less are too small to be a bomb.
    """

    members: int = 5000
    member_bytes: int = 32 * 1024 * 1024
    total_bytes: int = 64 * 1024 * 1024
    ratio: int = 200
    ratio_from_bytes: int = 1024 * 1024


class Contents(msgspec.Struct, frozen=True):
    """What an archive holds.

    Attributes:
        files: inflated content by relative, checked path.
        file_count: entries that are not directories, refused ones included: the billed amount.
        signals: what was refused, and why.
    """

    files: dict[str, bytes]
    file_count: int
    signals: tuple[Signal, ...] = ()


class _Refused(Exception):  # noqa: N818 - an internal jump to the next entry, not an error of ours
    """This entry is not read; carries the finding that it is."""

    def __init__(self, signal: Signal) -> None:
        super().__init__(signal.text)
        self.signal = signal


def _is_directory(info: zipfile.ZipInfo) -> bool:
    return info.filename.endswith("/")  # zipfile's own test raises for an empty name


def _suspicious(rule: FusedRule, text: str) -> Signal:
    return Signal(RiskLevel.SUSPICIOUS, rule, text)


def read_zip(content: bytes, limits: Limits | None = None) -> Contents:
    """Read all that is safe to read.

    Raises:
        UnreadableZipError: there is no central directory that can be listed.
    """
    limits = limits or Limits()
    entries = content.count(_CENTRAL_SIGNATURE)  # an upper bound, known before anything is parsed
    if entries > limits.members:
        text = f"archive bomb: up to {entries} entries, more than {limits.members} are not looked into"
        return Contents({}, entries, (_suspicious(FusedRule.OBFUSCATION, text),))
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos, comment = archive.infolist(), archive.comment
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        ValueError,
        struct.error,
        EOFError,
        OverflowError,
    ) as exc:
        raise UnreadableZipError(f"not a readable ZIP: {exc}") from exc
    reader = _Reader(content, limits)
    for info in infos:
        reader.take(info)
    if len(comment) > _MAX_COMMENT_BYTES:
        text = f"archive comment of {len(comment)} bytes: content outside of the entries"
        reader.signals.append(_suspicious(FusedRule.OBFUSCATION, text))
    reader.signals.extend(_outside_entries(content, reader.spans))
    file_count = sum(not _is_directory(info) for info in infos)
    return Contents(reader.files, file_count, tuple(reader.signals))


class _Reader:
    """Takes one entry after the other; keeps what was read and what was refused."""

    def __init__(self, content: bytes, limits: Limits) -> None:
        self.files: dict[str, bytes] = {}
        self.signals: list[Signal] = []
        self.spans: list[tuple[int, int]] = []
        self._content = content
        self._limits = limits
        self._left = limits.total_bytes
        self._taken: dict[str, str] = {}
        self._parents: set[str] = set()

    def take(self, info: zipfile.ZipInfo) -> None:
        """Read one entry, or note why not."""
        try:
            start, end = _data_span(self._content, info)
            self.spans.append((info.header_offset, end))
            name = _checked_name(info)
            self._refuse_kind(info, start, end)
            if _is_directory(info):
                return
            self._refuse_collision(name)
            data = self._inflate(info, start, end)
        except _Refused as refused:
            self.signals.append(refused.signal)
            return
        self.files[name] = data
        self._left -= len(data)

    def _refuse_kind(self, info: zipfile.ZipInfo, start: int, end: int) -> None:
        name = printable(info.orig_filename)
        if info.flag_bits & _ENCRYPTED_FLAGS:
            raise _Refused(
                _suspicious(FusedRule.OBFUSCATION, f"encrypted entry, could not look inside: {name}")
            )
        mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
        kind = stat.S_IFMT(mode)
        if kind == stat.S_IFLNK:
            target = self._inflate(info, start, end)[:_MAX_LINK_BYTES].decode("utf-8", "replace")
            raise _Refused(_link_signal(info.orig_filename, target))
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _Refused(_suspicious(FusedRule.FILES, f"device, FIFO or socket entry: {name}"))

    def _refuse_collision(self, name: str) -> None:
        """Two entries that one file system holds as one: readers would disagree on the content."""
        key = collision_key(name)
        parents = [collision_key("/".join(name.split("/")[:n])) for n in range(1, name.count("/") + 1)]
        other = self._taken.get(key)
        if other is None and (key in self._parents or any(parent in self._taken for parent in parents)):
            other = "a directory of that name"
        if other is not None:
            text = f"ambiguous entry: {printable(name)} collides with {printable(other)}"
            raise _Refused(_suspicious(FusedRule.OBFUSCATION, text))
        self._taken[key] = name
        self._parents.update(parents)

    def _inflate(self, info: zipfile.ZipInfo, start: int, end: int) -> bytes:
        name = printable(info.orig_filename)
        room = min(self._limits.member_bytes, self._left)
        try:
            data = _inflated(memoryview(self._content)[start:end], info.compress_type, room)
        except zlib.error as exc:
            raise _Refused(_suspicious(FusedRule.OBFUSCATION, f"damaged entry: {name}: {exc}")) from exc
        if data is None:
            text = f"unknown compression method {info.compress_type}, could not look inside: {name}"
            raise _Refused(_suspicious(FusedRule.OBFUSCATION, text))
        if len(data) > room:
            text = f"archive bomb: {name} inflates beyond {room} bytes"
            raise _Refused(_suspicious(FusedRule.OBFUSCATION, text))
        stored = max(1, end - start)
        if len(data) >= self._limits.ratio_from_bytes and len(data) > stored * self._limits.ratio:
            text = f"archive bomb: {name} inflates {len(data) // stored} times"
            raise _Refused(_suspicious(FusedRule.OBFUSCATION, text))
        if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
            text = f"headers of {name} do not describe its content"
            raise _Refused(_suspicious(FusedRule.OBFUSCATION, text))
        return data


def _checked_name(info: zipfile.ZipInfo) -> str:
    refusal = refuse_name(info.orig_filename)
    if refusal is not None:
        level, text = refusal
        raise _Refused(Signal(level, FusedRule.FILES, f"{text}: {printable(info.orig_filename)}"))
    return tidy_name(info.orig_filename)


def _data_span(content: bytes, info: zipfile.ZipInfo) -> tuple[int, int]:
    """Where an entry's stored bytes lie, by its local header, which must agree on the name."""
    at = info.header_offset
    name = printable(info.orig_filename)
    header = content[at : at + _LOCAL_HEADER.size] if at >= 0 else b""
    if len(header) < _LOCAL_HEADER.size or not header.startswith(_LOCAL_SIGNATURE):
        raise _Refused(_suspicious(FusedRule.OBFUSCATION, f"no local header for {name}"))
    fields = _LOCAL_HEADER.unpack(header)
    flags, name_length, extra_length = fields[2], fields[9], fields[10]
    name_at = at + _LOCAL_HEADER.size
    encoding = "utf-8" if flags & _UTF8_FLAG else "cp437"
    local_name = content[name_at : name_at + name_length].decode(encoding, "replace")
    start = name_at + name_length + extra_length
    end = start + info.compress_size
    if local_name != info.orig_filename:
        raise _Refused(_suspicious(FusedRule.OBFUSCATION, f"two headers name one entry differently: {name}"))
    if end > len(content):
        raise _Refused(_suspicious(FusedRule.OBFUSCATION, f"entry reaches beyond the archive: {name}"))
    return start, end


def _inflated(stored: memoryview, method: int, room: int) -> bytes | None:
    """The entry's bytes, at most one more than ``room``; None for a method that is not read."""
    if method == zipfile.ZIP_STORED:
        return bytes(stored[: room + 1])
    if method != zipfile.ZIP_DEFLATED:
        return None
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    out = bytearray()
    for at in range(0, len(stored), _CHUNK_BYTES):
        out += inflater.decompress(stored[at : at + _CHUNK_BYTES], room + 1 - len(out))
        while inflater.unconsumed_tail and len(out) <= room:
            out += inflater.decompress(inflater.unconsumed_tail, room + 1 - len(out))
        if len(out) > room or inflater.eof:
            break
    if not inflater.eof and len(out) <= room:
        raise zlib.error("the compressed data ends early")
    return bytes(out)


def _link_signal(name: str, target: str) -> Signal:
    inside = tidy_name(name).split("/")[:-1]
    steps = target.replace("\\", "/").split("/")
    depth = len(inside)
    lowest = depth
    for step in steps:
        depth += {"..": -1, ".": 0, "": 0}.get(step, 1)
        lowest = min(lowest, depth)
    shown = f"{printable(name)} -> {printable(target)}"
    if lowest < 0 or not steps[0] or ":" in steps[0]:
        return Signal(RiskLevel.MALICIOUS, FusedRule.FILES, f"symbolic link out of the skill: {shown}")
    return _suspicious(FusedRule.FILES, f"symbolic link, not followed: {shown}")


def _outside_entries(content: bytes, spans: list[tuple[int, int]]) -> Iterator[Signal]:
    """Bytes that another reader would see: before, between and across the listed entries."""
    if not spans:
        return
    spans = sorted(spans)
    if spans[0][0] > 0:
        yield _suspicious(FusedRule.OBFUSCATION, f"{spans[0][0]} bytes before the first entry")
    reached = spans[0][1]
    for start, end in spans[1:]:
        if start < reached:
            yield _suspicious(FusedRule.OBFUSCATION, f"entries overlap at byte {start}")
            return
        if _LOCAL_SIGNATURE in content[reached:start]:
            yield _suspicious(FusedRule.OBFUSCATION, f"an entry at byte {reached} is not in the directory")
            return
        reached = end
    directory_at = content.find(_CENTRAL_SIGNATURE, reached)
    if _LOCAL_SIGNATURE in content[reached : max(reached, directory_at)]:
        yield _suspicious(FusedRule.OBFUSCATION, f"an entry at byte {reached} is not in the directory")


def write_tree(files: dict[str, bytes], directory: Path) -> None:
    """Write checked files below an empty, private directory; nothing there is ever executable.

    Raises:
        OSError: the disk refused; a name that was already there counts.
    """
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
