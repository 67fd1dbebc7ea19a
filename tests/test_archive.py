"""What a ZIP's directory tells, and that nothing in it can lie its way through or bring the reader down."""

import io
import struct
import tracemalloc
import zipfile
import zlib

import hostile_zips
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchscan import archive
from batchscan.models import Inspection, Problem

NOTES: dict[str, set[str]] = {
    "plain_skill": set(),
    "emoji_name": set(),
    "empty_archive": {"no-skill-md"},
    "no_skill_md": {"no-skill-md"},
    "flat_bomb": {"zip-bomb-ratio", "zip-bomb-size", "lying-size"},
    "real_bomb": {"zip-bomb-ratio"},
    "overlapping": {"overlapping-entries", "duplicate-name"},
    "huge_bomb": {"zip-bomb-ratio", "zip-bomb-size"},
    "overlapping_bomb": {"overlapping-entries", "local-header-mismatch", "zip-bomb-size"},
    "nested_bomb": {"nested-archive"},
    "quine": {"nested-archive", "no-skill-md"},
    "zip64": {"zip64"},
    "zip64_lying_count": {"zip64", "lying-count"},
    "zip64_elsewhere": {"ambiguous-directory", "prefix-data", "no-skill-md"},
    "zip64_extra": {"zip64"},
    "lying_size": {"lying-size"},
    "lying_count": {"lying-count"},
    "beyond_the_end": {"entry-out-of-bounds"},
    "duplicate_names": {"duplicate-name"},
    "case_collision": {"case-collision"},
    "traversal": {"path-traversal"},
    "backslash_traversal": {"path-traversal"},
    "absolute": {"absolute-path"},
    "unc": {"unc-or-drive-path"},
    "drive": {"unc-or-drive-path"},
    "nul_name": {"nul-in-name"},
    "control_name": {"control-in-name"},
    "newline_name": {"control-in-name"},
    "empty_name": {"empty-name"},
    "long_name": set(),
    "rtl_name": {"bidi-in-name"},
    "undecodable_name": {"undecodable-name"},
    "symlink": {"symlink"},
    "device": {"special-file"},
    "encrypted": {"encrypted"},
    "split": {"split-archive"},
    "prefixed": {"prefix-data"},
    "prefixed_and_counted": {"prefix-data"},
    "suffixed": {"suffix-data"},
    "two_archives": {"prefix-data", "multiple-end-records"},
    "archive_in_comment": {"prefix-data", "multiple-end-records"},
    "signature_in_comment": {"comment", "multiple-end-records"},
    "cut_comment": {"comment", "cut-comment"},
    "many": {"lying-count", "many-entries"},
    "unsupported_method": {"unsupported-method"},
    "nested": {"nested-archive"},
    "local_header_differs": {"local-header-mismatch"},
    "hidden_data": {"hidden-data"},
    "bad_extra_field": {"bad-extra-field"},
}
REJECTED = {"text_file": "no ZIP end record", "truncated": "cut short", "without_end": "cut short"}


def test_every_hostile_zip_is_expected_here() -> None:
    assert set(hostile_zips.CORPUS) == set(NOTES) | set(REJECTED)


@pytest.mark.parametrize("name", NOTES)
def test_notes_say_what_is_odd(name: str) -> None:
    found = archive.inspect(hostile_zips.CORPUS[name]())
    assert isinstance(found, Inspection)
    assert set(found.notes) == NOTES[name]
    assert list(found.notes) == sorted(set(found.notes))


@pytest.mark.parametrize("name", REJECTED)
def test_what_no_reader_can_open_is_a_problem(name: str) -> None:
    found = archive.inspect(hostile_zips.CORPUS[name]())
    assert isinstance(found, Problem)
    assert found.code == "not-a-zip"
    assert REJECTED[name] in found.message


def test_the_quine_holds_itself() -> None:
    content = hostile_zips.CORPUS["quine"]()
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        (name,) = opened.namelist()
        assert opened.read(name) == content


def test_the_bombs_are_bombs() -> None:
    inner, depth = hostile_zips.nested_bomb(), 0
    while zipfile.is_zipfile(io.BytesIO(inner)):
        with zipfile.ZipFile(io.BytesIO(inner)) as opened:
            inner, depth = opened.read(opened.namelist()[-1]), depth + 1
    assert (depth, inner) == (3, b"\0" * (4 << 20))
    with zipfile.ZipFile(io.BytesIO(hostile_zips.huge_bomb())) as opened, opened.open("zeros") as zeros:
        assert zeros.read(2 << 20) == b"\0" * (2 << 20)
    content = hostile_zips.overlapping_bomb()
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        assert len({info.header_offset for info in opened.infolist()}) == 2
    packed = content[content.index(b"zeros-000") + len(b"zeros-000") :]  # newer Pythons refuse to read it
    assert zlib.decompressobj(wbits=-15).decompress(packed) == b"\0" * (1 << 20)


