"""The doctor finds what keeps a scan from working, says how to fix it, and spends nothing."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from cli_lab import FAST, TOKEN, Done, Lab, skills

from batchscan import doctor
from batchscan.config import Config
from batchscan.diagnosis import Level
from batchscan.local_checks import check_caps

PAY_INFO = "DescribeSkillScanPayInfo"
AWAY = {"TENCENTCLOUD_SECRET_ID": None, "TENCENTCLOUD_SECRET_KEY": None}
NAMES = [
    "version",
    "settings",
    "state directory",
    "caps",
    "credentials",
    "endpoint",
    "clock",
    "access",
    "quota",
]


def checks(done: Done) -> dict[str, dict[str, Any]]:
    """What ``--json`` printed, by the name of the check; each that did not pass has a fix."""
    examination = json.loads(done.out)
    assert examination["schema"] == "batchscan.doctor/1"
    assert examination["exit_code"] == done.code
    for check in examination["checks"]:
        assert bool(check["fix"]) == (check["level"] != "pass"), check
        assert (check["exit_code"] != 0) == (check["level"] == "fail"), check
    return {check["name"]: check for check in examination["checks"]}


def levels(done: Done) -> dict[str, str]:
    """The checks that did not pass."""
    return {name: check["level"] for name, check in checks(done).items() if check["level"] != "pass"}


@pytest.mark.parametrize("site", ["intl", "china"])
async def test_where_all_is_well_all_passes_and_nothing_is_made(lab: Lab, site: str) -> None:
    async with lab.service(site=site) as service:
        shown, told = await asyncio.gather(
            lab.run("doctor", "--endpoint", service.url),
            lab.run("doctor", "--endpoint", service.url, "--json"),
        )
        requests = dict(service.engine.requests)
    assert (shown.code, told.code) == (0, 0)
    assert list(checks(told)) == NAMES
    assert levels(told) == {}
    assert shown.out.count("\npass  ") + shown.out.startswith("pass  ") == len(NAMES)
    assert shown.out.endswith("\nnothing failed; nothing was spent\n")
    assert "environment (does not expire)" in checks(told)["credentials"]["message"]
    assert "0 of 100,000 used, 100,000 left" in checks(told)["quota"]["message"]
    assert requests == {PAY_INFO: 2}
    assert not lab.state.exists()


async def test_the_embedded_endpoint_is_started_and_needs_no_key(lab: Lab) -> None:
    done = await lab.run("doctor", "--json", env=AWAY)
    assert done.code == 0
    assert levels(done) == {}
    assert "embedded at http://127.0.0.1:" in checks(done)["endpoint"]["message"]
    assert "none needed" in checks(done)["credentials"]["message"]


@pytest.mark.parametrize(("skew", "level", "code"), [(120, "warn", 0), (900, "fail", 2)])
async def test_the_clock_is_held_against_the_services(lab: Lab, skew: int, level: str, code: int) -> None:
    async with lab.service(drill=f"PayInfo:skew={skew}") as service:
        done = await lab.run("doctor", "--json", "--endpoint", service.url)
    assert levels(done) == {"clock": level}
    assert "s behind the service's" in checks(done)["clock"]["message"]
    assert done.code == code


@pytest.mark.parametrize(
    ("skew_s", "found"),
    [
        (None, []),
        (30, [(Level.PASS, "within 30 s of the service's")]),
        (-31, [(Level.WARN, "31 s ahead of the service's")]),
        (300, [(Level.WARN, "300 s behind the service's")]),
        (-301, [(Level.FAIL, "301 s ahead of the service's; signatures are refused from 300 s on")]),
    ],
)
def test_a_clock_that_is_off_is_told_by_how_much(
    skew_s: float | None, found: list[tuple[Level, str]]
) -> None:
    assert [(check.level, check.message) for check in doctor._clock(skew_s)] == found


async def test_what_the_service_refuses_or_is_not_there_is_told(lab: Lab) -> None:
    wrong_key = {"TENCENTCLOUD_SECRET_KEY": "WrongKeyOfTheDoctorsTests0000001"}
    async with lab.service(site="intl", total_quota=0) as service:
        command = ("doctor", "--json", "--endpoint", service.url)
        wrong, nobody, empty = await asyncio.gather(
            lab.run(*command, env=wrong_key), lab.run(*command, env=AWAY), lab.run(*command)
        )
    gone = await lab.run(*command)
    assert [done.code for done in (wrong, nobody, empty, gone)] == [4, 4, 4, 4]
    assert levels(wrong) == {"access": "fail"}
    assert checks(wrong)["access"]["message"].startswith("AuthFailure.SignatureFailure: ")
    assert wrong_key["TENCENTCLOUD_SECRET_KEY"] not in wrong.out + wrong.err
    assert levels(nobody) == {"credentials": "fail"}
    assert list(checks(nobody)) == NAMES[:-2]  # endpoint and clock are looked at without a key
    assert levels(empty) == {"quota": "fail"}
    assert "nothing more can be scanned" in checks(empty)["quota"]["message"]
    assert levels(gone) == {"endpoint": "fail"}
    assert checks(gone)["endpoint"]["message"].count("connect-failed") == 1
    assert checks(gone)["endpoint"]["fix"].startswith("Check network, DNS, proxy and firewall")


@pytest.mark.parametrize(
    ("drill", "expected", "code"),
    [
        ("PayInfo:RequestLimitExceeded", {"access": "warn"}, 0),
        ("PayInfo:UnauthorizedOperation", {"access": "fail"}, 4),
        ("PayInfo:http-302", {"endpoint": "fail"}, 4),
        ("PayInfo:bad-json", {"endpoint": "fail"}, 4),
    ],
)
async def test_each_refusal_is_put_where_it_belongs(
    lab: Lab, drill: str, expected: dict[str, str], code: int
) -> None:
    async with lab.service(drill=drill) as service:
        done = await lab.run("doctor", "--json", "--endpoint", service.url)
    assert levels(done) == expected
    assert done.code == code


async def test_what_is_wrong_here_goes_before_what_is_wrong_there(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "garbage").mkdir(mode=0o700)
    (tmp_path / "garbage" / "ledger.sqlite3").write_bytes(b"no database " * 500)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    away = ("doctor", "--json", "--endpoint", "http://127.0.0.1:9", "--state-dir")
    file, below, garbage, embedded, others = await asyncio.gather(
        lab.run(*away, "file"),
        lab.run(*away, "file/below"),
        lab.run(*away, "garbage"),
        lab.run("doctor", "--json", "--state-dir", "file"),
        lab.run(*away, "open"),
    )
    assert [done.code for done in (file, below, garbage, embedded, others)] == [2, 2, 2, 2, 4]
    for done in (file, below, garbage):
        assert levels(done) == {"state directory": "fail", "endpoint": "fail"}
    assert "no ledger or is damaged" in checks(garbage)["state directory"]["message"]
    assert "cannot be made in" in checks(below)["state directory"]["message"]
    assert list(checks(embedded)) == NAMES[:5]
    assert levels(others) == {"state directory": "warn", "endpoint": "fail"}


async def test_wrong_settings_are_all_told_and_nothing_else_is_looked_at(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('secret_key = "hush"\nrate = "fast"\n')
    shown, told = await asyncio.gather(
        lab.run("doctor", "--config", "bad.toml"), lab.run("doctor", "--config", "bad.toml", "--json")
    )
    assert (shown.code, told.code) == (2, 2)
    assert [check["name"] for check in json.loads(told.out)["checks"]] == ["version", "settings", "settings"]
    assert shown.out.endswith("\n2 failed; nothing was spent\n")
    assert "hush" not in shown.out + told.out + shown.err + told.err


async def test_a_proxys_password_is_not_for_others(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text('proxy = "http://user:hush@127.0.0.1:9"\n')
    path.chmod(0o644)
    async with lab.service() as service:
        command = ("doctor", "--json", "--endpoint", service.url, "--config", "proxy.toml")
        others = await lab.run(*command)
        path.chmod(0o600)
        private = await lab.run(*command)
    assert (levels(others), levels(private)) == ({"settings": "warn"}, {})
    assert "hush" not in others.out + others.err + private.out


async def test_keys_that_end_and_files_that_do_not_fit_are_warnings(lab: Lab) -> None:
    skills(lab.inputs, 3)
    place = lab.home / ".tccli"
    place.mkdir()
    kept: dict[str, Any] = {
        "secretId": "AKIDcommandline0000000000000000000",
        "secretKey": "SecretKeyOfTheCommandLineTests01",
    }
    kept |= {"token": TOKEN, "type": "oauth", "expiresAt": 4_000_000_000}
    path = place / "default.credential"
    path.write_text(json.dumps(kept))
    path.chmod(0o600)
    async with lab.service(token=TOKEN, total_quota=2, drill="Create:UnauthorizedOperation") as service:
        refused = await lab.run("scan", "in", "--endpoint", service.url, *FAST, env=AWAY)
        fitting = await lab.run("doctor", "--json", "--endpoint", service.url, env=AWAY)
    assert refused.code == 4
    assert levels(fitting) == {"quota": "warn"}
    assert fitting.code == 0
    assert "3 files are pending here, 2 of the files fit, 1 do not" in checks(fitting)["quota"]["message"]
    assert str(path) in checks(fitting)["credentials"]["message"]
    assert "(until 2096-10-02T07:06:40Z)" in checks(fitting)["credentials"]["message"]


def test_a_cap_above_that_of_the_site_is_a_warning() -> None:
    def level(**settings: Any) -> Level:
        return check_caps(Config(**settings)).level

    assert level(endpoint="intl") is Level.PASS
    assert level(endpoint="intl", rate=20, result_rate=100) is Level.PASS
    assert level(endpoint="intl", rate=21) is Level.WARN
    assert level(endpoint="intl", rate=0) is Level.WARN
    assert level(endpoint="china", result_rate=21) is Level.WARN
    assert level(endpoint="embedded", rate=0) is Level.PASS
    assert level(endpoint="https://scan.example", rate=500) is Level.PASS
