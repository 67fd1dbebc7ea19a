"""Walk directories: every ZIP below a root is one ``Candidate``, in the order of the file system.

Rule: no directory is listed in memory, none is entered twice, nothing is opened. The loop runs a
million times a night, so it works on raw bytes and looks at each file once.
"""

# pathlib cannot hold names that are not text; the paths here are raw bytes
# ruff: noqa: PTH100, PTH109, PTH114, PTH115, PTH118, PTH120

import fnmatch
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import msgspec
import structlog

from batchscan.models import Candidate, FileStat, Problem

OPEN_DIRECTORIES = 64
"""Nested directories that are read as they are walked; deeper ones are listed first, to spare descriptors."""

OUTSIDE = Problem("outside-roots", "it is not below the directories that may be scanned")

_log = structlog.get_logger(__name__)


def display_path(raw: bytes) -> str:
    r"""The printable form of a raw path: distinct paths stay distinct.

    UTF-8 without ``\x`` and without two backslashes in a row stands for itself. In any other name every
    backslash is doubled and each byte that is not UTF-8 becomes ``\xNN``.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return raw.replace(b"\\", b"\\\\").decode(errors="backslashreplace")
    if "\\" in text and ("\\x" in text or "\\\\" in text):
        return text.replace("\\", "\\\\")
    return text


def absolute(path: bytes) -> bytes:
    """The absolute form of a path; ``..`` is resolved by the file system, since a symlink may precede it."""
    if b".." in path.split(b"/"):
        head, tail = os.path.split(os.path.join(os.getcwdb(), path))
        if tail == b"..":
            return os.path.realpath(path)
        return os.path.join(os.path.realpath(head), tail)
    return os.path.abspath(path)


class Patterns:
    """Globs, compiled once. Those without a slash look at names, the others at whole paths."""

    def __init__(self, globs: tuple[str, ...]) -> None:
        names: list[str] = []
        paths: list[str] = []
        folder_names: list[str] = []
        folder_paths: list[str] = []
        for glob in globs:
            bare = plain(glob).rstrip("/")
            anchored = "/" in bare or glob.startswith(("/", "./"))
            if glob.endswith("/"):
                (folder_paths if anchored else folder_names).append(bare)
            else:
                (paths if anchored else names).append(bare)
        self.file = _compile(names, paths)
        self.folder = _compile(names + folder_names, paths + folder_paths)

    def match(self, path: str, *, folder: bool = False) -> bool:
        """Whether the path or a directory above it is meant."""
        at = path.find("/")
        while at >= 0:
            if self.folder(path[:at]):
                return True
            at = path.find("/", at + 1)
        return self.folder(path) if folder else self.file(path)


def plain(path: str) -> str:
    """The path from the source root, as ``Patterns`` match it: without ``./`` and ``/`` before it."""
    while path.startswith("./"):
        path = path[2:]
    return path.lstrip("/")


def _compile(names: list[str], paths: list[str]) -> Callable[[str], bool]:
    # "**/" also stands for no directory at all, which fnmatch cannot say
    paths = paths + [path.replace("**/", "") for path in paths if "**/" in path]
    name = re.compile("|".join(map(fnmatch.translate, names))) if names else None
    whole = re.compile("|".join(map(fnmatch.translate, paths))) if paths else None

    def matches(path: str) -> bool:
        if name is not None and name.match(path.rpartition("/")[2]):
            return True
        return whole is not None and whole.match(path) is not None

    return matches


_patterns = lru_cache(maxsize=16)(Patterns)


class Filters(msgspec.Struct, frozen=True):
    """Which inputs are wanted, by globs on their path below the source root.

    A glob without a slash means a file or directory of that name at any depth; with one (also a leading
    one), the path from the root, where ``*`` also crosses slashes. A glob that means a directory means all
    below it, and one that ends in a slash only directories. ``exclude`` wins; no ``include`` is everything.

    Attributes:
        roots: real directories that no link and no manifest may lead out of; None: they may.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    roots: frozenset[bytes] | None = None

    def wanted(self, relative_path: bytes | str) -> bool:
        """Whether the file at this path is an input."""
        if not (self.include or self.exclude):
            return True
        path = plain(os.fsdecode(relative_path))
        if self.exclude and _patterns(self.exclude).match(path):
            return False
        return not self.include or _patterns(self.include).match(path)

    def enters(self, relative_path: bytes) -> bool:
        """Whether the directory at this path is walked: it, or one above it, is not excluded."""
        return not self.exclude or not _patterns(self.exclude).match(os.fsdecode(relative_path), folder=True)


def look(follow: Callable[[], os.stat_result]) -> FileStat | Problem:
    """Take the ``stat`` of an input, or say why it is none.

    Problem codes: ``missing`` (gone, never there, a broken symlink), ``not-a-file`` (a directory, FIFO,
    socket or device), ``unreadable`` (anything else the system says).
    """
    try:
        found = follow()
    except (FileNotFoundError, NotADirectoryError):
        return Problem("missing", "there is no such file, or it is a symlink to nothing")
    except OSError as error:
        return Problem("unreadable", f"the file system says: {error.strerror or error}")
    except ValueError:
        return Problem("unreadable", "a path cannot hold a NUL byte")
    if stat.S_ISREG(found.st_mode):
        return FileStat(found.st_size, found.st_mtime_ns, found.st_ino)
    kind = "a directory" if stat.S_ISDIR(found.st_mode) else "a FIFO, socket or device"
    return Problem("not-a-file", f"it is {kind}, not a regular file")


