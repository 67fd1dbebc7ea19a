"""What of an archive is read, what is refused, and that the refusal is a finding."""

import io
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchscan.embedded.analysis.names import collision_key, printable, refuse_name, tidy_name
from batchscan.embedded.analysis.unpack import Contents, Limits, UnreadableZipError, read_zip, write_tree
from batchscan.models import RiskLevel

Entry = tuple[str | zipfile.ZipInfo, bytes]


def pack(*entries: Entry, comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
        archive.comment = comment
    return buffer.getvalue()


def entry(name: str, mode: int, data: bytes = b"") -> Entry:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info, data


def refusals(contents: Contents) -> list[tuple[RiskLevel, str]]:
    return [(signal.level, signal.text) for signal in contents.signals]


def only_refusal(content: bytes, limits: Limits | None = None) -> tuple[RiskLevel, str]:
    found = refusals(read_zip(content, limits))
    assert len(found) == 1, found
    return found[0]


def test_ordinary_archive_is_read_without_a_word() -> None:
    contents = read_zip(pack(("SKILL.md", b"# hi"), ("a/", b""), ("a/b.txt", b"x" * 5000)))
    assert contents == Contents({"SKILL.md": b"# hi", "a/b.txt": b"x" * 5000}, file_count=2)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("../x", "path traversal"),
        ("a/../../x", "path traversal"),
        ("a\\..\\..\\x", "path traversal"),
        (".. /x", "path traversal"),
        ("/etc/x", "absolute path"),
        ("C:\\x", "drive or network path"),
        ("c:x", "drive or network path"),
        ("\\\\host\\share\\x", "drive or network path"),
        ("//host/x", "drive or network path"),
    ],
)
def test_a_name_that_leaves_the_skill_is_malicious_and_the_rest_is_read(name: str, what: str) -> None:
    contents = read_zip(pack(("SKILL.md", b"# hi"), (name, b"x")))
    assert [level for level, _ in refusals(contents)] == [RiskLevel.MALICIOUS]
    assert refusals(contents)[0][1].startswith(what)
    assert contents.files == {"SKILL.md": b"# hi"}
    assert contents.file_count == 2


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("a\x07b", "control or invisible"),
        ("a\u202eb", "control or invisible"),
        ("a\u200bb", "control or invisible"),
        ("./", "empty name"),
        ("x" * 256, "name too long"),
        ("d/" * 40 + "x", "name too long"),
    ],
)
def test_a_strange_name_is_suspicious(name: str, what: str) -> None:
    level, text = only_refusal(pack((name, b"x")))
    assert level is RiskLevel.SUSPICIOUS
    assert text.startswith(what)
    assert text.isprintable()


def test_a_nul_in_a_name_does_not_cut_it_short() -> None:
    content = pack(("runXsh", b"x")).replace(b"runXsh", b"run\x00sh")
    level, text = only_refusal(content)
    assert level is RiskLevel.SUSPICIOUS
    assert "run\\u0000sh" in text


def test_names_of_other_scripts_and_emoji_are_fine() -> None:
    names = ["模板/纪要.md", "می\u200cخواهم.md", "👩\u200d💻.md", "café.md"]
    assert sorted(read_zip(pack(*((name, b"x") for name in names))).files) == sorted(names)


@pytest.mark.parametrize(
    ("target", "level"),
    [
        ("AGENTS.md", RiskLevel.SUSPICIOUS),
        ("../AGENTS.md", RiskLevel.SUSPICIOUS),
        ("../../AGENTS.md", RiskLevel.MALICIOUS),
        ("/etc/passwd", RiskLevel.MALICIOUS),
        ("C:\\x", RiskLevel.MALICIOUS),
        ("x/../../../y", RiskLevel.MALICIOUS),
    ],
)
def test_a_symbolic_link_is_never_followed(target: str, level: RiskLevel) -> None:
    contents = read_zip(pack(entry("docs/CLAUDE.md", stat.S_IFLNK | 0o777, target.encode())))
    assert contents.files == {}
    assert refusals(contents)[0][0] is level
    assert "symbolic link" in refusals(contents)[0][1]


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_devices_are_refused(kind: int) -> None:
    level, text = only_refusal(pack(entry("dev", kind | 0o600)))
    assert (level, text.split(":")[0]) == (RiskLevel.SUSPICIOUS, "device, FIFO or socket entry")


