"""What must hold for the readers of manifests, replies, keys, drills and settings, whatever the bytes.

Each function takes any input and raises only when the program is wrong. Where there are several readers,
the first bytes of the input choose one.
"""

# ruff: noqa: PT017 - a fuzzer runs these, too, and it knows no pytest

import functools
import json
import math
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from batchscan import config, manifest
from batchscan.api import protocol, reading
from batchscan.api.endpoints import endpoint, proxy_url
from batchscan.api.exchange import Reply
from batchscan.api.keyfiles import Found, parse_ini, parse_profile, read_file
from batchscan.api.keys import Credentials
from batchscan.api.reactions import CREATE, PAY_INFO, RESULT
from batchscan.api.roles import temporary
from batchscan.embedded.drill import Drill, DrillDice, Target
from batchscan.errors import CredentialsError, ServiceError, UsageError
from batchscan.models import Candidate, Verdict
from batchscan.settings import load
from batchscan.settings_file import read_settings_file
from batchscan.walk import Filters

DIGEST = b"\xab" * 32
CREATE_BODY = {"ContentHash": "sha256:" + "ab" * 32, "EngineVersion": 20260501, "Status": "SCANNING"}
FINISHED: dict[str, Any] = {
    "ContentHash": "sha256:" + "ab" * 32,
    "EngineVersion": 20260501,
    "SkillName": "weather",
    "SkillDescription": "Tells the weather",
    "UploadFileCount": 37,
    "RiskLevel": "malicious",
    "PrimaryRuleID": "90002",
    "Mitigation": "Do not install it.",
    "RiskDescription": "Runs commands.",
    "SecurityScore": 5,
    "CapabilityTags": [{"ID": "file_read", "Name": "Reads files"}],
    "RuleCatalog": [{"RuleID": "90002", "RuleName": "Command execution"}],
    "ScanItems": [{"ScanType": "AI", "RuleList": [{"RuleID": "90002", "Description": "It runs."}]}],
    "ReportURL": "https://example.com/report?token=x",
    "ScannedAt": "2026-05-28T20:26:40+08:00",
}
SECRET = "SecretKeyOfTheFuzzHarness0000001"
"""What the key files of the seeds hold: must be in no message."""


@functools.cache
def place() -> tempfile.TemporaryDirectory[str]:
    """A directory that ends with the process, for readers that need a file."""
    return tempfile.TemporaryDirectory(prefix="batchscan-fuzz-")


def file_of(name: str, content: bytes) -> Path:
    path = Path(place().name, name)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:  # noqa: PTH123 - private from the start
        file.write(content)
    return path


# manifests

MANIFESTS = ("list.txt", "list.nul", "list.jsonl", "list.csv")


def manifest_seeds() -> Iterator[bytes]:
    yield b"\0a.zip\r\n# comment\n\n./b//c.zip\n../up.zip\n\xff.zip"
    yield b"\1a.zip\0#b\nc.zip\0\0d.zip"
    yield b'\2\xef\xbb\xbf{"path": "a.zip", "id": 7, "metadata": {"a": [1, null]}}\n"b.zip"\n{broken\n'
    yield b'\2{"path": "\\ud800", "metadata": ' + b"[" * 40 + b"]" * 40 + b"}\n"
    yield b'\3id,path,owner\r\n1,a.zip,"x, ""y"""\n2,"two\nlines.zip",\n3,"open\n4,d.zip,e,f\n'


def manifests(content: bytes) -> None:
    """Each line that is neither blank nor a comment is one candidate, whatever is in it."""
    name = MANIFESTS[content[0] % len(MANIFESTS)] if content else MANIFESTS[0]
    nul = name == "list.nul"
    body = content[1:]
    path = file_of(name, body)
    try:
        manifest.check(str(path), path, nul=nul)
    except UsageError as error:
        assert name.endswith(".csv"), error
        return
    filters = Filters(exclude=("*.skip", "skip/*")) if len(body) % 2 else Filters()
    skipped: Counter[str] = Counter()
    reading_ = manifest.read(str(path), path, nul=nul, filters=filters, skipped=skipped, check=lambda: None)
    found = list(reading_)
    for candidate in found:
        _sound(candidate)
    if not name.endswith(".csv"):
        assert len(found) + skipped["filtered"] == _lines(body, nul=nul)


def _lines(body: bytes, *, nul: bool) -> int:
    if nul:
        return sum(map(bool, body.split(b"\0")))
    texts = [line.strip() for line in body.removeprefix(b"\xef\xbb\xbf").split(b"\n")]
    return sum(bool(text) and not text.startswith(b"#") for text in texts)


def _sound(candidate: Candidate) -> None:
    assert (candidate.stat is None) != (candidate.problem is None)
    assert len(candidate.path.encode()) <= manifest.MAX_SHOWN_BYTES * 4, "at worst each byte is escaped"
    assert candidate.line is not None
    if candidate.problem is not None:
        assert candidate.problem.message.isprintable()
        assert len(candidate.problem.message) < 500
    msgspec.json.encode((candidate.id, candidate.metadata))


# replies

STATUSES = (200, 200, 200, 201, 302, 401, 413, 429, 500, 503)


