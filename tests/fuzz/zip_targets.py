"""What must hold for the readers of ZIPs, whatever the bytes.

Each function takes any input and raises only when the program is wrong.
"""

import io
import re
import struct
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from batchscan import archive
from batchscan.embedded.analysis.names import refuse_name
from batchscan.embedded.analysis.unpack import Limits, UnreadableZipError, read_zip, write_tree
from batchscan.models import Inspection, Problem

sys.path.insert(0, str(Path(__file__).parents[1]))
import hostile_zips

TESTS = Path(__file__).parents[1]
INPUTS_PAGE = TESTS.parent / "docs" / "inputs.md"
LARGE = frozenset({"many", "real_bomb", "huge_bomb", "long_name"})
LIMITS = Limits(members=200, member_bytes=1 << 20, total_bytes=2 << 20, ratio_from_bytes=1 << 16)
"""Small, so that a fuzzer reaches them."""
MOST_SHOWN = 600
"""Characters of a finding: two names of at most 120, each escaped at worst, and the words around them."""


def documented_notes() -> frozenset[str]:
    """The notes that the page on inputs explains."""
    text = INPUTS_PAGE.read_text(encoding="utf-8").partition("\n## Notes")[2]
    return frozenset(re.findall(r"^\| `([a-z0-9-]+)` \|", text, re.MULTILINE))


KNOWN_NOTES = documented_notes()


def seeds() -> Iterator[bytes]:
    """The hostile corpus, and the bundled skills."""
    for name, make in hostile_zips.CORPUS.items():
        if name not in LARGE:
            yield make()
    for path in sorted((TESTS / "samples").glob("*/*.zip")):
        yield path.read_bytes()


def zipfile_count(content: bytes) -> int | None:
    """How many files Python's zipfile sees; None when it cannot open the archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as opened:
            return sum(not info.filename.endswith("/") for info in opened.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, EOFError, struct.error):
        return None


def inspect(content: bytes) -> None:
    """Never raises; knows only documented notes; opens what zipfile opens and counts the same files."""
    found = archive.inspect(content)
    expected = zipfile_count(content)
    if isinstance(found, Problem):
        assert found.code in {"empty", "not-a-zip"}
        assert found.message.isprintable()
        assert expected is None
        return
    assert isinstance(found, Inspection)
    assert list(found.notes) == sorted(set(found.notes))
    assert set(found.notes) <= KNOWN_NOTES
    assert found.file_count <= len(content) // 46, "46 bytes is the shortest directory header"
    assert expected in {None, found.file_count}


def unpack(content: bytes) -> None:
    """What is read stays within its limits, and what is written within its directory."""
    try:
        contents = read_zip(content, LIMITS)
    except UnreadableZipError:
        return
    sizes = [len(data) for data in contents.files.values()]
    assert sum(sizes) <= LIMITS.total_bytes
    assert max(sizes, default=0) <= LIMITS.member_bytes
    assert len(contents.files) <= contents.file_count
    for name in contents.files:
        assert refuse_name(name) is None, name
    for signal in contents.signals:
        assert signal.text.isprintable()
        assert len(signal.text) < MOST_SHOWN * 10
    if contents.files:
        with tempfile.TemporaryDirectory() as place:
            _written(contents.files, Path(place))


def _written(files: dict[str, bytes], place: Path) -> None:
    inside = place / "inside"
    inside.mkdir(mode=0o700)
    write_tree(files, inside)
    assert [path.name for path in place.iterdir()] == ["inside"]
    found = {path for path in inside.rglob("*") if not path.is_dir()}
    assert {path.relative_to(inside).as_posix(): path.read_bytes() for path in found} == files
    assert not any(path.is_symlink() for path in found)
    assert {path.stat().st_mode & 0o777 for path in found} == {0o600}
