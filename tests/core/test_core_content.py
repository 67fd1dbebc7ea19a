"""One read of a file: steady, bounded, and never stuck."""

import os
from pathlib import Path

import pytest
from core_lab import sha, zipped

from batchscan import content
from batchscan.models import Rejection


def location(path: Path) -> bytes:
    return os.fsencode(path)


def test_a_file_is_read_with_its_stat(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    read = content.read_bytes(location(path), 5)
    assert isinstance(read, tuple)
    stat = path.stat()
    assert read[1] == b"12345"
    assert (read[0].size, read[0].mtime_ns, read[0].inode) == (5, stat.st_mtime_ns, stat.st_ino)
    assert content.read_bytes(location(path), 4) == Rejection(content.too_large(5, 4), 5)


@pytest.mark.parametrize(("times", "read"), [(1, True), (2, True), (3, False)])
def test_a_file_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, *, read: bool
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0" * 10)
    original, left = content._read_whole, times

    def changing(descriptor: int, size: int) -> bytes:
        nonlocal left
        found = original(descriptor, size)
        if left:
            left -= 1
            path.write_bytes(bytes([left]) * 10)
            os.utime(path, ns=(1, left + 1))
        return found

    monkeypatch.setattr(content, "_read_whole", changing)
    found = content.read_bytes(location(path), 100)
    if read:
        assert isinstance(found, tuple)
        assert found[1] == path.read_bytes()
    else:
        assert isinstance(found, Rejection)
        assert found.problem.code == "changing"


def test_a_file_that_grows_while_it_is_read_is_not_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0" * 10)
    os.utime(path, ns=(1, 1))
    original, grown = content._read_whole, False

    def growing(descriptor: int, size: int) -> bytes:
        nonlocal grown
        if not grown:
            grown = True
            with path.open("ab") as file:
                file.write(b"more")
            os.utime(path, ns=(1, 1))
        return original(descriptor, size)

    monkeypatch.setattr(content, "_read_whole", growing)
    found = content.read_bytes(location(path), 100)
    assert isinstance(found, tuple)
    assert found[1] == b"0" * 10 + b"more"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda _: None, "missing"),
        (os.mkfifo, "not-a-file"),
        (os.mkdir, "not-a-file"),
        (lambda path: path.symlink_to(path), "unreadable"),
    ],
    ids=["missing", "fifo", "directory", "loop"],
)
def test_what_is_no_file_is_told(tmp_path: Path, make: object, code: str) -> None:
    path = tmp_path / "a"
    assert callable(make)
    make(path)
    found = content.read_content(location(path), 100)
    assert isinstance(found, Rejection)
    assert found.problem.code == code


def test_content_has_its_digest_and_its_inspection(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(zipped("a"))
    read = content.read_content(location(path), 10_000)
    assert isinstance(read, tuple)
    assert read[1].artifact.digest == sha(zipped("a"))
    assert (read[1].artifact.file_count, read[1].problem) == (1, None)
    path.write_bytes(b"junk")
    read = content.read_content(location(path), 10_000)
    assert isinstance(read, tuple)
    assert read[1].problem is not None
    assert read[1].problem.code == "not-a-zip"