def test_nothing_is_empty() -> None:
    found = archive.inspect(b"")
    assert isinstance(found, Problem)
    assert found.code == "empty"


def test_a_directory_out_of_bounds_is_a_problem() -> None:
    content = bytearray(hostile_zips.build())
    content[-10:-6] = b"\xff\xff\xff\x00"
    found = archive.inspect(bytes(content))
    assert isinstance(found, Problem)
    assert found.code == "not-a-zip"


def test_directories_are_not_billed() -> None:
    content = hostile_zips.build(
        [hostile_zips.SKILL, hostile_zips.Entry(b"docs/", mode=0o040755), hostile_zips.Entry(b"cut/\0name")]
    )
    found = archive.inspect(content)
    assert isinstance(found, Inspection)
    assert found.file_count == 1


def test_a_memoryview_is_as_good_as_bytes() -> None:
    content = hostile_zips.two_archives()
    assert archive.inspect(memoryview(content)) == archive.inspect(content)


def test_a_directory_at_its_stated_place_is_found_when_data_follows_it() -> None:
    content = hostile_zips.build()
    end = content.rindex(b"PK\5\6")
    found = archive.inspect(content[:end] + b"#" * 40 + content[end:])
    assert isinstance(found, Inspection)
    assert found.file_count == 1
    assert "hidden-data" in found.notes


def test_two_places_for_one_directory_are_noted() -> None:
    inner = hostile_zips.build([hostile_zips.SKILL, hostile_zips.Entry(b"a", b"a")])
    found = archive.inspect(inner + hostile_zips.build([hostile_zips.SKILL, hostile_zips.Entry(b"b", b"b")]))
    assert isinstance(found, Inspection)
    assert {"ambiguous-directory", "prefix-data"} <= set(found.notes)


@pytest.mark.parametrize(
    ("one", "other", "note"),
    [
        (b"a\xcc\x8a", b"\xc3\xa5", "case-collision"),  # two normal forms of one letter
        (b"K", b"\xe2\x84\xaa", "case-collision"),  # the Kelvin sign
        (b"a\0b", b"a\0c", "duplicate-name"),
    ],
)
def test_names_that_a_file_system_takes_for_one(one: bytes, other: bytes, note: str) -> None:
    entries = [hostile_zips.Entry(one, b"1", flags=0x800), hostile_zips.Entry(other, b"2", flags=0x800)]
    found = archive.inspect(hostile_zips.build([hostile_zips.SKILL, *entries]))
    assert isinstance(found, Inspection)
    assert note in found.notes


@pytest.mark.parametrize("name", [b"..a/b", b"a..b", b"docs/...", b"zip", b"docs/tar", b"a-b_c (1).md"])
def test_harmless_names_are_not_noted(name: bytes) -> None:
    found = archive.inspect(hostile_zips.named(name))
    assert isinstance(found, Inspection)
    assert found.notes == ()


def test_the_order_of_the_directory_does_not_matter() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as opened:
        for name in ("SKILL.md", "a.txt", "b.txt"):
            opened.writestr(name, name * 20)
        opened.filelist.reverse()
    assert archive.inspect(out.getvalue()) == Inspection(3)


def test_a_zip64_extra_field_holds_what_does_not_fit() -> None:
    content = b"#!/bin/sh"
    extra = struct.pack("<HHQQQ", 1, 24, len(content), len(content), 0)
    big = 0xFFFFFFFF
    wide = hostile_zips.Entry(b"run", content, size=big, packed=big, offset=big, extra=extra)
    local = hostile_zips.build([hostile_zips.Entry(b"run", content)])
    body = local[: local.index(b"PK\1\2")]
    assert archive.inspect(hostile_zips.build([wide], before=body)) == Inspection(1, ("no-skill-md", "zip64"))


def test_a_last_name_that_runs_out_of_the_directory_is_cut() -> None:
    content = bytearray(hostile_zips.build())
    content[content.index(b"PK\1\2") + 28] += 10
    assert archive.inspect(bytes(content)) == Inspection(1, ("entry-out-of-bounds",))


