"""The settings file and its commands, through the real program."""

import asyncio
import json
from typing import Any

import pytest
from cli_lab import POLLS, Lab, skills

from batchscan.config import Config
from batchscan.embedded import server, verify
from batchscan.service_config import ServiceConfig

CREATE, RESULT = "CreateSkillScan", "DescribeSkillScanResult"


def named(lab: Lab, url: str, keys: str) -> str:
    """A settings file with one endpoint, ``test``."""
    path = lab.path / "settings.toml"
    path.write_text(f'endpoint = "test"\n[endpoints.test]\nurl = "{url}"\n{keys}\n')
    return str(path)


async def test_each_setting_is_shown_with_its_value_and_origin(lab: Lab) -> None:
    path = named(lab, "china", 'rate = 2\nproxy = "http://user:hush@proxy.example:3128"\ndeadline = "2h"')
    env = {"BATCHSCAN_CONFIG": path, "BATCHSCAN_FIRST_POLL_S": "90", "TCCLI_PROFILE": "night"}
    shown, told = await asyncio.gather(
        lab.run("config", "show", "--max-age", "30d", env=env), lab.run("config", "show", "--json", env=env)
    )
    assert (shown.code, told.code) == (0, 0)
    head, _, table = shown.out.partition("\n\n")
    assert head.splitlines() == [
        f"settings file: {path}",
        "endpoints in it: test",
        "endpoint: test, https://csip.tencentcloudapi.com/",
    ]
    lines = [" ".join(line.split()) for line in table.splitlines()]
    assert len(lines) == len(Config.model_fields) + len(ServiceConfig.model_fields)
    for line in (
        f"endpoint china file {path}: endpoint",
        "profile night variable TCCLI_PROFILE",
        "language zh-CN preset of china",
        f"rate 2 file {path}: endpoints.test.rate",
        "result_rate 20 preset of china",
        "first_poll 90s variable BATCHSCAN_FIRST_POLL_S",
        "poll_interval 1m preset of china",
        f"deadline 2h file {path}: endpoints.test.deadline",
        "limit_bytes 7,000,000 default",
        "max_age 30d flag --max-age",
        f"proxy http://***@proxy.example:3128 file {path}: endpoints.test.proxy",
        "ca_file the system's default",
        "report_urls false default",
        f"state_dir {lab.state} default",
    ):
        assert line in lines
    document = json.loads(told.out)
    assert document["schema"] == "batchscan.settings/1"
    assert document["endpoint_name"] == "test"
    assert list(document["settings"]) == list(Config.model_fields)
    assert document["settings"]["first_poll_s"] == {
        "value": 90.0,
        "origin": "variable BATCHSCAN_FIRST_POLL_S",
    }
    assert document["settings"]["max_age_s"] == {"value": None, "origin": "default"}
    assert "hush" not in shown.out + told.out + shown.err + told.err
    assert not lab.state.exists()


async def test_all_is_checked_and_nothing_is_made(lab: Lab) -> None:
    path = named(lab, "intl", "")
    (lab.path / "bad.toml").write_text('secret_key = "hush"\nrate = "fast"\nendpoint = "nosuch"\n')
    right, without, wrong, scan = await asyncio.gather(
        lab.run("config", "check", "--config", path),
        lab.run("config", "check"),
        lab.run("config", "check", "--config", "bad.toml", env={"BATCHSCAN_RATTE": "1"}),
        lab.run("scan", "in", "--config", "bad.toml"),
    )
    assert (right.code, without.code, wrong.code, scan.code) == (0, 0, 2, 2)
    assert right.out == f"{path}, the environment and the flags: no problem; the endpoint is test\n"
    assert "/home/.config/batchscan/batchscan.toml) and the flags: no problem" in without.out
    bad = lab.path / "bad.toml"
    assert wrong.out == scan.out == ""
    for text in (
        "4 settings are wrong:\n",
        "\n  no such setting: BATCHSCAN_RATTE;",
        f"\n  {bad}: secret_key: keys of an account do not belong in this file;",
        f"\n  {bad}: rate: 'fast' is not a number\n",
        f"\n  {bad}: endpoint: endpoint 'nosuch': not known;",
    ):
        assert text in wrong.err
    assert "3 settings are wrong" in scan.err
    assert "hush" not in wrong.err + scan.err
    assert not lab.state.exists()


async def test_language_and_caps_of_a_named_endpoint_reach_the_service(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    skills(lab.inputs, 4)
    languages = set()

    def looking(headers: Any, *others: Any) -> None:
        languages.add(headers["X-TC-Language"])
        verify.verify(headers, *others)

    monkeypatch.setattr(server, "verify", looking)
    async with lab.service() as service:
        config = named(lab, service.url, 'language = "zh-CN"\nrate = 10\nresult_rate = 5')
        done = await lab.run("scan", "in", "--config", config, *POLLS, "--json", "-o", lab.report)
        starts = {action: list(service.engine.arrivals(action)) for action in (CREATE, RESULT)}
    assert done.code == 0
    assert languages == {"zh-CN"}
    assert {row["endpoint"] for row in lab.rows_of(4)} == {service.url.removeprefix("http://")}
    # four at ten a second take 0.3 s, four polls at five a second 0.6 s; a network may shift the ends
    assert starts[CREATE][-1] - starts[CREATE][0] > 0.25
    assert starts[RESULT][-1] - starts[RESULT][0] > 0.5


async def test_a_resumed_run_keeps_the_settings_that_it_was_started_with(lab: Lab) -> None:
    skills(lab.inputs, 2)
    async with lab.service() as service:
        config = named(lab, service.url, "rate = 0")
        first = await lab.run(
            *("scan", "in", "--config", config, *POLLS, "-o", lab.report, "--no-wait", "--report-urls")
        )
        other = lab.path / "other.toml"
        other.write_text('endpoint = "intl"\nfirst_poll = "10m"\nreport_urls = false\n')
        done = await lab.run("resume", "--config", other, env={"BATCHSCAN_POLL_INTERVAL_S": "10m"})
        links = set(service.links)
    assert (first.code, done.code) == (3, 0)
    rows = lab.rows_of(2)
    assert {row["outcome"] for row in rows} == {"scanned"}
    assert {row["report_url"] for row in rows} == links


async def test_help_of_each_command_names_no_python_type(lab: Lab) -> None:
    commands = (("config",), ("config", "show"), ("config", "check"), ("quota",), ("doctor",))
    done = await asyncio.gather(*(lab.run(*command, "--help") for command in commands))
    for command, found in zip(commands, done, strict=True):
        assert found.code == 0, command
        assert not any(word in found.out for word in ("<str>", "<path>", "TEXT")), command