def as_candidate(source: str, path: str, location: bytes, seen: FileStat | Problem) -> Candidate:
    """The input at ``location``, shown as ``path``, and what was seen there."""
    if isinstance(seen, FileStat):
        return Candidate(source=source, path=path, location=location, stat=seen)
    return Candidate(source=source, path=path, problem=seen)


class Fence:
    """Keeps the inputs of one run below some real directories; without any, it lets all pass."""

    def __init__(self, roots: Container[bytes] | None) -> None:
        self._roots = roots
        self._last = (b"", b"")  # a directory and its real path: files come one directory after the other

    def keep(self, candidate: Candidate) -> Candidate:
        """Return the input, or where it leads out, an input that says so. Looks at the file system."""
        if self._roots is None or candidate.location is None:
            return candidate
        directory, name = os.path.split(candidate.location)
        if directory != self._last[0]:
            self._last = (directory, os.path.realpath(directory))
        real = os.path.join(self._last[1], name)
        if os.path.islink(real):
            real = os.path.realpath(real)
        if is_inside(os.path.dirname(real), self._roots):
            return candidate
        return msgspec.structs.replace(candidate, location=None, stat=None, problem=OUTSIDE)


class _Level(NamedTuple):
    """A directory that is being read."""

    path: bytes
    real: bytes
    entries: Iterator[os.DirEntry[bytes]]
    close: Callable[[], None]


class Walker:
    """Walks the directories of one run; remembers which real directories it already covers.

    A symlink to a directory is entered once, and only when it leads out of everything that is walked
    anyway; so loops end and no file is found twice through one.

    Args:
        roots: the real paths of all directory sources.
        filters: which files are wanted.
        skipped: counts what is no input, by reason.
        check: called at least once for each entry that is no input; raises to end the walk.
    """

    def __init__(
        self, roots: Iterable[bytes], filters: Filters, skipped: Counter[str], check: Callable[[], None]
    ) -> None:
        self._covered = set(roots)
        self._filters = filters
        self._skipped = skipped
        self._check = check

    def walk(self, source: str, root: bytes) -> Iterator[Candidate]:
        """Every ZIP below the absolute path ``root``; ``source`` is what the rows call it."""
        base = len(os.path.join(root, b""))
        real = os.path.realpath(root)
        top = None if self._leads_out(real) else self._open(root, real, 0)
        levels = [] if top is None else [top]
        try:
            while levels:
                level = levels[-1]
                try:
                    for entry in level.entries:
                        if entry.name[-4:].lower() == b".zip" and not _is_directory(entry):
                            if self._filters.wanted(entry.path[base:]):
                                path = display_path(entry.path[base:])
                                yield as_candidate(source, path, entry.path, look(entry.stat))
                            else:
                                self._skipped["filtered"] += 1
                        elif (below := self._below(entry, level.real, base, len(levels))) is not None:
                            levels.append(below)
                            break
                    else:
                        levels.pop()
                except OSError as error:
                    self._unreadable(level.path, error)
                    level.close()
                    levels.pop()
        finally:
            for level in levels:
                level.close()

    def _below(self, entry: os.DirEntry[bytes], parent: bytes, base: int, depth: int) -> _Level | None:
        """The directory to go on with, when the entry is one and is not to be skipped."""
        self._check()
        if not _is_directory(entry):
            return None
        if not self._filters.enters(entry.path[base:]):
            self._skipped["filtered-directory"] += 1
            return None
        if entry.is_symlink():
            real = os.path.realpath(entry.path)
            if self._leads_out(real):
                return None
            covered = is_inside(real, self._covered)
            self._covered.add(real)
        else:
            # a source root, when a symlink has led above it
            real = os.path.join(parent, entry.name)
            covered = real in self._covered
        if covered:
            self._skipped["symlinked-directory-already-covered"] += 1
            return None
        return self._open(entry.path, real, depth)

    def _leads_out(self, real: bytes) -> bool:
        """Whether a directory is outside of the roots, where there are any; then it is counted."""
        if self._filters.roots is None or is_inside(real, self._filters.roots):
            return False
        self._skipped["symlink-leads-out-of-roots"] += 1
        return True

    def _open(self, path: bytes, real: bytes, depth: int) -> _Level | None:
        try:
            listing = os.scandir(path)
            if depth < OPEN_DIRECTORIES:
                return _Level(path, real, listing, listing.close)
            with listing:
                return _Level(path, real, iter(list(listing)), listing.close)
        except OSError as error:
            self._unreadable(path, error)
            return None

    def _unreadable(self, path: bytes, error: OSError) -> None:
        self._skipped["unreadable-directory"] += 1
        _log.warning("unreadable-directory", path=display_path(path), error=error.strerror)


def _is_directory(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # a loop of symlinks, say: look() will tell why it is no input
        return False


def is_inside(path: bytes, directories: Container[bytes]) -> bool:
    """Whether the real path is one of the real directories or below one."""
    while path not in directories:
        parent = os.path.dirname(path)
        if parent == path:
            return False
        path = parent
    return True


def is_open_inside(descriptor: int, directories: Container[bytes]) -> bool:
    """Whether an open file is below a real directory; the kernel tells, so that no link can be swapped in."""
    return is_inside(os.readlink(b"/proc/self/fd/%d" % descriptor), directories)