def answer(action: int, response: object, status: int = 0) -> bytes:
    """An input: which action, which of ``STATUSES``, the ``Date`` header, the body."""
    body = json.dumps({"Response": response}).encode()
    return bytes([action, status]) + b"Thu, 28 May 2026 20:26:40 GMT\n" + body


def reply_seeds() -> Iterator[bytes]:
    yield answer(0, CREATE_BODY | {"RequestId": "rid"})
    yield answer(1, {"Status": "SUCCESS", "Data": FINISHED, "RequestId": "rid"})
    for status in ("SCANNING", "FAILED", "NOT_FOUND"):
        yield answer(1, {"Status": status, "Data": {"Message": "m"}, "RequestId": "rid"})
    yield answer(2, {"OrderStatus": 1, "TotalQuota": 9, "UsedCount": "3", "PayMode": 0, "TimeNow": "x"})
    yield answer(
        0, {"Error": {"Code": "AuthFailure.SignatureExpire", "Message": "m\x1b[2J"}, "RequestId": "r"}
    )
    yield answer(1, {"Error": {"Code": "ResourceNotFound", "Message": "m"}}, 5)
    yield b"\0\x08\n<html>Service Unavailable</html>"


def replies(content: bytes) -> None:
    """An answer is read, or a ``ServiceError`` says in bounded printable words why not."""
    head, _, body = content[2:].partition(b"\n")
    action = (CREATE, RESULT, PAY_INFO)[content[0] % 3] if content else CREATE
    status = STATUSES[content[1] % len(STATUSES)] if len(content) > 1 else 200
    headers = {"Date": head.decode("latin-1")}
    try:
        response = protocol.decipher(status, headers, body, action)
        if action == CREATE:
            submission = protocol.read_submission(response, DIGEST)
            assert 0 < submission.engine_version < 2**63
        elif action == RESULT:
            result = protocol.read_result(response, DIGEST, 7)
            assert (result.verdict is not None) == (result.status is protocol.ScanStatus.SUCCESS)
            if result.verdict is not None:
                _bounded(result.verdict)
        else:
            msgspec.json.encode(protocol.read_pay_info(response))
    except ServiceError as error:
        assert re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", error.code)
        assert error.message.isprintable()
        assert len(error.message) <= 1000
        assert error.request_id is None or (error.request_id.isprintable() and len(error.request_id) <= 128)
        assert error.server_time is None or math.isfinite(error.server_time)


def _bounded(verdict: Verdict) -> None:
    """It can be stored and comes back the same, and no text in it is longer than allowed."""
    kept = msgspec.json.encode(verdict)
    assert msgspec.json.decode(kept, type=Verdict) == verdict
    assert len(verdict.rules) <= protocol.MAX_RULES
    assert len(verdict.capabilities) <= protocol.MAX_RULES
    assert verdict.score is None or 0 <= verdict.score <= 100
    texts = [text for rule in verdict.rules for text in (rule.id, rule.name, rule.engine, rule.description)]
    texts += [verdict.skill_name, verdict.skill_description, verdict.summary, verdict.mitigation]
    texts += [text for capability in verdict.capabilities for text in (capability.id, capability.name)]
    assert all(len(text) <= reading.MAX_TEXT for text in texts if text)


# keys


def credential_seeds() -> Iterator[bytes]:
    yield f"\0[default]\nsecret_id = AKIDEXAMPLE\nsecret_key = '{SECRET}'\ntoken = t\n".encode()
    yield f"\0secret_id = AKIDEXAMPLE\nsecret_key = {SECRET}\n".encode()
    yield f"\0[default]\nsecret_id AKIDEXAMPLE\n {SECRET}\n[default]\nrole_arn = qcs::cam::x".encode()
    parts = {"type": "default", "secretId": "AKIDEXAMPLE", "secretKey": SECRET, "token": SECRET}
    yield b"\1" + json.dumps(parts | {"expiresAt": 1780000000, "role-arn": "qcs::cam::x"}).encode()
    yield b"\1" + json.dumps(parts).encode()[:-3]
    yield b"\1" + json.dumps({"type": "cvm-role"}).encode()
    yield b"\1" + json.dumps({"type": SECRET}).encode()
    given = {"TmpSecretId": "AKIDEXAMPLE", "TmpSecretKey": SECRET, "Token": SECRET}
    yield b"\2" + json.dumps(given | {"ExpiredTime": 1780000000}).encode()
    yield b"\2" + json.dumps(given | {"Expiration": "2026-05-28T20:26:40Z"}).encode()


def credentials(content: bytes) -> None:
    """A whole key, nothing, or an error that shows no line of what holds the key."""
    kind, body = content[0] % 3 if content else 0, content[1:]
    try:
        if kind == 2:
            reply = Reply(200, body, None)
            outcome = temporary(reply.fields(), reply.fields(), "role")
            if isinstance(outcome, CredentialsError):
                raise outcome
            _whole(outcome)
            return
        parse: Callable[[str, str, str], Found | None] = (parse_ini, parse_profile)[kind]
        found = read_file(file_of("credentials", body), "default", parse)
        if found is not None and found.credentials is not None:
            _whole(found.credentials)
    except CredentialsError as error:
        assert len(str(error)) < 1000
        shown: BaseException | None = error
        while shown is not None:  # what a traceback would show
            assert SECRET not in repr(shown)
            shown = shown.__cause__ or shown.__context__


