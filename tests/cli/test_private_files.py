"""What is left on the disk is for its owner alone, whatever the umask; only ``--output`` obeys that."""

import os
import signal
import stat
import sys
from pathlib import Path

from cli_lab import Lab, skills, until

OPEN_UMASK = (sys.executable, "-c", "import os, sys; os.umask(0); os.execv(sys.argv[1], sys.argv[1:])")


def open_to_others(place: Path) -> dict[str, str]:
    """What below a directory, itself included, others could read or enter."""
    found = {path: path.lstat().st_mode for path in (place, *place.rglob("*"))}
    return {str(path): stat.filemode(mode) for path, mode in found.items() if mode & 0o077}


async def test_the_state_directory_is_private(lab: Lab) -> None:
    """Ledger, locks, reports, the copy of standard input, and the embedded endpoint's store."""
    listed = "".join(f"{path}\n" for path in skills(lab.inputs, 2))
    scan = ("scan", "-", "--deadline", "0", "--first-poll", "1h", "--no-wait")
    done = await lab.run(*scan, "--json", text=listed, wrapped=OPEN_UMASK)
    assert done.summary["state"] == "incomplete", "so that all of it is still needed"
    left = {path.relative_to(lab.state).parts[0] for path in lab.state.rglob("*") if path.is_file()}
    assert {"ledger.sqlite3", "embedded.sqlite3", "reports", "stdin"} <= left
    assert open_to_others(lab.state) == {}
    report = Path(done.summary["report"])
    assert report.parent == lab.state / "reports"


async def test_a_report_elsewhere_obeys_the_umask(lab: Lab) -> None:
    skills(lab.inputs, 1)
    await lab.run("scan", "in", "-o", lab.report, wrapped=OPEN_UMASK)
    assert stat.S_IMODE(lab.report.stat().st_mode) == 0o644


async def test_temporary_files_are_private_and_do_not_stay(lab: Lab) -> None:
    scratch = lab.path / "tmp"
    scratch.mkdir()
    running = await lab.start("engine", "--port", "0", env={"TMPDIR": str(scratch)}, wrapped=OPEN_UMASK)
    await until(lambda: any(entry.name.startswith("batchscan-unpack-") for entry in scratch.iterdir()))
    modes = [os.stat(entry).st_mode for entry in scratch.iterdir()]  # noqa: PTH116 - of the entry itself
    assert {stat.S_IMODE(mode) for mode in modes} == {0o700}
    running.send(signal.SIGTERM)
    await running.done()
    assert open_to_others(lab.state) == {}
    assert list(scratch.iterdir()) == []
