"""The short form of the torture; ``python tests/torture/run.py all`` is the long one."""

from pathlib import Path

import pytest
import torture_disks
import torture_faults
import torture_kills
import torture_processes


async def test_killed_at_the_worst_moments(tmp_path: Path) -> None:
    moments = ("answered", "received", "report grows", *(["fsync"] if torture_kills.sees_fsync() else []))
    figures = await torture_kills.kills(tmp_path, count=3, seed=1, moments=moments, skills=40)
    assert figures["kills"] == 3
    assert figures["in doubt at a kill"] > 0, "no kill was between send and commit"


async def test_frozen_for_longer_than_its_lease(tmp_path: Path) -> None:
    figures = await torture_kills.frozen(tmp_path, truly=False, skills=40)
    assert figures["submitted again"] > 0, "nobody took over what the frozen one had claimed"


async def test_all_faults_at_once(tmp_path: Path) -> None:
    figures = await torture_faults.storm(tmp_path, files=40, seed=2, gentle=True)
    assert figures["faults"] > 5
    assert figures["rows with a verdict"] > 25


async def test_the_same_job_started_twice(tmp_path: Path) -> None:
    await torture_processes.overlap(tmp_path, skills=40)


async def test_files_swapped_while_they_are_scanned(tmp_path: Path) -> None:
    figures = await torture_processes.swapped(tmp_path, seconds=2, skills=30)
    assert figures["swaps"] > 0


async def test_a_disk_that_is_full(tmp_path: Path) -> None:
    if unable := torture_disks.can_mount(tmp_path / "try"):
        pytest.skip(unable)
    await torture_disks.full_report(tmp_path / "report", skills=80, size="32k")