def test_encrypted_entry_could_not_be_looked_into() -> None:
    content = bytearray(pack(("a.txt", b"secret")))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    level, text = only_refusal(bytes(content))
    assert (level, text.split(",")[0]) == (RiskLevel.SUSPICIOUS, "encrypted entry")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("SKILL.md", "SKILL.md"),
        ("SKILL.md", "skill.MD"),
        ("a", "a/b"),
        ("a/b", "A"),
        ("x.sh", "x.sh."),
        ("é", "e\u0301"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_entries_that_a_file_system_cannot_keep_apart(first: str, second: str) -> None:
    contents = read_zip(pack((first, b"1"), (second, b"2")))
    assert contents.files == {first: b"1"}
    level, text = refusals(contents)[0]
    assert (level, text.split(":")[0]) == (RiskLevel.SUSPICIOUS, "ambiguous entry")


def test_bomb_by_ratio() -> None:
    level, text = only_refusal(pack(("zeros", bytes(2_000_000))))
    assert level is RiskLevel.SUSPICIOUS
    assert text.startswith("archive bomb: zeros inflates ")


def test_bomb_by_size_of_one_and_of_all() -> None:
    limits = Limits(member_bytes=1000, total_bytes=1500)
    assert "beyond 1000 bytes" in only_refusal(pack(("a", b"x" * 1001)), limits)[1]
    contents = read_zip(pack(("a", b"x" * 1000), ("b", b"y" * 1000)), limits)
    assert list(contents.files) == ["a"]
    assert "b inflates beyond 500 bytes" in refusals(contents)[0][1]


def test_bomb_by_number_is_not_even_listed() -> None:
    contents = read_zip(pack(*((f"f{n}", b"") for n in range(11))), Limits(members=10))
    assert contents.files == {}
    assert contents.file_count == 11
    assert "archive bomb: up to 11 entries" in refusals(contents)[0][1]


def test_declared_sizes_are_not_believed() -> None:
    """An entry that says 10 bytes and inflates to 3 MB is stopped by what it inflates to."""
    data = bytes(range(256)) * 12_000
    content = bytearray(pack(("lie", data)))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", content, content.index(signature) + offset, 10)
    limits = Limits(member_bytes=1_000_000)
    assert "inflates beyond 1000000 bytes" in only_refusal(bytes(content), limits)[1]
    assert "do not describe its content" in only_refusal(bytes(content), Limits(ratio=10**6))[1]


def test_checksum_that_does_not_fit() -> None:
    content = bytearray(pack(("a", b"hello")))
    content[content.index(b"PK\x01\x02") + 16] ^= 1
    assert "do not describe its content" in only_refusal(bytes(content))[1]


def test_damaged_and_cut_deflate() -> None:
    whole = pack(("a", bytes(range(256)) * 40))
    start = whole.index(b"PK\x03\x04") + 31
    damaged = bytearray(whole)
    damaged[start : start + 8] = b"\xff" * 8
    assert "damaged entry" in only_refusal(bytes(damaged))[1]
    cut = bytearray(whole)
    struct.pack_into("<I", cut, cut.index(b"PK\x01\x02") + 20, 5)
    assert "damaged entry" in only_refusal(bytes(cut))[1]


def test_method_that_is_not_read() -> None:
    info = zipfile.ZipInfo("a")
    info.compress_type = zipfile.ZIP_LZMA
    assert "unknown compression method 14, could not look inside" in only_refusal(pack((info, b"x")))[1]


def test_two_headers_with_two_names() -> None:
    content = pack(("good.md", b"x"))
    at = content.index(b"PK\x01\x02")
    assert "two headers" in only_refusal(content[:at] + content[at:].replace(b"good.md", b"evil.sh"))[1]


def test_entry_that_only_a_streaming_reader_sees() -> None:
    """A complete local entry lies between two listed ones; the directory does not know it."""
    archive = pack(("a", b"1"), ("hidden", b"22222"), ("b", b"3"))
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        directory_at = opened.start_dir
    parts = archive[directory_at:].split(b"PK\x01\x02")
    directory = b"".join(b"PK\x01\x02" + part for part in (parts[1], parts[3]))
    listing, end = directory.split(b"PK\x05\x06")
    fixed = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 2, 2, len(listing), directory_at, 0)
    assert len(fixed) == len(end) + 4
    contents = read_zip(archive[:directory_at] + listing + fixed)
    assert sorted(contents.files) == ["a", "b"]
    assert "is not in the directory" in refusals(contents)[0][1]


