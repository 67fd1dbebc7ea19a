"""The examples of docs/service.md, run against a real service; its tables are held against the code."""

import asyncio
import re
import shutil
from pathlib import Path

import pytest
from cli_lab import TOKEN, skill
from service_lab import ServiceLab

from batchscan.service.app import OPERATIONS

PAGE = (Path(__file__).parents[2] / "docs" / "service.md").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("curl") is None, reason="the examples use curl")
async def test_the_examples_work_as_they_are_written(lab: ServiceLab) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 6
    token = lab.path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    async with lab.service() as service:
        settings = lab.settings(service, {"token_file": "token"})
        (lab.inputs / "hook.zip").write_bytes(skill("evil"))
        async with lab.serving(settings, token=TOKEN) as serving:
            script = f"set -euo pipefail\nURL={serving.url}\nTOKEN={TOKEN}\n" + "\n".join(blocks)
            process = await asyncio.create_subprocess_exec(
                *("bash", "-c", script.replace("/srv/skills", str(lab.inputs))),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=lab.path,
            )
            out, err = (stream.decode() for stream in await process.communicate())
            assert process.returncode == 0, out + err
            runs = (await serving.get("/runs")).json["runs"]
            states = {run["state"] for run in runs}
    assert len(runs) == 2
    assert states <= {"complete", "cancelled", "running"}
    assert "hook.zip" in (lab.path / "report.csv").read_text(encoding="utf-8")
    for told in ('"state":"complete"', "event: run.state", '"verdict":"malicious"', '"remaining":'):
        assert told in out


def test_the_table_names_every_request() -> None:
    shown = set(re.findall(r"^\| `(GET|POST) ([^`?]+)\??[^`]*` \|", PAGE, re.MULTILINE))
    assert shown == {(operation.method, operation.path) for operation in OPERATIONS}
