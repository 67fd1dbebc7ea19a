"""Ways from a name to a place below a root, and those that lead elsewhere."""

import os
from pathlib import Path
from typing import Any

import pytest

from batchscan.content import read_bytes
from batchscan.errors import UsageError
from batchscan.models import Rejection
from batchscan.service.roots import OutsideRootsError, Roots
from batchscan.walk import OUTSIDE


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "x.zip").touch()
    return root


def test_links_inside_are_resolved(root: Path) -> None:
    roots = Roots([root])
    (root / "to-b").symlink_to("a/b")
    (root / "a" / "up").symlink_to("../to-b/./x.zip")
    (root / "absolute").symlink_to(root / "a")
    for name, place in (
        ("", ""),
        ("a", "a"),
        ("a/b/x.zip", "a/b/x.zip"),
        ("to-b", "a/b"),
        ("to-b/x.zip", "a/b/x.zip"),
        ("a/up", "a/b/x.zip"),
        ("absolute/b", "a/b"),
        ("a//b/./x.zip", "a/b/x.zip"),
    ):
        assert roots.place(f"{root}/{name}") == str(root / place)


def test_a_root_that_is_a_link_is_known_by_both_names(root: Path) -> None:
    alias = root.parent / "alias"
    alias.symlink_to(root)
    roots = Roots([alias])
    assert roots.real == (str(root),)
    for name in (alias, root):
        assert roots.place(f"{name}/a") == str(root / "a")


def test_a_link_swapped_in_on_the_way_is_not_followed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = root.parent / "outside"
    (outside / "b").mkdir(parents=True)
    real = os.open
    opened: list[object] = []

    def swapping(path: Any, flags: int, *args: int, **how: int) -> int:
        if path == b"b" and not opened:  # between the look at "a" and the step into it
            opened.append(path)
            (root / "a").rename(root / "aside")
            (root / "a").symlink_to(outside)
        return real(path, flags, *args, **how)

    monkeypatch.setattr(os, "open", swapping)
    with pytest.raises(OutsideRootsError):
        Roots([root]).place(f"{root}/a/b/x.zip")
    assert opened


@pytest.mark.parametrize(
    "target", ["/", "/etc", "..", "../..", "a/../..", "../root-too", "loop", "a/b/x.zip/..", "missing"]
)
def test_links_that_lead_out_are_refused(root: Path, target: str) -> None:
    (root.parent / "root-too").mkdir()
    (root / "loop").symlink_to("loop")
    if target != "loop":
        (root / "link").symlink_to(target)
    with pytest.raises(OutsideRootsError, match="not below a directory"):
        Roots([root]).place(f"{root}/{'loop' if target == 'loop' else 'link'}/a")


def test_names_that_are_not_text_are_found(root: Path) -> None:
    raw = os.fsencode(root) + b"/\xff"
    os.mkdir(raw)  # noqa: PTH102 - a Path has no bytes
    assert os.fsencode(Roots([root]).place(os.fsdecode(raw))) == raw


def test_without_roots_nothing_may_be_scanned(root: Path) -> None:
    with pytest.raises(OutsideRootsError, match="roots name no directory"):
        Roots([]).place(str(root))


def test_a_root_must_be_a_directory(root: Path) -> None:
    for wrong in (root / "missing", root / "a" / "b" / "x.zip"):
        with pytest.raises(UsageError, match="name a directory"):
            Roots([wrong])


def test_a_file_is_looked_at_again_once_it_is_open(root: Path) -> None:
    outside = root.parent / "outside.zip"
    outside.write_bytes(b"secret")
    (root / "link.zip").symlink_to(outside)
    (root / "inside.zip").symlink_to("a/b/x.zip")
    roots = frozenset({bytes(root)})
    assert read_bytes(bytes(root / "link.zip"), 100, roots) == Rejection(OUTSIDE)
    assert isinstance(read_bytes(bytes(root / "inside.zip"), 100, roots), tuple)
    assert isinstance(read_bytes(bytes(root / "link.zip"), 100), tuple)


def test_no_descriptor_is_left_open(root: Path) -> None:
    roots = Roots([root])
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        roots.place(f"{root}/a/b/x.zip")
        with pytest.raises(OutsideRootsError):
            roots.place(f"{root}/a/b/missing")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