def test_overlapping_entries() -> None:
    """Two directory entries share one entry's bytes, as quines and overlap bombs do."""
    archive = pack(("aa", b"1" * 50), ("bb", b"1" * 50))
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        second = opened.infolist()[1].header_offset
    content = bytearray(archive)
    at = content.rindex(b"PK\x01\x02")
    struct.pack_into("<I", content, at + 42, 0)
    content[at + 46 : at + 48] = b"aa"
    found = [text for _, text in refusals(read_zip(bytes(content)))]
    assert second > 0
    assert any(text.startswith("entries overlap") for text in found)


def test_bytes_before_the_first_entry_and_in_the_comment() -> None:
    assert only_refusal(b"#!/bin/sh\n" + pack(("a", b"1")))[1] == "10 bytes before the first entry"
    assert only_refusal(pack(("a", b"1"), comment=b"c" * 257))[1].startswith("archive comment of 257 bytes")
    assert refusals(read_zip(pack(("a", b"1"), comment=b"c" * 40))) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"not a zip", pack(("a", b"1"))[:-5]],
    ids=["nothing", "two bytes", "text", "cut short"],
)
def test_what_cannot_be_listed_is_no_judgement(content: bytes) -> None:
    with pytest.raises(UnreadableZipError, match="not a readable ZIP"):
        read_zip(content)


def test_written_tree_is_private_and_never_executable(tmp_path: Path) -> None:
    write_tree({"SKILL.md": b"# hi", "scripts/run.sh": b"exit 0"}, tmp_path)
    assert (tmp_path / "scripts/run.sh").read_bytes() == b"exit 0"
    assert stat.S_IMODE((tmp_path / "scripts/run.sh").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "scripts").stat().st_mode) == 0o700
    with pytest.raises(FileExistsError):
        write_tree({"SKILL.md": b"again"}, tmp_path)


@given(st.text(st.characters(), min_size=1, max_size=60))
def test_an_accepted_name_stays_inside(name: str) -> None:
    if refuse_name(name) is None:
        tidy = tidy_name(name)
        assert tidy
        assert not tidy.startswith("/")
        assert ".." not in tidy.split("/")
        assert "\x00" not in tidy
        tidy.encode()  # no lone surrogates: it can become a path
        if tidy.isascii():
            assert collision_key(tidy) == collision_key(tidy.upper())
    assert printable(name).isprintable()


@given(st.binary(max_size=400), st.integers(0, 400), st.binary(max_size=4))
def test_any_damage_ends_in_a_reading_or_in_one_error(data: bytes, at: int, patch: bytes) -> None:
    content = bytearray(pack(("SKILL.md", data), ("b", zlib.compress(data))))
    at %= len(content)
    content[at : at + len(patch)] = patch
    try:
        contents = read_zip(bytes(content), Limits(total_bytes=4096))
    except UnreadableZipError:
        return
    assert sum(map(len, contents.files.values())) <= 4096
