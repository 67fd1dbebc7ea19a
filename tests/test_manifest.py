"""Every line of a manifest is exactly one input, whatever is in it."""

import os
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchscan import manifest
from batchscan.discover import Filters, ManifestSource, discover, resolve_sources
from batchscan.errors import UsageError
from batchscan.models import Candidate
from batchscan.stats import Stats


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with two skills."""
    for name in ("a.zip", "sub/b.zip"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"zip")
    return tmp_path


async def read(
    path: Path, *, nul: bool = False, filters: Filters | None = None, stats: Stats | None = None
) -> list[Candidate]:
    sources = resolve_sources([], [str(path)], nul=nul, stdin_spool=None)
    found = discover(sources, filters or Filters(), stats or Stats())
    return [candidate async for some in found for candidate in some]


def write(place: Path, name: str, content: bytes) -> Path:
    path = place / name
    path.write_bytes(content)
    return path


def told(found: list[Candidate]) -> list[tuple[int | None, str, str | None]]:
    return [(one.line, one.path, one.problem.code if one.problem else None) for one in found]


async def test_plain_lines(place: Path) -> None:
    content = (
        b"\xef\xbb\xbfa.zip\r\n"
        b"# a comment\n"
        b"\n"
        b"  \t\n"
        b"./sub//b.zip\n"
        b"gone.zip\n"
        b"sub\n"
        b"a.zip\n"
        b"a.zip/x.zip\n"
        b"\xff.zip\n"
        b"nul\0.zip\n" + os.fsencode(place) + b"/a.zip"
    )
    found = await read(write(place, "list", content))
    assert told(found) == [
        (1, "a.zip", None),
        (5, "./sub//b.zip", None),
        (6, "gone.zip", "missing"),
        (7, "sub", "not-a-file"),
        (8, "a.zip", None),
        (9, "a.zip/x.zip", "missing"),
        (10, "\\xff.zip", "missing"),
        (11, "nul\0.zip", "bad-manifest-line"),
        (12, f"{place}/a.zip", None),
    ]
    assert {one.source for one in found} == {str(place / "list")}
    real = [one.location for one in found if one.stat]
    assert real == [os.fsencode(place / name) for name in ("a.zip", "sub/b.zip", "a.zip", "a.zip")]


async def test_names_that_are_not_utf8_survive_in_plain_lists(place: Path) -> None:
    raw = os.fsencode(place) + b"/\xb0\xa1.zip"
    os.mknod(raw)
    (found,) = await read(write(place, "list", b"\xb0\xa1.zip\n"))
    assert found.location == raw
    assert found.stat is not None


async def test_nul_separated_names_are_taken_as_they_are(place: Path) -> None:
    os.mknod(place / "#new\nline.zip")
    content = b"a.zip\0#new\nline.zip\0\0{}\0 sub/b.zip"
    found = await read(write(place, "list.csv", content), nul=True)
    assert told(found) == [
        (1, "a.zip", None),
        (2, "#new\nline.zip", None),
        (4, "{}", "missing"),
        (5, " sub/b.zip", "missing"),
    ]


async def test_nul_separated_names_across_blocks(place: Path) -> None:
    names = [b"%05d-" % number + b"n" * 90 for number in range(3000)]
    found = await read(write(place, "list", b"\0".join(names)), nul=True)
    assert [one.path.encode() for one in found] == names


JSON = b"""\xef\xbb\xbf# comment
{"path": "a.zip", "id": 7, "metadata": {"owner": ["x", null]}, "extra": true}

