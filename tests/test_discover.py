"""Every input is found once, nothing is walked forever, and nobody who stops listening leaves a thread."""

import asyncio
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st

from batchscan import discover as discovery
from batchscan.discover import (
    DirectorySource,
    FileSource,
    Filters,
    ManifestSource,
    Source,
    discover,
    display_path,
    resolve_sources,
)
from batchscan.errors import UsageError
from batchscan.models import Candidate
from batchscan.stats import Stats

THREAD = "batchscan-discover"


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"zip")


async def everything(
    sources: Iterable[Source], filters: Filters | None = None, stats: Stats | None = None, batch: int = 500
) -> list[Candidate]:
    found: list[Candidate] = []
    async for some in discover(list(sources), filters or Filters(), stats or Stats(), batch=batch):
        assert 0 < len(some) <= batch
        found += some
    return found


async def paths(root: Path, filters: Filters | None = None, stats: Stats | None = None) -> list[str]:
    found = await everything([DirectorySource(str(root))], filters, stats)
    return sorted(candidate.path for candidate in found)


def running() -> bool:
    return any(thread.name == THREAD for thread in threading.enumerate())


def resolve(*sources: str, manifests: Iterable[str] = (), stdin: Path | None = None) -> list[Source]:
    return resolve_sources(sources, list(manifests), nul=False, stdin_spool=stdin)


# names


@given(st.binary(max_size=20), st.binary(max_size=20))
@example(b"a\xff", b"a\\xff")
@example(b"\\", b"\\\\")
@example(b"\\\\", b"\\\\\\\\")
@example(b"\xff\\", b"\\xff\\\\")
def test_distinct_paths_stay_distinct(one: bytes, other: bytes) -> None:
    assert (display_path(one) == display_path(other)) == (one == other)


parts = st.lists(st.sampled_from([b"\\", b"x", b"f", b"\xff", b"\xc3\xa5", b"\\xff"]), max_size=6)


@given(parts, parts)
def test_distinct_paths_of_escapes_stay_distinct(one: list[bytes], other: list[bytes]) -> None:
    first, second = b"".join(one), b"".join(other)
    assert (display_path(first) == display_path(second)) == (first == second)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"a/b.zip", "a/b.zip"),
        ("技能\U0001f600.zip".encode(), "技能\U0001f600.zip"),
        (b"a\\b.zip", "a\\b.zip"),
        (b"a\\x41.zip", "a\\\\x41.zip"),
        (b"a\\\xfe.zip", "a\\\\\\xfe.zip"),
    ],
)
def test_display_path(raw: bytes, shown: str) -> None:
    assert display_path(raw) == shown


# directories


async def test_zips_are_found_at_any_depth_whatever_their_case(tmp_path: Path) -> None:
    touch(tmp_path, "a.zip", "b.ZIP", ".hidden/c.zip", "x.zip/d.Zip", "d.txt", "zip", "deep/er/e.zip", ".zip")
    stats = Stats()
    found = await paths(tmp_path, stats=stats)
    assert found == [".hidden/c.zip", ".zip", "a.zip", "b.ZIP", "deep/er/e.zip", "x.zip/d.Zip"]
    assert not stats.skipped


async def test_a_candidate_says_what_was_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "skills/a.zip")
    monkeypatch.chdir(tmp_path)
    (found,) = await everything([DirectorySource("skills")])
    seen = (tmp_path / "skills/a.zip").stat()
    assert found.source == "skills"
    assert found.path == "a.zip"
    assert found.location == os.fsencode(tmp_path / "skills/a.zip")
    assert found.stat is not None
    assert (found.stat.size, found.stat.mtime_ns, found.stat.inode) == (3, seen.st_mtime_ns, seen.st_ino)
    assert found.problem is None
    assert found.line is None


