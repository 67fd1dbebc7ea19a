"""Roles: who is asked for them, with what, in which order; over real sockets."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path

import pytest
import pytest_asyncio
import structlog
from aiohttp import web
from roles_lab import (
    ARN,
    BASE_KEY,
    BASE_TOKEN,
    ENV,
    EXPIRES,
    IDENTITY,
    NOW,
    ROLE_KEY,
    ROLE_TOKEN,
    Cloud,
    found,
    listening,
    pod,
    put,
    refused,
    role_keys,
)
from scripted_service import DIGEST, SUCCESS_BODY, Service, http, refusal
from structlog.testing import capture_logs
from tencentcloud.common.common_client import CommonClient  # type: ignore[import-untyped]  # ships no types
from tencentcloud.common.credential import Credential  # type: ignore[import-untyped]  # ships no types
from tencentcloud.common.profile.client_profile import ClientProfile  # type: ignore[import-untyped]  # ships no types
from tencentcloud.common.profile.http_profile import HttpProfile  # type: ignore[import-untyped]  # ships no types

from batchscan.api import protocol
from batchscan.api.client import open_client
from batchscan.api.credentials import (
    CredentialSource,
    RoleServices,
    Secret,
    find_credentials,
    profile_name,
)
from batchscan.api.endpoints import PRESETS, Endpoint
from batchscan.api.exchange import Route
from batchscan.errors import CredentialsError, UsageError


@pytest_asyncio.fixture
async def cloud() -> AsyncIterator[Cloud]:
    structlog.reset_defaults()
    started = Cloud()
    async with listening(started.serve) as url:
        started.url = url
        yield started


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".tencentcloud").mkdir()
    (tmp_path / ".tccli").mkdir()
    (tmp_path / "etc").mkdir()
    return tmp_path


async def failing(source: CredentialSource) -> str:
    with pytest.raises(CredentialsError) as caught:
        await source.get()
    return str(caught.value)


# AssumeRole


async def test_a_role_is_assumed_with_the_environments_keys(cloud: Cloud, home: Path) -> None:
    source = found(cloud, home, ENV | {"TENCENTCLOUD_ROLE_ARN": ARN})
    key = await source.get()
    assert (key.secret_id, key.secret_key, key.token) == (
        "AKIDrole1",
        Secret(ROLE_KEY),
        Secret(ROLE_TOKEN),
    )
    host = cloud.url.removeprefix("http://").rstrip("/")
    assert key.described() == (
        f"role {ARN} ({host}, with the keys of environment) (until 2027-01-15T10:00:00Z)"
    )
    assert cloud.fields() == {"RoleArn": ARN, "RoleSessionName": "batchscan", "DurationSeconds": 7200}
    headers = cloud.headers()
    assert headers["X-TC-Action"] == "AssumeRole"
    assert headers["X-TC-Version"] == "2018-08-13"
    assert headers["X-TC-Region"] == "ap-guangzhou"
    assert "Credential=AKIDbase/2027-01-15/sts/tc3_request" in headers["Authorization"]
    assert "X-TC-Token" not in headers


async def test_what_a_role_can_be_told(cloud: Cloud, home: Path) -> None:
    env = ENV | {
        "TENCENTCLOUD_TOKEN": BASE_TOKEN,
        "TENCENTCLOUD_ROLE_ARN": ARN,
        "TENCENTCLOUD_ROLE_SESSION_NAME": "nightly@audit",
        "TENCENTCLOUD_ROLE_DURATION": "43200",
        "TENCENTCLOUD_REGION": "ap-singapore",
    }
    await found(cloud, home, env).get()
    assert cloud.fields() == {
        "RoleArn": ARN,
        "RoleSessionName": "nightly@audit",
        "DurationSeconds": 43200,
    }
    assert cloud.headers()["X-TC-Region"] == "ap-singapore"
    assert cloud.headers()["X-TC-Token"] == BASE_TOKEN


async def test_a_wrong_key_is_seen_by_the_verifier(cloud: Cloud, home: Path) -> None:
    env = ENV | {"TENCENTCLOUD_SECRET_KEY": BASE_KEY[::-1], "TENCENTCLOUD_ROLE_ARN": ARN}
    assert "refused: AuthFailure.SignatureFailure" in await failing(found(cloud, home, env))


async def test_the_vendors_sdk_asks_for_the_same(
    cloud: Cloud, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    host = HttpProfile(protocol="http", endpoint=cloud.url.removeprefix("http://").rstrip("/"), reqTimeout=20)
    key = Credential("AKIDbase", BASE_KEY, BASE_TOKEN)
    client = CommonClient("sts", "2018-08-13", key, "ap-guangzhou", profile=ClientProfile(httpProfile=host))
    told = {"RoleArn": ARN, "RoleSessionName": "batchscan", "DurationSeconds": 7200}
    answer = await asyncio.to_thread(client.call_json, "AssumeRole", told)
    assert answer["Response"]["Credentials"]["TmpSecretId"] == "AKIDrole1"
    identity = {"ProviderId": "tke-oidc", "WebIdentityToken": IDENTITY, **told}
    unsigned = CommonClient(
        "sts", "2018-08-13", None, "ap-singapore", profile=ClientProfile(httpProfile=host)
    )
    action = "AssumeRoleWithWebIdentity"
    await asyncio.to_thread(unsigned.call_json, action, identity, options={"SkipSign": True})

    env = {"TENCENTCLOUD_TOKEN": BASE_TOKEN, "TENCENTCLOUD_ROLE_ARN": ARN}
    await found(cloud, home, ENV | env).get()
    await found(cloud, home, pod(home) | {"TKE_ROLE_ARN": ARN}).get()
    for theirs, ours in ((0, 2), (1, 3)):
        assert cloud.fields(theirs) == cloud.fields(ours)
        assert cloud.calls[theirs][0].method == cloud.calls[ours][0].method == "POST"
        for name in ("Host", "Content-Type", "X-TC-Action", "X-TC-Version", "X-TC-Region", "X-TC-Token"):
            assert cloud.headers(theirs).get(name) == cloud.headers(ours).get(name)
    assert cloud.headers(1)["Authorization"] == cloud.headers(3)["Authorization"] == "SKIP"


async def test_a_role_of_the_ini_file(cloud: Cloud, home: Path) -> None:
    text = f"[prod]\nsecret_id = AKIDbase\nsecret_key = {BASE_KEY}\nrole_arn = '{ARN}'\n"
    path = put(home, ".tencentcloud/credentials", text)
    source = found(cloud, home, {}, profile="prod")
    assert f"with the keys of {path} [prod]" in (await source.get()).source
    assert cloud.fields()["RoleArn"] == ARN
    await found(cloud, home, {"TENCENTCLOUD_ROLE_ARN": "qcs::other"}, profile="prod").get()
    assert cloud.fields()["RoleArn"] == "qcs::other"


async def test_a_role_of_the_command_lines_profile(cloud: Cloud, home: Path) -> None:
    fields = {"secretId": "AKIDbase", "secretKey": BASE_KEY, "role-arn": ARN, "role-session-name": "cli"}
    put(home, ".tccli/default.credential", json.dumps(fields))
    await found(cloud, home, {}).get()
    assert cloud.fields() == {"RoleArn": ARN, "RoleSessionName": "cli", "DurationSeconds": 7200}


async def test_a_base_key_whose_token_is_refused_is_read_again(cloud: Cloud, home: Path) -> None:
    def login(token: str) -> None:
        fields = {"secretId": "AKIDbase", "secretKey": BASE_KEY, "token": token, "role-arn": ARN}
        put(home, ".tccli/default.credential", json.dumps(fields))

    login("TOKold")
    source = found(cloud, home, {})
    login("TOKnew")
    cloud.script = [refused("AuthFailure.TokenFailure")]
    assert (await source.get()).secret_id == "AKIDrole1"
    assert [headers["X-TC-Token"] for headers in map(cloud.headers, (0, 1))] == ["TOKold", "TOKnew"]
    cloud.script = [refused("AuthFailure.TokenFailure")] * 2
    with pytest.raises(CredentialsError, match=r"AuthFailure\.TokenFailure"):
        await source.refresh()


async def test_a_clock_that_is_off_is_corrected_once(cloud: Cloud, home: Path) -> None:
    late = refused("AuthFailure.SignatureExpire", Date=formatdate(NOW + 3600, usegmt=True))
    cloud.script = [late]
    source = found(cloud, home, ENV | {"TENCENTCLOUD_ROLE_ARN": ARN})
    assert (await source.get()).secret_id == "AKIDrole1"
    assert [int(cloud.headers(i)["X-TC-Timestamp"]) - int(NOW) for i in (0, 1)] == [0, 3600]
    cloud.script = [refused("AuthFailure.SignatureExpire")] * 3
    with pytest.raises(CredentialsError, match="SignatureExpire"):
        await source.refresh()
    assert len(cloud.calls) == 4


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("TENCENTCLOUD_ROLE_ARN", "qcs::cam uin", "name of the role"),
        ("TENCENTCLOUD_ROLE_SESSION_NAME", "x", "session name"),
        ("TENCENTCLOUD_ROLE_SESSION_NAME", "a b", "session name"),
        ("TENCENTCLOUD_ROLE_DURATION", "2h", "TENCENTCLOUD_ROLE_DURATION is not a number"),
        ("TENCENTCLOUD_ROLE_DURATION", "43201", "not 43201"),
        ("TENCENTCLOUD_ROLE_DURATION", "0", "not 0"),
        ("TENCENTCLOUD_REGION", "ap guangzhou", "region"),
        ("TENCENTCLOUD_REGION", "a\r\nX-Evil: 1", "region"),
    ],
)
async def test_wrong_settings_are_found_before_anybody_is_asked(
    cloud: Cloud, home: Path, name: str, value: str, told: str
) -> None:
    with pytest.raises(CredentialsError, match=told):
        found(cloud, home, ENV | {"TENCENTCLOUD_ROLE_ARN": ARN, name: value})
    assert cloud.calls == []


# the site


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        (PRESETS["intl"], "https://sts.intl.tencentcloudapi.com/"),
        (PRESETS["china"], "https://sts.tencentcloudapi.com/"),
        (Endpoint("x", "https://csip.ap-shanghai.tencentcloudapi.com/"), "https://sts.tencentcloudapi.com/"),
        (Endpoint("x", "https://a.intl.tencentcloudapi.com/"), "https://sts.intl.tencentcloudapi.com/"),
        (Endpoint("x", "https://scan.example.com/"), "https://sts.intl.tencentcloudapi.com/"),
        (Endpoint("x", "https://eviltencentcloudapi.com/"), "https://sts.intl.tencentcloudapi.com/"),
    ],
)
def test_the_token_service_is_that_of_the_endpoints_site(endpoint: Endpoint, url: str) -> None:
    services = RoleServices.of(endpoint)
    assert services is not None
    assert services.sts_url == url


async def test_an_endpoint_on_this_machine_takes_the_keys_as_they_are(cloud: Cloud, home: Path) -> None:
    assert RoleServices.of(Endpoint("x", cloud.url)) is None
    env = ENV | {"TENCENTCLOUD_ROLE_ARN": ARN}
    with capture_logs() as logs:
        source = find_credentials(None, env, home, None, system_ini=home / "none")
    assert (await source.get()).secret_id == "AKIDbase"
    assert [(entry["event"], entry["role"]) for entry in logs] == [("role-not-assumed", ARN)]
    for env in (pod(home), {"TENCENTCLOUD_CVM_ROLE": "auto"}):
        with pytest.raises(CredentialsError, match="no role is asked for an endpoint on this machine"):
            find_credentials(None, env, home, None, system_ini=home / "none")
    assert cloud.calls == []


@pytest.mark.parametrize(
    "url",
    [
        "http://sts.tencentcloudapi.com/",
        "ftp://x/",
        "sts",
        "https://a:b@x/",
        "http://metadata.tencentyun.com/",
    ],
)
async def test_keys_are_not_asked_for_in_the_clear(cloud: Cloud, home: Path, url: str) -> None:
    with pytest.raises(CredentialsError, match=r"in the clear|not a URL"):
        found(cloud, home, ENV | {"TENCENTCLOUD_ROLE_ARN": ARN}, services=RoleServices(url))
    services = RoleServices(cloud.url, metadata_url=url.replace("metadata.", "evil."))
    with pytest.raises(CredentialsError, match=r"in the clear|not a URL"):
        found(cloud, home, {"TENCENTCLOUD_CVM_ROLE": "auto"}, services=services)


async def test_the_token_service_is_reached_through_the_proxy(cloud: Cloud, home: Path) -> None:
    lines: list[bytes] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.extend((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n"))
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    services = RoleServices.of(PRESETS["intl"], proxy=f"http://me:hunter2@127.0.0.1:{port}")
    async with server:
        env = ENV | {"TENCENTCLOUD_ROLE_ARN": ARN}
        told = await failing(found(cloud, home, env, services=services))
    assert lines[0] == b"CONNECT sts.intl.tencentcloudapi.com:443 HTTP/1.1"
    assert b"Proxy-Authorization: Basic bWU6aHVudGVyMg==" in lines
    assert "sts.intl.tencentcloudapi.com: ClientHttpProxyError: 403" in told
    assert "hunter2" not in told + repr(services)
    with pytest.raises(UsageError, match="the proxy is not a URL"):
        RoleServices.of(PRESETS["intl"], proxy="me:hunter2@proxy")


async def test_an_authority_file_that_is_none(cloud: Cloud, home: Path) -> None:
    services = RoleServices("https://127.0.0.1:1/", Route(None, put(home, "ca.pem", "nothing")))
    source = found(cloud, home, ENV | {"TENCENTCLOUD_ROLE_ARN": ARN}, services=services)
    assert "SSLError" in await failing(source)


# a pod's role


async def test_a_pods_role_shows_its_identity_and_signs_nothing(cloud: Cloud, home: Path) -> None:
    env = pod(home)
    source = found(cloud, home, env)
    key = await source.get()
    assert key.secret_id == "AKIDrole1"
    assert env["TKE_WEB_IDENTITY_TOKEN_FILE"] in key.source
    assert cloud.fields() == {
        "ProviderId": "tke-oidc",
        "WebIdentityToken": IDENTITY,
        "RoleArn": "qcs::cam::uin/1:roleName/pod",
        "RoleSessionName": "batchscan",
        "DurationSeconds": 7200,
    }
    assert cloud.headers()["Authorization"] == "SKIP"
    assert cloud.headers()["X-TC-Region"] == "ap-singapore"
    put(home, "identity", "renewed")
    await source.refresh()
    assert cloud.fields()["WebIdentityToken"] == "renewed"


@pytest.mark.parametrize("name", ["TKE_REGION", "TKE_PROVIDER_ID", "TKE_WEB_IDENTITY_TOKEN_FILE"])
def test_half_a_pods_identity_is_an_error(home: Path, name: str) -> None:
    with pytest.raises(CredentialsError, match=f"environment: {name} not set"):
        found(Cloud(), home, pod(home) | {name: ""}, services=RoleServices("https://x/"))


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "no such file"), ("", "holds no token"), ("two words", "no token"), ("x" * 70_000, "no token")],
)
async def test_an_identity_that_is_none(cloud: Cloud, home: Path, content: str | None, told: str) -> None:
    env = pod(home)
    path = Path(env["TKE_WEB_IDENTITY_TOKEN_FILE"])
    if content is None:
        env["TKE_WEB_IDENTITY_TOKEN_FILE"] = str(path := home / "none")
    else:
        put(home, "identity", content)
    source = found(cloud, home, env)
    message = await failing(source)
    assert told in message
    assert str(path) in message
    assert cloud.calls == []


# the machine's role


@pytest.mark.parametrize("name", ["auto", "auditor"])
async def test_the_machines_role(cloud: Cloud, home: Path, name: str) -> None:
    key = await found(cloud, home, {"TENCENTCLOUD_CVM_ROLE": name}).get()
    assert (key.secret_id, key.token, key.expires_at) == ("AKIDrole1", Secret(ROLE_TOKEN), EXPIRES)
    assert key.source == "role auditor of this machine (its metadata server)"
    paths = [request.path for request, _ in cloud.calls]
    assert paths == (["/meta/", "/meta/auditor"] if name == "auto" else ["/meta/auditor"])


async def test_the_metadata_server_is_never_asked_through_a_proxy(
    cloud: Cloud, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    services = RoleServices(cloud.url, Route("http://127.0.0.1:1"), f"{cloud.url}meta/")
    source = found(cloud, home, {"TENCENTCLOUD_CVM_ROLE": "auto"}, services=services)
    assert (await source.get()).secret_id == "AKIDrole1"


async def test_a_profile_that_names_the_machines_role(cloud: Cloud, home: Path) -> None:
    left = {"type": "cvm-role", "secretId": "AKIDold", "secretKey": "KEYold"}
    put(home, ".tccli/default.credential", json.dumps(left))
    assert (await found(cloud, home, {}).get()).secret_id == "AKIDrole1"
    named = found(cloud, home, {"TENCENTCLOUD_CVM_ROLE": "other"} | pod(home))
    assert "role other of this machine (its metadata server): it is not bound" in await failing(named)


async def test_a_role_is_assumed_with_the_machines(cloud: Cloud, home: Path) -> None:
    given = role_keys(9) | {"TmpSecretKey": BASE_KEY, "ExpiredTime": EXPIRES, "Code": "Success"}
    cloud.script = [web.json_response(given)]
    env = {"TENCENTCLOUD_CVM_ROLE": "auditor", "TENCENTCLOUD_ROLE_ARN": ARN}
    assert (await found(cloud, home, env).get()).secret_id == "AKIDrole1"
    assert cloud.headers()["X-TC-Token"] == ROLE_TOKEN
    assert "Credential=AKIDrole9/" in cloud.headers()["Authorization"]


@pytest.mark.parametrize("name", ["a/b", "a b", "../x", "?x", "ключ", "x" * 200])
async def test_a_role_is_no_path(cloud: Cloud, home: Path, name: str) -> None:
    with pytest.raises(CredentialsError, match="give its name, or auto"):
        found(cloud, home, {"TENCENTCLOUD_CVM_ROLE": name})


@pytest.mark.parametrize(
    ("bound", "told"),
    [("", "no role is bound"), ("<html>", "instead of a role's name"), ("a\nb", "instead of a role's name")],
)
async def test_a_machine_without_a_usable_role(cloud: Cloud, home: Path, bound: str, told: str) -> None:
    cloud.bound_role = bound
    assert told in await failing(found(cloud, home, {"TENCENTCLOUD_CVM_ROLE": "auto"}))


async def test_a_metadata_server_that_gives_no_keys(cloud: Cloud, home: Path) -> None:
    cloud.metadata_code = "Failed"
    told = await failing(found(cloud, home, {"TENCENTCLOUD_CVM_ROLE": "auto"}))
    assert "role auditor of this machine (its metadata server): no keys given: HTTP 200, Failed" in told


# order


async def test_the_order_of_sources(cloud: Cloud, home: Path) -> None:
    def section(name: str) -> str:
        return f"[default]\nsecret_id = AKID{name}\nsecret_key = key\n"

    env = ENV | pod(home) | {"TENCENTCLOUD_CVM_ROLE": "auto"}
    files = (
        put(home, ".tencentcloud/credentials", section("home")),
        put(home, "etc/credentials", section("system")),
        put(home, ".tccli/default.credential", '{"secretId": "AKIDcli", "secretKey": "key"}'),
    )
    seen = [(await found(cloud, home, env).get()).secret_id]
    for name in ENV:
        del env[name]
    for path in files:
        seen.append((await found(cloud, home, env).get()).secret_id)
        path.unlink()
    assert seen == ["AKIDbase", "AKIDhome", "AKIDsystem", "AKIDcli"]
    assert cloud.calls == []
    await found(cloud, home, env).get()
    assert cloud.headers()["X-TC-Action"] == "AssumeRoleWithWebIdentity"
    await found(cloud, home, {"TENCENTCLOUD_CVM_ROLE": "auto"}).get()
    assert cloud.calls[-1][0].path == "/meta/auditor"


async def test_nothing_found_names_the_roles_and_asks_nobody(cloud: Cloud, home: Path) -> None:
    with pytest.raises(CredentialsError) as caught:
        found(cloud, home, {"TENCENTCLOUD_ROLE_ARN": ARN})
    for name in (*pod(home), "TENCENTCLOUD_CVM_ROLE", "TENCENTCLOUD_ROLE_ARN", str(home / "etc")):
        assert name in str(caught.value)
    assert cloud.calls == []


def test_the_name_of_the_profile() -> None:
    assert profile_name(None, {}) == profile_name("", {"TCCLI_PROFILE": ""}) == "default"
    assert profile_name(None, {"TCCLI_PROFILE": "prod"}) == "prod"
    assert profile_name("audit", {"TCCLI_PROFILE": "prod"}) == "audit"


# with the client


async def test_a_refused_token_is_replaced_once(cloud: Cloud, home: Path, service: Service) -> None:
    service.script(refusal("AuthFailure.TokenFailure"), http(SUCCESS_BODY))
    source = found(cloud, home, {"TENCENTCLOUD_CVM_ROLE": "auditor"})
    request = protocol.create_request(b"PK\x05\x06" + b"\0" * 18, "demo.zip")
    async with open_client(service.endpoint, source) as client:
        from batchscan.errors import ServiceError

        with pytest.raises(ServiceError, match="TokenFailure"):
            await client.create(request, DIGEST)
        await client.create(request, DIGEST)
    signers = [re.findall("Credential=([^/]+)/", call.headers["authorization"]) for call in service.calls]
    assert signers == [["AKIDrole1"], ["AKIDrole2"]]
    assert len(cloud.calls) == 2