def test_thresholds_are_exact() -> None:
    def notes(size: int, packed: int) -> tuple[str, ...]:
        entry = hostile_zips.Entry(b"big", b"x" * packed, method=8, size=size)
        found = archive.inspect(hostile_zips.build([hostile_zips.SKILL, entry]))
        assert isinstance(found, Inspection)
        return found.notes

    floor = archive.BOMB_RATIO_FLOOR_BYTES
    assert notes(floor, 1100) == ()
    assert notes(floor + 1, 1100) == ("zip-bomb-ratio",)
    packed = -(-(floor + 1) // archive.BOMB_RATIO)
    assert notes(floor + 1, packed) == ()
    assert notes(floor + 1, packed - 1) == ("zip-bomb-ratio",)


def test_a_forged_tail_of_end_records_costs_four_tries_at_most() -> None:
    content = hostile_zips.build() + (b"PK\5\6" + b"\xff" * 18) * 2900
    found = archive.inspect(content)
    assert isinstance(found, Problem)
    assert found.code == "not-a-zip"


def test_memory_is_some_bytes_an_entry() -> None:
    content = hostile_zips.build(hostile_zips.Entry(b"f/%0200d" % number) for number in range(20_000))
    tracemalloc.start()
    try:
        found = archive.inspect(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(found, Inspection)
    assert found.file_count == 20_000
    # a set of hashes, one span each, and no entry
    assert peak < 200 * 20_000


def zipfile_count(content: bytes) -> int | None:
    """How many files zipfile sees; None when it cannot open the archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as opened:
            return sum(not info.filename.endswith("/") for info in opened.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, EOFError):
        return None


def agrees_with_zipfile(content: bytes) -> None:
    expected = zipfile_count(content)
    found = archive.inspect(content)
    if expected is not None:
        assert isinstance(found, Inspection)
        assert found.file_count == expected


@pytest.mark.parametrize("name", hostile_zips.CORPUS)
def test_zipfile_and_inspect_agree_on_the_corpus(name: str) -> None:
    agrees_with_zipfile(hostile_zips.CORPUS[name]())


names = st.one_of(
    st.binary(max_size=12),
    st.text(max_size=8).map(lambda text: text.encode(errors="ignore")),
    st.sampled_from([b"SKILL.md", b"a/", b"../x", b"/", b"", b"a\0/", b"x.zip", b"\\\\s\\x"]),
)
entries = st.builds(
    hostile_zips.Entry,
    name=names,
    content=st.binary(max_size=40),
    method=st.sampled_from([0, 0, 8, 12, 99]),
    flags=st.sampled_from([0, 0, 1, 8, 0x800]),
    size=st.none() | st.integers(0, 0xFFFFFFFF),
    packed=st.none() | st.integers(0, 0xFFFFFFFF),
    mode=st.integers(0, 0xFFFF),
    extra=st.binary(max_size=24) | st.just(b"\1\0\x18\0" + b"\2" * 24),
    disk=st.sampled_from([0, 0, 1, 0xFFFF]),
    offset=st.none() | st.integers(0, 0xFFFFFFFF),
)
built = st.builds(
    hostile_zips.build,
    st.lists(entries, max_size=6),
    count=st.none() | st.integers(0, 0xFFFF),
    comment=st.binary(max_size=30) | st.just(b"PK\5\6" + b"\0" * 18),
    comment_length=st.none() | st.integers(0, 0xFFFF),
    disk=st.sampled_from([0, 0, 2]),
    wide=st.booleans(),
    before=st.binary(max_size=20),
)
lenient = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@lenient
@given(built, st.binary(max_size=30), st.binary(max_size=30))
def test_zipfile_and_inspect_agree_on_generated_zips(content: bytes, before: bytes, after: bytes) -> None:
    agrees_with_zipfile(before + content + after)


@lenient
@given(
    st.sampled_from(sorted(set(hostile_zips.CORPUS) - {"many", "real_bomb", "huge_bomb"})),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), max_size=6),
    st.floats(0.2, 1),
)
def test_zipfile_and_inspect_agree_on_mutated_zips(
    name: str, wounds: list[tuple[float, bytes]], kept: float
) -> None:
    content = bytearray(hostile_zips.CORPUS[name]())
    for place, wound in wounds:
        at = int(place * len(content))
        content[at : at + len(wound)] = wound
    agrees_with_zipfile(bytes(content[: round(kept * len(content))]))
    agrees_with_zipfile(bytes(content))


@lenient
@given(st.binary(max_size=120))
def test_any_bytes_are_judged(content: bytes) -> None:
    agrees_with_zipfile(content)
    agrees_with_zipfile(b"PK\5\6" + content)