async def test_names_that_are_not_utf8_survive(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/\xff\\.zip"
    os.mknod(raw)
    (found,) = await everything([DirectorySource(str(tmp_path))])
    assert found.location == raw
    assert found.path == "\\xff\\\\.zip"
    (named,) = await everything(resolve(os.fsdecode(raw)))
    assert named.location == raw
    assert named.stat == found.stat
    assert b"\\\\xff" in msgspec.json.encode(named)


async def test_what_is_no_regular_file_is_an_input_with_a_problem(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.zip")
    (tmp_path / "broken.zip").symlink_to("nowhere")
    (tmp_path / "loop.zip").symlink_to("loop.zip")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.zip"))
        found = await everything([DirectorySource(str(tmp_path))])
    problems = {candidate.path: candidate.problem.code for candidate in found if candidate.problem}
    assert problems == {
        "fifo.zip": "not-a-file",
        "socket.zip": "not-a-file",
        "broken.zip": "missing",
        "loop.zip": "unreadable",
    }
    assert all(candidate.stat is None and candidate.location is None for candidate in found)


async def test_a_symlinked_root_and_symlinked_files_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.zip", "elsewhere/b.bin")
    (tmp_path / "real/link.zip").symlink_to(tmp_path / "elsewhere/b.bin")
    (tmp_path / "root").symlink_to("real")
    found = await everything([DirectorySource(str(tmp_path / "root"))])
    assert {candidate.path for candidate in found} == {"a.zip", "link.zip"}
    assert all(candidate.stat and candidate.stat.size == 3 for candidate in found)
    assert {candidate.location for candidate in found} == {
        os.fsencode(tmp_path / "root" / name) for name in ("a.zip", "link.zip")
    }


async def test_symlinked_directories_are_entered_once(tmp_path: Path) -> None:
    touch(tmp_path, "root/a.zip", "out/b.zip", "out/sub/c.zip")
    (tmp_path / "root/one").symlink_to(tmp_path / "out")
    (tmp_path / "root/two").symlink_to(tmp_path / "out")
    (tmp_path / "root/three.zip").symlink_to(tmp_path / "out/sub")
    (tmp_path / "out/back").symlink_to(tmp_path / "root")
    (tmp_path / "root/self").symlink_to(".")
    stats = Stats()
    found = await everything([DirectorySource(str(tmp_path / "root"))], stats=stats)
    names = sorted(os.path.basename(candidate.path) for candidate in found)  # noqa: PTH119 - of a str
    assert names == ["a.zip", "b.zip", "c.zip"]
    assert stats.skipped == {"symlinked-directory-already-covered": 4}


async def test_a_symlink_above_the_root_finds_no_file_twice(tmp_path: Path) -> None:
    touch(tmp_path, "top/root/a.zip", "top/b.zip")
    (tmp_path / "top/root/up").symlink_to(tmp_path / "top")
    stats = Stats()
    assert await paths(tmp_path / "top/root", stats=stats) == ["a.zip", "up/b.zip"]
    assert stats.skipped == {"symlinked-directory-already-covered": 1}


async def test_an_unreadable_directory_is_counted_and_the_rest_goes_on(tmp_path: Path) -> None:
    # deeper than PATH_MAX: not even root can read it by name
    touch(tmp_path, "a.zip", "z/b.zip")
    name, here = "d" * 200, os.open(tmp_path, os.O_RDONLY)
    for _ in range(25):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    stats = Stats()
    with structlog.testing.capture_logs() as logs:
        assert await paths(tmp_path, stats=stats) == ["a.zip", "z/b.zip"]
    assert stats.skipped == {"unreadable-directory": 1}
    assert [entry["event"] for entry in logs] == ["unreadable-directory"]
    assert logs[0]["path"].endswith("d" * 200)


async def test_deep_trees_need_few_descriptors(tmp_path: Path) -> None:
    deep = "/".join(["d"] * (discovery_depth := 300))
    touch(tmp_path, f"{deep}/a.zip", "d/d/b.zip")
    seen = 0
    async for some in discover([DirectorySource(str(tmp_path))], Filters(), Stats(), batch=1):
        seen = max(seen, len(os.listdir("/proc/self/fd")))  # noqa: PTH208 - names only
        assert some
    assert 0 < seen < discovery_depth - 100


async def test_a_root_that_vanished_is_counted(tmp_path: Path) -> None:
    stats = Stats()
    assert await everything([DirectorySource(str(tmp_path / "gone"))], stats=stats) == []
    assert stats.skipped == {"unreadable-directory": 1}


# filters


@pytest.mark.parametrize(
    ("include", "exclude", "wanted"),
    [
        ((), (), ["a.zip", "drafts/b.zip", "team/drafts/c.zip", "team/x/d.zip"]),
        (("a.zip",), (), ["a.zip"]),
        (("?.zip",), ("[a-b].zip",), ["team/drafts/c.zip", "team/x/d.zip"]),
        ((), ("drafts",), ["a.zip", "team/x/d.zip"]),
        ((), ("/drafts/",), ["a.zip", "team/drafts/c.zip", "team/x/d.zip"]),
        ((), ("./drafts",), ["a.zip", "team/drafts/c.zip", "team/x/d.zip"]),
        ((), ("drafts/",), ["a.zip", "team/x/d.zip"]),
        ((), ("drafts/*",), ["a.zip", "team/drafts/c.zip", "team/x/d.zip"]),
        ((), ("**/drafts/**",), ["a.zip", "team/x/d.zip"]),
        (("team",), (), ["team/drafts/c.zip", "team/x/d.zip"]),
        (("team/**/d.zip",), (), ["team/x/d.zip"]),
        (("team/x/**/d.zip",), (), ["team/x/d.zip"]),
        (("team/*.zip",), (), ["team/drafts/c.zip", "team/x/d.zip"]),
        (("*.zip",), ("*.zip",), []),
        (("./team/x/d.zip",), (), ["team/x/d.zip"]),
        ((), ("a.zip/",), ["a.zip", "drafts/b.zip", "team/drafts/c.zip", "team/x/d.zip"]),
    ],
)
async def test_filters(
    tmp_path: Path, include: tuple[str, ...], exclude: tuple[str, ...], wanted: list[str]
) -> None:
    touch(tmp_path, "a.zip", "drafts/b.zip", "team/drafts/c.zip", "team/x/d.zip")
    filters = Filters(include, exclude)
    assert await paths(tmp_path, filters) == wanted
    everyone = await paths(tmp_path)
    assert [path for path in everyone if filters.wanted(path)] == wanted


async def test_excluded_directories_are_not_entered(tmp_path: Path) -> None:
    touch(tmp_path, "a.zip", "skip/b.zip", "skip/deeper/c.zip", "x.zip")
    stats = Stats()
    assert await paths(tmp_path, Filters(exclude=("skip", "x.zip")), stats) == ["a.zip"]
    assert stats.skipped == {"filtered": 1, "filtered-directory": 1}


async def test_filters_apply_to_single_files(tmp_path: Path) -> None:
    touch(tmp_path, "a.zip")
    stats = Stats()
    sources = [FileSource(str(tmp_path / "a.zip"))]
    assert await everything(sources, Filters(exclude=("a.zip",)), stats) == []
    assert stats.skipped == {"filtered": 1}


def test_filters_see_names_that_are_not_utf8() -> None:
    filters = Filters(exclude=(os.fsdecode(b"\xff*"),))
    assert not filters.wanted(b"dir/\xff.zip")
    assert filters.wanted(b"dir/\xfe.zip")


# sources


def test_sources_are_what_they_are_on_disk(tmp_path: Path) -> None:
    touch(tmp_path, "odd.bin", "list.txt", "spool")
    (tmp_path / "dir").mkdir()
    found = resolve(
        *(str(tmp_path / "dir"), str(tmp_path / "odd.bin"), "-"),
        manifests=[str(tmp_path / "list.txt")],
        stdin=tmp_path / "spool",
    )
    assert found == [
        DirectorySource(str(tmp_path / "dir")),
        FileSource(str(tmp_path / "odd.bin")),
        ManifestSource("-", tmp_path / "spool"),
        ManifestSource(str(tmp_path / "list.txt"), tmp_path / "list.txt"),
    ]


@pytest.mark.parametrize("name", ["gone", "file/below", "", "nul\0", "\udcff"])
def test_a_source_that_is_not_there_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "file")
    with pytest.raises(UsageError) as sources:
        resolve(name)
    assert repr(display_path(os.fsencode(name))) in str(sources.value)
    with pytest.raises(UsageError):
        resolve(manifests=[name])


def test_sources_of_the_wrong_kind_are_usage_errors(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match="FIFO"):
        resolve(str(tmp_path / "fifo"))
    with pytest.raises(UsageError, match="FIFO"):
        resolve(manifests=[str(tmp_path / "fifo")])
    with pytest.raises(UsageError, match="directory is no manifest"):
        resolve(manifests=[str(tmp_path)])
    with pytest.raises(UsageError, match="standard input"):
        resolve("-")


def test_sources_that_others_cover_are_dropped_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a/b/c.zip", "a/odd.bin", "ab/d.zip")
    (tmp_path / "link").symlink_to("a")
    monkeypatch.chdir(tmp_path)
    with structlog.testing.capture_logs() as logs:
        found = resolve("a/b", "a/b/c.zip", "a", "a/", "link", "a/odd.bin", "ab/d.zip", "./ab/d.zip", "ab")
    assert found == [DirectorySource("a"), FileSource("a/odd.bin"), DirectorySource("ab")]
    assert [entry["source"] for entry in logs] == ["a/b", "a/b/c.zip", "a/", "link", "ab/d.zip", "./ab/d.zip"]


async def test_a_location_goes_through_symlinks_as_the_file_system_does(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.zip", "real/deep/b.zip", "a.zip")
    (tmp_path / "link").symlink_to("real/deep")
    (found,) = await everything(resolve(f"{tmp_path}/link/../a.zip"))
    assert found.location == os.fsencode(tmp_path / "real/a.zip")
    assert found.path == f"{tmp_path}/link/../a.zip"


async def test_a_root_written_with_dots_is_one_absolute_path(tmp_path: Path) -> None:
    touch(tmp_path, "real/deep/b.zip", "real/a.zip")
    (tmp_path / "link").symlink_to("real/deep")
    found = await everything(resolve(f"{tmp_path}/link/.."))
    assert {candidate.location for candidate in found} == {
        os.fsencode(tmp_path / "real" / name) for name in ("a.zip", "deep/b.zip")
    }


# the thread


async def test_twenty_thousand_files_in_bounded_batches(tmp_path: Path) -> None:
    for number in range(20_000):
        os.mknod(tmp_path / f"{number}.zip")
    stats = Stats()
    sizes: list[int] = []
    seen: set[str] = set()
    async for some in discover([DirectorySource(str(tmp_path))], Filters(), stats):
        sizes.append(len(some))
        seen.update(candidate.path for candidate in some)
    assert len(seen) == 20_000
    assert set(sizes[:-1]) == {512}
    assert sizes[-1] == 20_000 % 512
    assert not running()


async def test_a_slow_consumer_stops_the_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, *(f"{number}.zip" for number in range(40)))
    looked: list[str] = []
    full = threading.Event()
    original = discovery._HandOver.put

    def put(hand_over: discovery._HandOver, item: discovery._Batch) -> None:
        looked.extend(candidate.path for candidate in item.candidates)
        if len(looked) == 4:
            full.set()
        original(hand_over, item)

    monkeypatch.setattr(discovery._HandOver, "put", put)
    async with aclosing(discover([DirectorySource(str(tmp_path))], Filters(), Stats(), batch=1)) as found:
        await anext(found)
        assert await asyncio.to_thread(full.wait, 10)
        # one with the consumer, two on the way, one in the thread that waits for room
        assert len(looked) == 4
        rest = [candidate async for some in found for candidate in some]
    assert len(rest) == 39


async def test_a_consumer_that_stops_early_leaves_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, *(f"{number}.zip" for number in range(50)))
    stats = Stats()
    handed_over: list[discovery._Batch] = []
    original = discovery._HandOver.put

    def put(hand_over: discovery._HandOver, item: discovery._Batch) -> None:
        handed_over.append(item)
        original(hand_over, item)

    monkeypatch.setattr(discovery._HandOver, "put", put)
    async with aclosing(discover([DirectorySource(str(tmp_path))], Filters(), stats, batch=1)) as found:
        await anext(found)
        assert running()
    assert not running()
    assert len(handed_over) < 10


