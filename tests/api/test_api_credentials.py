"""Where keys are found, what is refused, and that no text shows one."""

import asyncio
import copy
import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
import structlog
from structlog.testing import capture_logs

from batchscan.api.credentials import (
    Credentials,
    CredentialSource,
    FileCredentials,
    Secret,
    StaticCredentials,
    find_credentials,
)
from batchscan.api.keyfiles import is_private
from batchscan.errors import CredentialsError

ENV = {"TENCENTCLOUD_SECRET_ID": "AKIDenv", "TENCENTCLOUD_SECRET_KEY": "KEYenv%(x)s"}
INI = "[default]\nsecret_id = AKIDini\nsecret_key = KEYini%(x)s\n"
JSON = '{"secretId": "AKIDcli", "secretKey": "KEYcli", "token": "TOKcli", "type": "default"}'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".tencentcloud").mkdir()
    (tmp_path / ".tccli").mkdir()
    return tmp_path


def put(home: Path, name: str, text: str, mode: int = 0o600) -> Path:
    path = home / name
    path.write_text(text, "utf-8")
    path.chmod(mode)
    return path


def ini(home: Path, text: str = INI, mode: int = 0o600) -> Path:
    return put(home, ".tencentcloud/credentials", text, mode)


def cli(home: Path, text: str = JSON, profile: str = "default") -> Path:
    return put(home, f".tccli/{profile}.credential", text)


async def parts(source: CredentialSource) -> tuple[str, str, str | None]:
    found = await source.get()
    return found.secret_id, found.secret_key.reveal(), found.token.reveal() if found.token else None


def refused(home: Path, env: Mapping[str, str] | None = None, profile: str | None = None) -> str:
    with pytest.raises(CredentialsError) as caught:
        find_credentials(profile, env or {}, home)
    link: BaseException | None = caught.value
    while link is not None:
        for secret in ("hunter2", "KEYenv", "KEYini", "KEYcli", "TOKcli", "TOKa", "TOKb"):
            assert secret not in f"{link!s}{link!r}"
        link = link.__cause__ or link.__context__
    return str(caught.value)


# the holder


def test_a_secret_shows_itself_nowhere() -> None:
    secret = Secret("hunter2")
    key = Credentials("AKIDx", secret, secret, "test")
    for text in (repr(secret), str(secret), f"{secret}", f"{secret:>40}", f"{secret!s:>9} {secret!r}"):
        assert "hunter2" not in text
    assert "hunter2" not in f"{key} {key!r} {[key]}"
    assert "AKIDx" not in repr(key)
    assert secret.reveal() == "hunter2"
    assert not hasattr(secret, "__dict__")


def test_a_secret_cannot_be_stored() -> None:
    for store in (pickle.dumps, copy.copy, copy.deepcopy, msgspec.json.encode, msgspec.msgpack.encode):
        with pytest.raises(TypeError):
            store(Secret("hunter2"))


def test_secrets_compare_by_value() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1


@pytest.mark.parametrize("value", ["", " ", "a b", " a", "a\n", "ключ", "a\x00", "a\r\nX-Evil: 1"])
def test_what_no_header_carries_is_refused(value: str) -> None:
    good = Secret("good")
    keys: list[tuple[str, Secret, Secret | None]] = [
        (value, good, None),
        ("good", Secret(value), None),
        ("good", good, Secret(value)),
    ]
    for secret_id, secret_key, token in keys:
        with pytest.raises(CredentialsError, match="test: the "):
            Credentials(secret_id, secret_key, token, "test")


# environment


async def test_environment_goes_first(home: Path) -> None:
    ini(home)
    cli(home)
    source = find_credentials(None, ENV, home)
    assert await parts(source) == ("AKIDenv", "KEYenv%(x)s", None)
    assert (await source.get()).source == "environment"
    assert await source.refresh() == await source.get()
    assert isinstance(source, StaticCredentials)


