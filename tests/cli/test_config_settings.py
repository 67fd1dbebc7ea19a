"""Who set what: each setting from the first place that gives it, and all that is wrong told at once."""

import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from batchscan.config import Config, duration_text, parse_duration
from batchscan.connect import find_access, scope_name
from batchscan.schedules.schedule import Schedule
from batchscan.service_config import ServiceConfig
from batchscan.settings import CONFIG_VARIABLE, RECORDED, Recorded, SettingsError, settle
from batchscan.settings_file import read_settings_file

EXAMPLE = Path(__file__).parents[2] / "configs" / "batchscan.example.toml"
CHINA = "https://csip.tencentcloudapi.com"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home where nothing is set, and a working directory elsewhere."""
    for name in list(os.environ):
        if name.startswith(("BATCHSCAN_", "TENCENTCLOUD_", "TCCLI_", "TKE_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", "AKIDconfigurationtests")
    monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY", "SecretKeyOfTheConfigTests")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def file_of(directory: Path, text: str, name: str = "settings.toml") -> str:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def problems(flags: dict[str, Any], recorded: Recorded | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        settle(flags, recorded)
    assert caught.value.exit_code == 2
    for problem in caught.value.problems:
        assert problem in str(caught.value)
    return list(caught.value.problems)


LAYERED = """
rate = 4
first_poll = "4m"
[endpoints.night]
url = "china"
rate = 3
"""


@pytest.mark.parametrize(
    ("flag", "variable", "table", "expected", "origin"),
    [
        (1, "2", True, 1.0, "flag --rate"),
        (None, "2", True, 2.0, "variable BATCHSCAN_RATE"),
        (None, None, True, 3.0, "file {file}: endpoints.night.rate"),
        (None, None, False, 4.0, "file {file}: rate"),
    ],
    ids=["flag", "variable", "table", "file"],
)
def test_the_first_place_that_gives_a_setting_counts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flag: float | None,
    variable: str | None,
    table: bool,
    expected: float,
    origin: str,
) -> None:
    file = file_of(tmp_path, LAYERED)
    if variable is not None:
        monkeypatch.setenv("BATCHSCAN_RATE", variable)
    settled = settle({"config": file, "rate": flag, "endpoint": "night" if table else "intl"})
    assert settled.config.rate == expected
    assert settled.origins["rate"] == origin.format(file=file)
    assert settled.config.create_rate == expected
    assert settled.config.poll_rate == (20 if table else 100)  # the site's, where nobody gives it
    assert "result_rate" not in settled.origins
    assert settled.config.first_poll_s == 240.0
    assert settled.origins["first_poll_s"] == f"file {file}: first_poll"


def test_the_file_is_found_at_home_or_named_and_never_in_the_working_directory(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for directory in (tmp_path / "work", tmp_path / "work" / "batchscan"):
        file_of(directory, "rate = 9", "batchscan.toml")
    monkeypatch.setenv("XDG_CONFIG_HOME", ".")
    assert settle({}).file is None
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert settle({}).file is None
    at_home = file_of(home / ".config" / "batchscan", "rate = 1", "batchscan.toml")
    assert (settle({}).config.rate, str(settle({}).file)) == (1.0, at_home)
    monkeypatch.setenv(CONFIG_VARIABLE, file_of(tmp_path, "rate = 2", "of-variable.toml"))
    assert settle({}).config.rate == 2.0
    assert settle({"config": file_of(tmp_path, "rate = 3", "of-flag.toml")}).config.rate == 3.0


def test_relative_paths_start_at_the_file(tmp_path: Path, home: Path) -> None:
    file = file_of(tmp_path / "etc", 'state_dir = "state"\nproxy = "http://u:pw@proxy.example:3128"')
    config = settle({"config": file}).config
    assert config.state_dir == tmp_path / "etc" / "state"
    assert config.proxy == "http://u:pw@proxy.example:3128"
    below_home = file_of(tmp_path / "etc", 'state_dir = "~/state"')
    assert settle({"config": below_home}).config.state_dir == home / "state"


WRONG = """
rate = "fast"
rehash = 1
limit_bytes = true
ratte = 3
first_poll_s = "5m"
ca_file = "nosuch.pem"
proxy = "ftp://user:hush@proxy.example"
language = "de"
[endpoints.night]
url = "https://user:hush@scan.example"
poll_interval = "0s"
deadline = "soon"
endpoint = "intl"
[endpoints.china]
url = "intl"
[endpoints.nowhere]
rate = 1
[endpoints."a b"]
url = "intl"
"""


def test_all_that_is_wrong_is_told_at_once_with_file_and_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = file_of(tmp_path, WRONG)
    monkeypatch.setenv("BATCHSCAN_DEADLINE_S", "never")
    monkeypatch.setenv("BATCHSCAN_RATTE", "1")
    monkeypatch.setenv("BATCHSCAN_SECRET_KEY", "hush")
    found = problems({"config": file, "max_age_s": "old", "endpoint": "nihgt"})
    expected = (
        "--max-age: not a duration: 'old'",
        "BATCHSCAN_DEADLINE_S: not a duration: 'never'",
        "no such setting: BATCHSCAN_RATTE, BATCHSCAN_SECRET_KEY; unset it",
        f"{file}: ratte: no such key; is rate meant?",
        f"{file}: first_poll_s: no such key; is first_poll meant?",
        f"{file}: rate: 'fast' is not a number",
        f"{file}: rehash: must be true or false",
        f"{file}: limit_bytes: must not be true or false",
        f"{file}: ca_file: {tmp_path / 'nosuch.pem'}: not a readable PEM file",
        f"{file}: proxy: the proxy is not a URL",
        f"{file}: language: 'de' is not one of 'en-US' or 'zh-CN'",
        f"{file}: endpoints.night.endpoint: no such key; known are",
        f"{file}: endpoints.night.url: endpoint at scan.example: keys do not go into the URL",
        f"{file}: endpoints.night.poll_interval: 0s is out of range; it must be above 0",
        f"{file}: endpoints.night.deadline: not a duration: 'soon'",
        f"{file}: endpoints.china.url: china has its own address",
        f"{file}: endpoints.nowhere: has no url",
        f"{file}: endpoints.a b: not a name",
        "--endpoint: endpoint 'nihgt': not known",
    )
    for text in expected:
        assert [problem for problem in found if problem.startswith(text)], (text, found)
    assert len(found) == len(expected), found
    assert found[-1].endswith(f"{file} names night, china, nowhere, a b")
    assert "hush" not in "".join(found)


@pytest.mark.parametrize(
    "text",
    [
        'secret_id = "hush"',
        'secret_key = "hush"',
        'SecretKey = "hush"',
        'token = ["hush"]',
        '[credentials]\nid = "hush"',
        '[endpoints.night]\nurl = "intl"\nproxy_password = "hush"',
        '[endpoints]\napi_key = "hush"',
    ],
)
def test_a_key_that_looks_like_a_secret_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    (problem,) = problems({"config": file_of(tmp_path, text)})
    assert "keys of an account do not belong in this file" in problem
    assert "docs/credentials.md" in problem
    assert "hush" not in problem


UNREADABLE: dict[str, tuple[bytes | None, str]] = {
    "not there": (None, "cannot be read: No such file or directory"),
    "syntax": (b'rate = 1\nendpoint = "intl\n', "not TOML: Illegal character '\\n' (at line 2, column 17)"),
    "twice": (b"rate = 1\nrate = 2\n", "not TOML: Cannot overwrite a value (at line 2"),
    "not text": (b"rate = 1 # \xff", "not TOML: byte 11 is not UTF-8"),
    "huge": (b"#" * 1_100_000, "larger than 1048576 bytes"),
    "deep": (b"a = " + b"[" * 50_000, "not TOML: nested too deeply"),
    "no table": (b"endpoints = 3", "endpoints: not a table; write [endpoints.NAME]"),
    "no table of one": (b"[endpoints]\nnight = 3", "endpoints.night: not a table; write [endpoints.night]"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_that_cannot_be_read_is_told_with_where(tmp_path: Path, case: str) -> None:
    content, expected = UNREADABLE[case]
    path = tmp_path / "settings.toml"
    if content is not None:
        path.write_bytes(content)
    (problem,) = problems({"config": str(path)})
    assert problem.startswith(f"{path}: {expected}")


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path):
        assert not stat.S_ISREG(path.stat().st_mode)
        assert problems({"config": str(path)}) == [
            f"{path}: not a regular file; name a TOML file of settings"
        ]


def test_an_empty_name_of_the_file_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems({"config": " "}) == ["--config: is empty"]
    monkeypatch.setenv(CONFIG_VARIABLE, "")
    assert problems({}) == ["BATCHSCAN_CONFIG: is empty"]


def scope(config: Config) -> str:
    return scope_name(config)


def test_a_name_keeps_the_scope_of_its_host_and_has_its_caps(tmp_path: Path) -> None:
    file = file_of(tmp_path, f'[endpoints.a]\nurl = "china"\n[endpoints.b]\nurl = "{CHINA}"\nprofile = "b"\n')
    plain = settle({"endpoint": "china"}).config
    for name in ("a", "china", CHINA):
        settled = settle({"config": file, "endpoint": name})
        assert settled.endpoint_name == name
        assert settled.config == plain
        assert scope(settled.config) == "default@csip.tencentcloudapi.com"
        assert (settled.config.create_rate, settled.config.poll_rate) == (3, 20)
    other = settle({"config": file, "endpoint": "b"}).config
    assert scope(other) == "b@csip.tencentcloudapi.com"
    assert settle({"config": file, "endpoint": "b", "profile": "c"}).config.profile == "c"


def test_a_table_called_like_a_site_changes_what_holds_there(tmp_path: Path) -> None:
    file = file_of(tmp_path, "[endpoints.intl]\nrate = 5\n[endpoints.embedded]\nfirst_poll = 1\n")
    assert settle({"config": file, "endpoint": "intl"}).config.create_rate == 5
    assert settle({"config": file, "endpoint": "china"}).config.create_rate == 3
    assert settle({"config": file}).config.first_poll_s == 1.0


def test_the_language_reaches_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHSCAN_LANGUAGE", "zh-CN")
    access = find_access(settle({"endpoint": "intl"}).config)
    assert access is not None
    assert access.endpoint.language == "zh-CN"


@pytest.mark.parametrize("text", ["90", "90s", "5m", "1.5h", "30d", "250ms", "0"])
def test_durations_are_written_as_they_are_read(text: str) -> None:
    seconds = parse_duration(text)
    assert isinstance(seconds, float)
    assert parse_duration(duration_text(seconds)) == seconds


def shown(text: str) -> str:
    """The example with all that it shows switched on."""
    return re.sub(r"^#(?=[a-z_]+ = |\[)", "", text, flags=re.MULTILINE)


def test_the_example_changes_nothing_as_it_is() -> None:
    plain = settle({})
    settled = settle({"config": str(EXAMPLE)})
    assert settled.config == plain.config
    assert settled.origins == {}
    assert settled.file == EXAMPLE
    assert shown(EXAMPLE.read_text(encoding="utf-8")) != EXAMPLE.read_text(encoding="utf-8")


def test_the_example_shows_every_key_in_a_form_that_is_taken(tmp_path: Path) -> None:
    for name in ("policy.toml", "accepted.toml"):
        (tmp_path / name).touch()
    path = Path(file_of(tmp_path, shown(EXAMPLE.read_text(encoding="utf-8"))))
    file, found = read_settings_file(path)
    missing = f"{tmp_path / 'authorities.pem'}: not a readable PEM file of certificates"
    assert [problem.partition(missing)[:2] for problem in found] == [
        (f"{path}: ca_file: ", missing),
        (f"{path}: endpoints.gateway.ca_file: ", missing),
    ]
    assert set(file.settings) | {"ca_file"} == set(Config.model_fields)
    in_tables = {name for table in file.endpoints.values() for name in table}
    assert in_tables | {"ca_file"} >= {"endpoint", *RECORDED[:6], "unreachable_s", "proxy", "profile"}
    assert set(file.endpoints) == {"night", "gateway", "china"}
    assert set(file.service) == set(ServiceConfig.model_fields)
    assert set(file.schedules) == {"nightly", "listed", "upgraded"}
    in_schedules = set[str]().union(*(each.model_fields_set for each in file.schedules.values()))
    assert in_schedules == set(Schedule.model_fields)


def test_the_page_names_every_key_and_variable() -> None:
    page = (EXAMPLE.parents[1] / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", page, re.MULTILINE)
    assert {(name.removesuffix("_s"), f"BATCHSCAN_{name.upper()}") for name in Config.model_fields} == set(
        rows
    )
    for name in RECORDED:
        assert f"`{name.removesuffix('_s')}`" in page.partition("## A run that is resumed")[2]
    service = (EXAMPLE.parents[1] / "docs" / "service.md").read_text(encoding="utf-8")
    defaults = dict(re.findall(r"^\| `(\w+)` \| `?([\w.]+)`? \|", service, re.MULTILINE))
    for name, value in ServiceConfig().model_dump().items():
        assert f"`{name}`" in page
        empty = "false" if value is False else "none"
        assert defaults[name] == (f"{value:g}" if isinstance(value, float) else str(value or empty))


def recorded(tmp_path: Path, **changes: Any) -> Recorded:
    """What a run at the named endpoint left on record."""
    file = file_of(tmp_path, '[endpoints.night]\nurl = "china"\nrate = 2\nproxy = "http://old.example:1"\n')
    settled = settle({"config": file, "endpoint": "night", "limit_bytes": 1000, "rehash": True})
    fields = {
        "run_id": "r1",
        "endpoint": settled.config.endpoint,
        "endpoint_name": settled.endpoint_name,
        "profile": None,
        "settings": settled.to_record(),
    }
    return Recorded(**(fields | changes))


def test_a_resumed_run_goes_on_with_what_it_was_started_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = recorded(tmp_path)
    assert "http" not in str(run)  # a proxy's address may hold a password
    file = file_of(
        tmp_path,
        'rehash = false\n[endpoints.night]\nurl = "china"\nrate = 1\nlanguage = "en-US"\n'
        'proxy = "http://new.example:1"',
    )
    monkeypatch.setenv("BATCHSCAN_LIMIT_BYTES", "5")
    monkeypatch.setenv("BATCHSCAN_ENDPOINT", "intl")
    monkeypatch.setenv("BATCHSCAN_FIRST_POLL_S", "9")
    settled = settle({"config": file, "max_age_s": "1d"}, run)
    config = settled.config
    assert (config.endpoint, config.limit_bytes, config.rehash, config.rate) == ("china", 1000, True, 2)
    assert (config.first_poll_s, config.language) == (None, None)  # the preset's then, the preset's now
    assert config.max_age_s == 86400
    assert config.proxy == "http://new.example:1"
    assert settled.origins["limit_bytes"] == "run r1"
    assert settled.origins["max_age_s"] == "flag --max-age"


def test_a_run_of_an_older_ledger_takes_the_settings_of_the_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCHSCAN_LIMIT_BYTES", "5")
    run = recorded(tmp_path, endpoint=CHINA, endpoint_name=None, settings={})
    config = settle({}, run).config
    assert (config.endpoint, config.limit_bytes) == ("china", 5)


def test_a_run_is_not_resumed_at_another_service(tmp_path: Path) -> None:
    run = recorded(tmp_path)
    gone = file_of(tmp_path, "rate = 1")
    assert settle({"config": gone}, run).config.endpoint == "china"
    moved = file_of(tmp_path, '[endpoints.night]\nurl = "intl"')
    (problem,) = problems({"config": moved}, run)
    assert problem.startswith(f"{moved}: endpoints.night is not china any more, where run r1 was started")