async def test_a_walk_that_finds_nothing_can_be_stopped(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{number}.txt" for number in range(20)))
    hand_over = discovery._HandOver()
    hand_over.stop()
    skipped: Counter[str] = Counter()
    sources = (DirectorySource(str(tmp_path)),)
    with pytest.raises(discovery._StoppedError):
        list(discovery._candidates(sources, Filters(), skipped, hand_over))


async def test_a_cancelled_consumer_leaves_no_thread(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{number}.zip" for number in range(50)))
    started = asyncio.Event()

    async def consume() -> None:
        async with aclosing(discover([DirectorySource(str(tmp_path))], Filters(), Stats(), batch=1)) as found:
            async for _ in found:
                started.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(consume())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not running()


async def test_a_dead_producer_raises_in_the_consumer(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.zip")
    stats = Stats()
    sources: list[Source] = [DirectorySource(str(tmp_path)), ManifestSource("list", tmp_path / "vanished")]
    with pytest.raises(UsageError, match="cannot read the manifest list"):
        await everything(sources, stats=stats)
    assert not running()


def test_a_loop_that_died_ends_the_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, *(f"{number}.zip" for number in range(50)))

    async def make() -> discovery._HandOver:
        return discovery._HandOver()

    loop = asyncio.new_event_loop()
    hand_over = loop.run_until_complete(make())
    waits = threading.Event()
    acquire = hand_over._slots.acquire

    def acquired(*, timeout: float) -> bool:
        if not hand_over._slots._value:
            waits.set()
        return acquire(timeout=timeout)

    monkeypatch.setattr(hand_over._slots, "acquire", acquired)
    work = ((DirectorySource(str(tmp_path)),), Filters(), 1, hand_over)
    thread = threading.Thread(target=discovery._produce, args=work, daemon=True)
    thread.start()
    assert waits.wait(10)
    loop.close()
    thread.join(timeout=10)
    assert not thread.is_alive()
