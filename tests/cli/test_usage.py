"""What is wrong with a command is said in a sentence, before anything is made."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
from cli_lab import Done, Lab, skills

from batchscan import __version__

AWAY = {"TENCENTCLOUD_SECRET_ID": None, "TENCENTCLOUD_SECRET_KEY": None}


async def each(lab: Lab, *commands: tuple[tuple[str, ...], Mapping[str, str | None]]) -> list[Done]:
    """Run commands three at a time: starting Python is what takes the time."""
    turn = asyncio.Semaphore(3)

    async def one(args: tuple[str, ...], env: Mapping[str, str | None]) -> Done:
        async with turn:
            return await lab.run(*args, env=env)

    return await asyncio.gather(*(one(args, env) for args, env in commands))


async def test_help_is_quick_and_names_no_python_type(lab: Lab) -> None:
    bare, top, scan, unknown = await each(
        lab, ((), {}), (("--help",), {}), (("scan", "-h"), {}), (("nosuch",), {})
    )
    assert bare.code == 2
    assert "Commands:" in bare.err
    assert top.code == scan.code == 0
    assert "python" not in (top.out + scan.out).lower()
    for word in ("<str>", "<path>", "<int", "list[", "<float>"):
        assert word not in scan.out
    assert "\n    5    there was nothing to scan\n" in scan.out
    for command in ("scan", "resume", "status", "engine"):
        assert f"  {command} " in top.out
    assert unknown.code == 2
    assert "No such command 'nosuch'" in unknown.err


async def test_the_shell_completion_is_printed(lab: Lab) -> None:
    done = await lab.run(
        "--show-completion", "bash", env={"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    )
    version = await lab.run("--version")
    assert (done.code, version.code) == (0, 0)
    assert "complete -o default -F _batchscan_completion batchscan" in done.out
    assert version.out == f"batchscan {__version__}\n"


WRONG: Mapping[str, tuple[tuple[str, ...], Mapping[str, str | None], tuple[str, ...]]] = {
    "no source": (("scan",), {}, ("nothing to scan", "--manifest")),
    "missing source": (("scan", "nosuch"), {}, ("'nosuch'", "name a directory")),
    "missing manifest": (("scan", "--manifest", "nosuch"), {}, ("'nosuch'", "manifest")),
    "manifest without paths": (("scan", "--manifest", "no-path.csv"), {}, ("no-path.csv", "'path'", "id")),
    "directory as manifest": (("scan", "--manifest", "in"), {}, ("directory is no manifest", "in")),
    "FIFO as source": (("scan", "fifo.zip"), {}, ("fifo.zip", "FIFO")),
    "every bad setting at once": (
        (
            "scan",
            "in",
            "--rate",
            "-1",
            "--first-poll",
            "5x",
            "--limit-bytes",
            "8000000",
            "--log-level",
            "loud",
        ),
        {"BATCHSCAN_UNREACHABLE_S": "soon", "BATCHSCAN_DETECTOR_WORKERS": "many"},
        (
            *("--rate: -1.0 is out of range; it must be at least 0", "--first-poll: not a duration: '5x'"),
            *("--limit-bytes: 8000000 is out of range; it must be at most 7340032", "--log-level: 'loud'"),
            *(
                "BATCHSCAN_UNREACHABLE_S: not a duration: 'soon'",
                "BATCHSCAN_DETECTOR_WORKERS: 'many' is not a",
            ),
        ),
    ),
    "no number": (("scan", "in", "--rate", "fast"), {}, ("--rate", "number")),
    "infinite rate": (("scan", "in", "--rate", "inf"), {}, ("--rate", "finite")),
    "empty state directory": (("scan", "in", "--state-dir", ""), {}, ("--state-dir: is empty",)),
    "unknown setting": (("scan", "in"), {"BATCHSCAN_RATTE": "1"}, ("BATCHSCAN_RATTE", "no such setting")),
    "unknown option": (("scan", "in", "--fast"), {}, ("No such option: --fast",)),
    "unknown verdict": (("scan", "in", "--fail-on", "benign"), {}, ("--fail-on", "'benign'")),
    "plain http": (("scan", "in", "--endpoint", "http://192.0.2.1"), {}, ("http://192.0.2.1", "use https")),
    "unknown endpoint": (("scan", "in", "--endpoint", "Intl"), {}, ("'Intl'", "embedded, intl, china")),
    "keys in the URL": (("scan", "in", "--endpoint", "https://u:pw@x.test"), {}, ("keys do not go into",)),
    "state directory that is a file": (("scan", "in", "--state-dir", "file"), {}, ("file", "it is a file")),
    "run that is not there": (("resume", "nosuch"), {}, ("no run 'nosuch'", "batchscan status")),
    "nothing to resume": (("resume",), {}, ("no run to resume",)),
    "status of no run": (("status", "nosuch"), {}, ("no run 'nosuch'", "batchscan status")),
    "engine with a bad drill": (("engine", "--drill", "x", "--port", "0"), {}, ("drill rule 'x'",)),
}


@pytest.mark.parametrize("names", [list(WRONG)[:11], list(WRONG)[11:]], ids=["sources", "settings"])
async def test_wrong_usage_is_told_and_makes_nothing(lab: Lab, names: list[str]) -> None:
    import os

    skills(lab.inputs, 1)
    os.mkfifo(lab.path / "fifo.zip")
    (lab.path / "file").write_text("x")
    (lab.path / "no-path.csv").write_text("id,name\n1,x\n")
    found = await each(lab, *((WRONG[name][0], WRONG[name][1]) for name in names))
    for name, done in zip(names, found, strict=True):
        assert done.code == 2, (name, done)
        assert done.out == "", name
        for part in WRONG[name][2]:
            assert part in done.err, (name, done.err)
        assert "pw@" not in done.err
    assert not (lab.state / "reports").exists()


async def test_without_credentials_nothing_is_made_and_all_places_are_named(lab: Lab) -> None:
    skills(lab.inputs, 1)
    scan, listed = await each(
        lab,
        (("scan", "in", "--endpoint", "intl", "-o", "r.jsonl"), AWAY),
        (("scan", "-", "--endpoint", "china"), AWAY),
    )
    for done in (scan, listed):
        assert done.code == 4
        for place in ("TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY", ".tencentcloud", ".tccli"):
            assert place in done.err
    assert sorted(path.name for path in lab.path.iterdir()) == ["home", "in"]


async def test_a_state_directory_that_cannot_be_used_is_told(lab: Lab, tmp_path: Path) -> None:
    import sqlite3

    skills(lab.inputs, 1)
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "ledger.sqlite3").write_bytes(b"no database " * 500)
    made = await lab.run("scan", "in", "-n", "--state-dir", tmp_path / "newer")
    with sqlite3.connect(tmp_path / "newer" / "ledger.sqlite3") as ledger:
        ledger.execute("PRAGMA user_version = 99")
    ledger.close()
    garbage, newer = await each(
        lab, (("scan", "in", "--state-dir", "garbage"), {}), (("status", "--state-dir", "newer"), {})
    )
    assert (made.code, garbage.code, newer.code) == (0, 2, 2)
    assert "no ledger or is damaged" in garbage.err
    assert "newer batchscan" in newer.err
    assert (tmp_path / "garbage" / "ledger.sqlite3").read_bytes().startswith(b"no database ")
