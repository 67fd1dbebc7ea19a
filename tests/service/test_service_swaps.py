"""What a caller named is swapped for a link out of the roots between the order and the run."""

import os
from pathlib import Path
from typing import Any

import pytest
from cli_lab import skills, until
from service_lab import ServiceLab

from batchscan.discover import Filters, discover, resolve_sources
from batchscan.errors import UsageError
from batchscan.models import Candidate
from batchscan.stats import Stats

SECRET = "token-of-somebody-else"


def swap(place: Path, target: Path) -> None:
    """Put a link where a file or directory is."""
    place.rename(place.with_name(f"{place.name}.aside"))
    place.symlink_to(target)


async def test_a_manifest_that_is_swapped_for_a_link_out_of_the_roots_is_not_read(lab: ServiceLab) -> None:
    skills(lab.inputs / "first", 1, "first")
    (inside,) = skills(lab.inputs / "listed", 1, "listed")
    outside = lab.path / "outside"
    outside.mkdir()
    orders: dict[Path, dict[str, Any]] = {}
    async with (
        lab.service() as service,
        lab.serving(lab.settings(service, {"max_runs": 1})) as serving,
    ):
        service.hold()
        await serving.order({"sources": [str(lab.inputs / "first")]})
        await until(lambda: service.arrivals > 0)  # it has the only place
        for name, content in (("list.txt", SECRET), ("list.csv", f"{SECRET},b\n"), ("list.jsonl", SECRET)):
            listed = lab.inputs / name
            header = "path\n" if name.endswith(".csv") else ""
            listed.write_text(f"{header}{inside}\n")
            orders[listed] = await serving.order({"manifests": [str(listed)]})
            (outside / name).write_text(content)
            swap(listed, outside / name)
        service.release()
        for listed, order in orders.items():
            run = await serving.ended(order["run_id"])
            assert run["state"] == "failed", run
            assert (
                f"{listed}: it is not below the directories that may be scanned" in run["problem"]["message"]
            )
            assert SECRET not in str(run)
        errors = serving.errors
    assert SECRET not in (await errors).decode()
    reports = (lab.state / "reports").iterdir()
    assert not [path for path in reports if SECRET in path.read_text()]


async def test_a_directory_that_is_swapped_for_a_link_out_of_the_roots_is_not_listed(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    skills(root / "named", 1)
    skills(outside, 2, SECRET)
    roots = frozenset({os.fsencode(root.resolve())})
    sources = resolve_sources([str(root / "named"), str(root)], [], nul=False, stdin_spool=None, roots=roots)
    sources += resolve_sources([str(root / "named")], [], nul=False, stdin_spool=None, roots=roots)
    swap(root / "named", outside)
    stats = Stats()
    found = [one async for some in discover(sources, Filters(roots=roots), stats) for one in some]
    assert [one.path for one in found] == ["named.aside/skill-0000.zip"]
    assert stats.skipped == {"symlink-leads-out-of-roots": 2}  # as a source, and on the way


async def read(place: Path, roots: frozenset[bytes], target: Path | None) -> list[Candidate]:
    """Check a manifest, swap it for a link, read it."""
    sources = resolve_sources([], [str(place)], nul=False, stdin_spool=None, roots=roots)
    if target is not None:
        swap(place, target)
    found = discover(sources, Filters(roots=roots), Stats())
    return [candidate async for some in found for candidate in some]


async def test_a_manifest_that_is_swapped_once_it_was_checked_is_not_read(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.write_text(SECRET)
    roots = frozenset({os.fsencode(root.resolve())})
    (root / "list").write_text("a.zip\n")
    (root / "link").symlink_to("list")
    assert [one.path for one in await read(root / "link", roots, None)] == ["a.zip"]
    os.mkfifo(root / "fifo")
    with pytest.raises(UsageError, match="no regular file"):  # and nobody waits for a writer
        await read(root / "link", roots, root / "fifo")
    with pytest.raises(UsageError, match="not below the directories") as caught:
        await read(root / "list", roots, outside)
    assert SECRET not in str(caught.value)
