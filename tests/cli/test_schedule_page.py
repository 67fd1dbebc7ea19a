"""The example of ``docs/schedules.md``, word for word but for the times."""

import re
from pathlib import Path

from cli_lab import Lab

from batchscan.schedules.schedule import KEYS

PAGE = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def without_times(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\dT(\d\d:\d\d:\d\d)(Z|[+-]\d\d:\d\d)", "TIME", text)


async def test_the_example_prints_what_the_page_shows(lab: Lab) -> None:
    (lab.path / "batchscan.toml").write_text(block("toml"))
    (lab.path / "policy.toml").touch()
    command, _, expected = block("text").partition("\n")
    program, *args = command.removeprefix("$ ").split()
    assert program == "batchscan"
    done = await lab.run(*args)
    assert done.code == 0
    assert without_times(done.out) == without_times(expected)
    assert done.out.count("T02:30:00+0") == 3


def test_the_page_names_every_key() -> None:
    rows = " ".join(re.findall(r"^\| (.*?) \|", PAGE, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", rows)) >= set(KEYS)