"sub/b.zip"
{"path": "gone.zip", "id": "g"}\r
{"path": 5}
{"id": 1}
{"path": ""}
{"path": "x\\u0000"}
{"path": "\xff"}
{"path": "x", "other": "\xff"}
{broken
["a.zip"]
{"path": "\\ud800"}
{"path": "a.zip", "id": 123456789012345678901234567890}
"""


@pytest.mark.parametrize("name", ["list.jsonl", "list.ndjson", "list.NDJSON"])
async def test_json_lines(place: Path, name: str) -> None:
    found = await read(write(place, name, JSON))
    bad = "bad-manifest-line"
    codes = {2: None, 4: None, 5: "missing", **dict.fromkeys(range(6, 15), bad), 15: None}
    assert {one.line: one.problem.code if one.problem else None for one in found} == codes
    assert len(found) == len(codes)
    assert (found[0].id, found[0].metadata) == (7, {"owner": ["x", None]})
    assert (found[1].path, found[1].id, found[1].metadata) == ("sub/b.zip", None, None)
    assert found[2].id == "g"
    assert found[-1].id == 123456789012345678901234567890


async def test_json_lines_are_known_by_their_first_character(place: Path) -> None:
    found = await read(write(place, "list.txt", b'\n# x\n  {"path": "a.zip"}\n"sub/b.zip"\n'))
    assert told(found) == [(3, "a.zip", None), (4, "sub/b.zip", None)]
    plain = await read(write(place, "plain.txt", b'a.zip\n{"path": "a.zip"}\n'))
    assert told(plain) == [(1, "a.zip", None), (2, '{"path": "a.zip"}', "missing")]


@pytest.mark.parametrize("depth", [40, 100_000])
async def test_deeply_nested_json_is_a_bad_line(place: Path, depth: int) -> None:
    content = b'{"path": "a.zip", "id": ' + b"[" * depth + b"]" * depth + b'}\n"a.zip"\n'
    first, second = await read(write(place, "list.jsonl", content))
    assert first.problem is not None
    assert first.problem.code == "bad-manifest-line"
    assert len(first.path) <= manifest.MAX_SHOWN_BYTES
    assert second.problem is None


async def test_nesting_within_the_limit_is_passed_on(place: Path) -> None:
    depth = manifest.MAX_DEPTH
    content = b'{"path": "a.zip", "metadata": ' + b"[" * depth + b"]" * depth + b"}"
    (found,) = await read(write(place, "list.jsonl", content))
    assert found.problem is None
    assert found.metadata


async def test_csv(place: Path) -> None:
    os.mknod(place / "new\nline.zip")
    os.mknod(place / 'quote".zip')
    content = (
        b"\xef\xbb\xbf\r\n"
        b"ID, Path ,owner\r\n"
        b"1,a.zip,me\r\n"
        b"\r\n"
        b'2,"new\nline.zip","a\r\nb"\r\n'
        b'3,"quote"".zip"\r\n'
        b"4,gone.zip,\r\n"
        b"5\r\n"
        b"6,a.zip,me,too many\r\n"
        b'7,"a.zip"x,me\r\n'
        b"8,\xff.zip,me\r\n"
        b",sub/b.zip,\r\n"
        b"9,,\r\n"
    )
    found = await read(write(place, "list.csv", content))
    bad = "bad-manifest-line"
    assert told(found) == [
        (3, "a.zip", None),
        (5, "new\nline.zip", None),
        (8, 'quote".zip', None),
        (9, "gone.zip", "missing"),
        (10, "", bad),
        (11, "6,a.zip,me,too many", bad),
        (12, '7,"a.zip"x,me', bad),
        (13, "8,\\xff.zip,me", bad),
        (14, "sub/b.zip", None),
        (15, "", bad),
    ]
    assert [one.id for one in found[:4]] == ["1", "2", "3", "4"]
    assert [one.metadata for one in found[:3]] == [{"owner": "me"}, {"owner": "a\r\nb"}, None]
    assert found[8].id is None


async def test_a_metadata_column_is_passed_on_alone(place: Path) -> None:
    found = await read(write(place, "list.csv", b"path,metadata,other\na.zip,text,x\na.zip,,x\n"))
    assert [one.metadata for one in found] == ["text", None]


async def test_an_open_quote_costs_one_line(place: Path) -> None:
    content = b'path\n"a.zip\na.zip\nsub/b.zip\n' + b"a.zip\n" * 100
    found = await read(write(place, "list.csv", content))
    assert told(found)[:3] == [(2, '"a.zip', "bad-manifest-line"), (3, "a.zip", None), (4, "sub/b.zip", None)]
    assert len(found) == 103


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"name,url\na.zip,x\n", "'name, url'"),
        (b"path;id\na.zip;1\n", "'path;id'"),
        (b"path,PATH\na,b\n", "one column 'path'"),
        (b"\xff\xfep\0a\0t\0h\0", "UTF-8"),
        (b'"path', "broken CSV"),
    ],
)
def test_a_csv_without_a_path_column_is_a_usage_error(place: Path, content: bytes, says: str) -> None:
    path = write(place, "list.csv", content)
    with pytest.raises(UsageError) as caught:
        resolve_sources([], [str(path)], nul=False, stdin_spool=None)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "head", "nul"),
    [("list", b"", False), ("list.jsonl", b"", False), ("list.csv", b"path\n", False), ("list", b"", True)],
)
async def test_lines_that_are_too_long_are_bad_and_the_rest_goes_on(
    place: Path, name: str, head: bytes, nul: bool
) -> None:
    end = b"\0" if nul else b"\n"
    last = b'"a.zip"' if name == "list.jsonl" else b"a.zip"
    content = head + b"x" * (3 * manifest.MAX_LINE_BYTES) + end + last + end
    found = await read(write(place, name, content), nul=nul)
    first = 1 + len(head.splitlines())
    assert [(one.line, one.problem.code if one.problem else None) for one in found] == [
        (first, "bad-manifest-line"),
        (first + 1, None),
    ]
    assert len(found[0].path) == manifest.MAX_SHOWN_BYTES


@pytest.mark.parametrize(("name", "nul"), [("list", False), ("list.jsonl", False), ("list", True)])
def test_a_file_without_line_ends_costs_no_memory(place: Path, name: str, nul: bool) -> None:
    path = place / name
    with path.open("wb") as file:
        for _ in range(32):
            file.write(b"x" * manifest.MAX_LINE_BYTES)
    tracemalloc.start()
    try:
        (found,) = candidates(path, nul=nul)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.problem is not None
    assert peak < 8 * manifest.MAX_LINE_BYTES


async def test_a_line_of_exactly_the_limit_is_whole(place: Path) -> None:
    content = b"x" * manifest.MAX_LINE_BYTES + b"\na.zip\n"
    first, second = await read(write(place, "list", content))
    assert first.problem is not None
    assert first.problem.code == "unreadable"  # longer than any file system allows
    assert second.stat is not None


async def test_filters_see_the_path_as_written(place: Path) -> None:
    stats = Stats()
    content = b"./a.zip\nsub/b.zip\ngone.zip\nbad\0\n"
    found = await read(write(place, "list", content), filters=Filters(exclude=("sub",)), stats=stats)
    assert told(found)[:2] == [(1, "./a.zip", None), (3, "gone.zip", "missing")]
    assert len(found) == 3
    assert stats.skipped == {"filtered": 1}


async def test_standard_input_is_relative_to_the_working_directory(
    place: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    spool = write(tmp_path_factory.mktemp("spool"), "stdin.csv", b"a.zip\nsub/b.zip\n")
    sources = resolve_sources(["-"], [], nul=False, stdin_spool=spool)
    assert sources == [ManifestSource("-", spool)]
    found = [one async for some in discover(sources, Filters(), Stats()) for one in some]
    assert told(found) == [(1, "a.zip", None), (2, "sub/b.zip", None)]
    assert found[0].source == "-"
    assert found[0].location == os.fsencode(place / "a.zip")


def test_a_manifest_named_twice_is_read_once(place: Path) -> None:
    path = str(write(place, "list", b"a.zip\n"))
    assert len(resolve_sources([], [path, path], nul=False, stdin_spool=None)) == 1


lines = st.lists(
    st.one_of(
        st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"")),
        st.sampled_from([b"", b"#", b'"', b'"a"', b"a,b", b'"a,""', b'{"path": "a"}', b"\r", b"\0"]),
    ),
    max_size=12,
)


def candidates(path: Path, *, nul: bool = False) -> Iterator[Candidate]:
    skipped: Counter[str] = Counter()
    return manifest.read(str(path), path, nul=nul, filters=Filters(), skipped=skipped, check=lambda: None)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines)
def test_no_line_is_lost_or_doubled(place: Path, lines: list[bytes]) -> None:
    content = b"\n".join(lines)
    expected = [
        number for number, line in enumerate(lines, 1) if line.strip() and not line.strip().startswith(b"#")
    ]
    for name in ("list.jsonl", "list.txt"):
        found = list(candidates(write(place, name, content)))
        assert [one.line for one in found] == expected
        assert all((one.stat is None) != (one.problem is None) for one in found)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines)
def test_csv_records_cover_all_lines(place: Path, lines: list[bytes]) -> None:
    found = list(candidates(write(place, "list.csv", b"path\n" + b"\n".join(lines))))
    covered = {one.line for one in found}
    # a record that spans lines accounts for those behind its first one
    unquoted = [n for n, line in enumerate(lines, 2) if line.strip()]
    if b'"' not in b"".join(lines):
        assert sorted(covered, key=lambda line: line or 0) == unquoted
    assert len(found) == len(covered)
    assert covered <= set(unquoted)
