"""The command lines that are written in the files are ones that the program takes."""

import re
import shlex
from collections.abc import Iterator

import pytest
import typer
from deployment_files import CONFIGS, documents, named

from batchscan.cli import app


def command_lines() -> Iterator[tuple[str, list[str]]]:
    for unit in sorted((CONFIGS / "systemd").glob("*.service")):
        (line,) = re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
        yield unit.name, shlex.split(line)[1:]
    yield "deployment", named("Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
    job = named("CronJob")["spec"]["jobTemplate"]["spec"]
    yield "cronjob", job["template"]["spec"]["containers"][0]["args"]
    yield "compose", documents(CONFIGS / "compose.yaml")[0]["services"]["batchscan"]["command"]


@pytest.mark.parametrize(("where", "line"), list(command_lines()))
def test_the_program_takes_it(where: str, line: list[str]) -> None:
    group = typer.main.get_group(app)
    name, *args = line
    command = group.commands[name]
    context = command.make_context(name, list(args), parent=group.make_context("batchscan", ["--", name]))
    assert context.params["config"] == "/etc/batchscan/batchscan.toml"
    if name == "scan":
        assert context.params["sources"]
        assert str(context.params["metrics_textfile"] or "x.prom").endswith(".prom")
    else:
        assert (name, args) == ("serve", ["--config", "/etc/batchscan/batchscan.toml"]), where