@pytest.mark.parametrize("name", ["TENCENTCLOUD_TOKEN", "TENCENTCLOUD_SESSION_TOKEN"])
async def test_environment_token(home: Path, name: str) -> None:
    assert await parts(find_credentials(None, ENV | {name: "TOKenv"}, home)) == (
        "AKIDenv",
        "KEYenv%(x)s",
        "TOKenv",
    )


def test_two_tokens_that_differ_are_refused(home: Path) -> None:
    tokens = {"TENCENTCLOUD_TOKEN": "TOKa", "TENCENTCLOUD_SESSION_TOKEN": "TOKb"}
    assert "differ" in refused(home, ENV | tokens)
    find_credentials(None, ENV | dict.fromkeys(tokens, "TOKa"), home)


@pytest.mark.parametrize("name", ENV)
@pytest.mark.parametrize("value", [None, ""])
def test_half_an_environment_is_refused_though_a_file_is_whole(
    home: Path, name: str, value: str | None
) -> None:
    ini(home)
    env = {key: text for key, text in (ENV | {name: value}).items() if text is not None}
    assert f"environment: {name} is not set" in refused(home, env)


def test_a_token_alone_is_refused(home: Path) -> None:
    assert "TENCENTCLOUD_SECRET_ID" in refused(home, {"TENCENTCLOUD_TOKEN": "TOK"})


@pytest.mark.parametrize("value", [" AKID", "AKID ", "AKID\n", "   "])
def test_padded_values_are_refused(home: Path, value: str) -> None:
    assert "environment: the secret id" in refused(home, ENV | {"TENCENTCLOUD_SECRET_ID": value})


async def test_empty_variables_are_not_set(home: Path) -> None:
    ini(home)
    empty = dict.fromkeys([*ENV, "TENCENTCLOUD_TOKEN", "TCCLI_PROFILE"], "")
    assert (await parts(find_credentials(None, empty, home)))[0] == "AKIDini"


# the INI file


async def test_ini_goes_before_the_profile_file(home: Path) -> None:
    path = ini(home)
    cli(home)
    source = find_credentials(None, {}, home)
    assert await parts(source) == ("AKIDini", "KEYini%(x)s", None)
    assert (await source.get()).source == f"{path} [default]"


async def test_ini_quotes_token_and_byte_order_mark(home: Path) -> None:
    ini(home, "\ufeff[default]\nSecret_ID = \"AKIDq\"\nsecret_key='KEYq'\ntoken = TOKq\nrole_arn = x\n")
    assert await parts(find_credentials(None, {}, home)) == ("AKIDq", "KEYq", "TOKq")


async def test_ini_section_of_the_profile_and_no_other(home: Path) -> None:
    ini(home, INI + "[prod]\nsecret_id = AKIDprod\nsecret_key = KEYprod\n")
    assert (await parts(find_credentials("prod", {}, home)))[0] == "AKIDprod"
    assert (await parts(find_credentials(None, {"TCCLI_PROFILE": "prod"}, home)))[0] == "AKIDprod"
    assert "[other]" in refused(home, profile="other")


@pytest.mark.parametrize(
    "text",
    [
        "secret_id = AKID\nsecret_key = hunter2\n",
        "[default]\nsecret_key hunter2\n",
        "[default]\nsecret_id = AKID\n",
        "[default]\nsecret_key = hunter2\n",
        "[default]\nsecret_id =\nsecret_key = hunter2\n",
        '[default]\nsecret_id = " AKID"\nsecret_key = hunter2\n',
        "[default]\nsecret_id = a\nsecret_id = b\nsecret_key = hunter2\n",
        "[default]\nsecret_id = ключ\nsecret_key = hunter2\n",
    ],
)
def test_a_damaged_ini_names_the_file_and_shows_nothing(home: Path, text: str) -> None:
    path = ini(home, text)
    cli(home)
    assert str(path) in refused(home)


async def test_an_ini_without_keys_is_passed_over(home: Path) -> None:
    ini(home, "[default]\nrole_arn = qcs::cam\n")
    cli(home)
    assert (await parts(find_credentials(None, {}, home)))[0] == "AKIDcli"


# the command line's profile