def _whole(key: Credentials) -> None:
    for value in (key.secret_id, key.secret_key.reveal(), key.token.reveal() if key.token else "x"):
        assert value.isascii()
        assert value.isprintable(), "it becomes part of a header"
        assert " " not in value
    assert key.expires_at is None or math.isfinite(key.expires_at)
    if len(key.secret_key.reveal()) > 12:
        assert key.secret_key.reveal() not in repr(key)


# drills


def drill_seeds() -> Iterator[bytes]:
    yield b"Create:InternalError@0.2,Result:http-503@0.1,*:delay=2.5@0.1,Judge:failed*2,seed=7"
    yield b"Create:RequestLimitExceeded.UinLimitExceeded*3,*:http-503-json,Create:content-type=text/plain"
    yield b"Result:huge=64,Create:wrong-hash,*:skew=-400,Result:not-found*1@0.5,Judge:delay=1"


def drills(content: bytes) -> None:
    """A drill that is accepted can be run; one that is not is refused in words."""
    text = content.decode("utf-8", "replace")
    try:
        drill = Drill.parse(text)
    except ValueError as error:
        assert "drill" in str(error), error
        return
    for rule in drill.rules:
        assert 0 <= rule.probability <= 1
        assert math.isfinite(rule.fault.number)
        assert rule.fault.text.isprintable(), "it becomes a header or a code"
    dice = DrillDice(drill)
    for target in Target:
        dice.request(target)
    dice.judgement(1)


# settings

SETTINGS = (
    *("first_poll_s", "poll_interval_s", "deadline_s", "max_age_s", "unreachable_s", "rate", "result_rate"),
    *(
        "limit_bytes",
        "detector_workers",
        "endpoint",
        "proxy",
        "state_dir",
        "ca_file",
        "detector",
        "log_level",
    ),
)
FILE = len(SETTINGS)
"""Stands in the place of a setting's number before the text of a settings file."""


def setting(name: str, text: str) -> bytes:
    """An input: which of ``SETTINGS``, and what it is set to."""
    return bytes([SETTINGS.index(name)]) + text.encode()


def setting_seeds() -> Iterator[bytes]:
    tried = {
        "first_poll_s poll_interval_s deadline_s max_age_s unreachable_s": (
            *("90", "90s", "1.5h", "30d", "5 m", "1e3", "\u0663h", "250ms"),
        ),
        "rate result_rate": ("20", "0", "nan", "inf", "1e400", "-1"),
        "limit_bytes detector_workers": ("7000000", "0", "1_000", "9" * 30),
        "endpoint proxy": (
            "intl",
            "https://scan.example.com",
            "http://127.0.0.1:80",
            "https://u:p@[::1]:9/x",
        ),
        "state_dir ca_file": ("~/x", "~nobody-at-all/x", "relative", "/absolute"),
        "detector log_level": ("skilltotal", "deep", "warning", ""),
    }
    for names, texts in tried.items():
        for name in names.split():
            yield from (setting(name, text) for text in texts)
    for document in (
        'endpoint = "team"\nfirst_poll = "5m"\n[endpoints.team]\nurl = "https://a.example"\nrate = 2\n',
        'state_dir = "~nobody-at-all/x"\nca_file = "a\\u0000b"\nrehash = 1\nrate = true\n',
        '[endpoints]\nintl = 3\n[endpoints."a b"]\nurl = "http://x"\nproxy = "socks://u:p@h"\n',
        'secret_key = "x"\nlimit_bytes = 0x7FFFFFFFFFFFFFFFFFFF\nmax_age = 1979-05-27\nrate = nan\n',
    ):
        yield bytes([FILE]) + document.encode()


def settings(content: bytes) -> None:
    """A setting is taken, within its bounds, or refused in words."""
    chosen = content[0] % (len(SETTINGS) + 1) if content else 0
    try:
        if chosen == FILE:
            path = file_of("batchscan.toml", content[1:])
            held, problems = read_settings_file(path)
            assert all(problem.startswith(str(path)) for problem in problems)
            msgspec.json.encode((held.settings, held.endpoints), enc_hook=str)
            loaded = load({"config": path})
            assert problems == []
        else:
            name, text = SETTINGS[chosen], content[1:].decode("utf-8", "replace")
            _duration(text)
            loaded = load({name: text})
    except UsageError as error:
        assert str(error)
        return
    if loaded.endpoint != "embedded":
        endpoint(loaded.endpoint)
    if loaded.proxy is not None:
        proxy_url(loaded.proxy)
    for value in loaded.model_dump().values():
        assert not isinstance(value, float) or (math.isfinite(value) and value >= 0)
    assert loaded.state_dir.is_absolute()


def _duration(text: str) -> None:
    try:
        config.parse_duration(text)
    except ValueError as error:
        assert "not a duration" in str(error)