async def test_profile_file(home: Path) -> None:
    path = cli(home, profile="prod")
    source = find_credentials("prod", {}, home)
    assert await parts(source) == ("AKIDcli", "KEYcli", "TOKcli")
    assert (await source.get()).source == str(path)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "hunter2",
        "[" * 100_000,
        '{"secretId": "AKID"}',
        '{"secretKey": "hunter2"}',
        '{"secretId": 7, "secretKey": "hunter2"}',
        '{"secretId": "AKID", "secretKey": "hunter2", "token": ["hunter2"]}',
        '{"type": "cvm-role"}',
        '{"type": "sso", "secretId": "AKID"}',
    ],
)
def test_a_damaged_profile_names_the_file_and_shows_nothing(home: Path, text: str) -> None:
    path = cli(home, text)
    assert str(path) in refused(home)


@pytest.mark.parametrize("profile", ["../x", "a/b", ".", "", "x" * 65, "a b", "-x"])
def test_a_profile_is_no_path(home: Path, profile: str) -> None:
    if profile:
        assert "is not a name" in refused(home, profile=profile)
    else:
        assert "default.credential" in refused(home, profile=profile)


# files


def test_nothing_found_names_every_place(home: Path) -> None:
    told = refused(home)
    for place in (*ENV, "TENCENTCLOUD_TOKEN", "TENCENTCLOUD_SESSION_TOKEN"):
        assert place in told
    assert str(home / ".tencentcloud" / "credentials") in told
    assert str(home / ".tccli" / "default.credential") in told


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_files_readable_by_others_are_warned_about(home: Path, mode: int) -> None:
    path = ini(home, mode=mode)
    structlog.reset_defaults()
    with capture_logs() as logs:
        find_credentials(None, {}, home)
    assert [entry["event"] for entry in logs] == ["credentials-readable-by-others"]
    assert logs[0]["path"] == str(path)
    assert "KEYini" not in str(logs)


@pytest.mark.parametrize(
    ("mode", "ours", "private"),
    [
        (0o600, True, True),
        (0o400, False, True),
        (0o440, False, True),  # a secret that is mounted into a pod: root's, and its group's
        (0o440, True, False),
        (0o460, False, False),
        (0o444, False, False),
    ],
)
def test_a_file_may_be_given_to_us_through_its_group(mode: int, ours: bool, private: bool) -> None:
    owner = os.geteuid() + (0 if ours else 1)
    found = os.stat_result((0o100000 | mode, 1, 1, 1, owner, 0, 9, 0, 0, 0))
    assert is_private(found) == private


def test_private_files_are_not_warned_about(home: Path) -> None:
    ini(home)
    with capture_logs() as logs:
        find_credentials(None, {}, home)
    assert logs == []


def test_files_that_are_none(home: Path) -> None:
    path = home / ".tencentcloud" / "credentials"
    path.mkdir()
    assert f"{path}: not a file" in refused(home)
    path.rmdir()
    os.mkfifo(path)
    assert f"{path}: not a file" in refused(home)
    path.unlink()
    path.write_bytes(b"[default]\nsecret_key = hunter2\xff\n")
    assert "not UTF-8" in refused(home)
    ini(home, "#" * 70_000)
    assert "larger than" in refused(home)


def test_an_unreadable_place_is_said(home: Path) -> None:
    loop = home / ".tencentcloud" / "credentials"
    loop.symlink_to(loop)
    assert f"{loop}: " in refused(home)


async def test_refresh_reads_the_file_again_off_the_loop(home: Path) -> None:
    path = cli(home)
    source = find_credentials(None, {}, home)
    assert isinstance(source, FileCredentials)
    cli(home, JSON.replace("TOKcli", "TOKnew"))
    assert (await parts(source))[2] == "TOKcli"
    renewed = await asyncio.wait_for(source.refresh(), 5)
    assert renewed.token == Secret("TOKnew")
    assert (await parts(source))[2] == "TOKnew"
    path.unlink()
    with pytest.raises(CredentialsError, match="are gone"):
        await source.refresh()
    assert (await parts(source))[2] == "TOKnew"
