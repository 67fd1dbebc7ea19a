"""Logs: one line per record, from whichever library, and nothing secret or unprintable on it."""

import io
import json
import logging
import os
import pty
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from batchscan import logs
from batchscan.errors import UsageError
from batchscan.models import Outcome

SECRET = "S3CR3Tvalue"
AUTHORIZATION = (
    f"TC3-HMAC-SHA256 Credential=AKID{SECRET}/2026-05-29/csip/tc3_request, "
    f"SignedHeaders=content-type;host, Signature={SECRET}"
)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    logs.divert(None)
    structlog.reset_defaults()
    root.setLevel(level)
    root.handlers[:] = handlers


def logger() -> Any:
    return structlog.get_logger("batchscan.test")


def configured(level: str = "info", *, as_json: bool = True) -> io.StringIO:
    stream = io.StringIO()
    logs.configure(level, json=as_json, stream=stream)
    return stream


def only(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert isinstance(record, dict)
    return record


def test_a_record_is_one_json_line() -> None:
    stream = configured()
    logger().info("submitted", path="a.zip", size=3, ratio=0.5, outcome=Outcome.SCANNED, gone=None, ok=True)
    record = only(stream)
    assert record.pop("timestamp").endswith("Z")
    assert record == {
        "event": "submitted",
        "level": "info",
        "logger": "batchscan.test",
        "path": "a.zip",
        "size": 3,
        "ratio": 0.5,
        "outcome": "scanned",
        "gone": None,
        "ok": True,
    }


def test_the_standard_library_takes_the_same_way() -> None:
    stream = configured()
    logging.getLogger("aiohttp.client").warning("asked %s\nagain", f"https://h/p?sign={SECRET}")
    record = only(stream)
    assert (record["event"], record["logger"]) == (r"asked https://h/p?[cut]\nagain", "aiohttp.client")
    assert record["level"] == "warning"


def test_levels() -> None:
    stream = configured("WARNING")
    logger().info("no")
    logger().warning("yes")
    assert only(stream)["event"] == "yes"
    again = configured("debug")
    logger().debug("now it does")
    logging.getLogger("aiosqlite").debug("INSERT what nobody should see")
    logging.getLogger("sqlalchemy.engine").info("likewise")
    assert only(again)["event"] == "now it does"
    assert len(stream.getvalue().splitlines()) == 1  # the second set-up replaced the first
    with pytest.raises(UsageError, match="'loud' is unknown; use one of debug, info, warning, error"):
        logs.configure("loud", json=True)


def test_context_is_on_every_line() -> None:
    stream = configured()
    with structlog.contextvars.bound_contextvars(run_id="r-1"):
        logger().info("x")
    assert only(stream)["run_id"] == "r-1"


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    "values",
    [
        {"secret_key": SECRET},
        {"X-TC-Token": SECRET},
        {"Authorization": SECRET},
        {"headers": {"authorization": SECRET, "deep": [{"PassWord": SECRET}]}},
        {"header": AUTHORIZATION},
        {"headers": str({"Authorization": AUTHORIZATION, "X-TC-Token": SECRET})},
        {"raw": f"POST / HTTP/1.1\r\nAuthorization: Bearer {SECRET}\r\nX-TC-Token: {SECRET}\r\n"},
        {"text": f"TENCENTCLOUD_SECRET_KEY={SECRET} was set; token='{SECRET} {SECRET}'"},
        {"body": json.dumps({"secretKey": SECRET, "token": f"{SECRET} {SECRET}"})},
        {"url": f"https://cos.example/r.html?q-sign={SECRET}&x='{SECRET}'#{SECRET}"},
        {"url": f"{'x' * 50}https://cos.example/r.html?q-sign={SECRET}"},
        {"url": f"http://user:{SECRET}@127.0.0.1:1/"},
        {"url": f"https://h/#{SECRET}"},
        {"nested": [("a", {"url": f"https://h/?{SECRET}"})], "key": {f"https://h/?{SECRET}": 1}},
        {"error": ValueError(f"GET https://h/p?sign={SECRET} failed")},
        {"content": SECRET.encode()},
        {"content": f"it's {SECRET} \\ ".encode()},
        {"content": bytearray(SECRET.encode())},
        {"long": "a " * 40_000 + f"https://h/?sign={SECRET}"},
        {"long": "https://h/?sign=" + SECRET * 5_000},
    ],
)
def test_secrets_do_not_get_out(values: dict[str, Any], as_json: bool) -> None:
    stream = configured(as_json=as_json)
    logger().warning("about it", **values)
    logger().warning(f"in the event {values}")
    logging.getLogger("asyncio").error("foreign %s", values)
    assert "S3CR3T" not in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 3


def test_what_is_no_secret_stays() -> None:
    stream = configured()
    message = (
        "AuthFailure.TokenFailure: the token is wrong; see https://h/p and AuthFailure.SignatureExpire: late"
    )
    logger().info(message, url="https://csip.example/path", advice="check TENCENTCLOUD_SECRET_ID")
    record = only(stream)
    assert record["event"] == message
    assert record["url"] == "https://csip.example/path"
    assert record["advice"] == "check TENCENTCLOUD_SECRET_ID"


def fail(secret_argument: str) -> None:
    content = f"local {secret_argument}"
    raise OSError(
        f"GET https://h/p?sign={len(content) and secret_argument}\x1b[2J {'x' * 20_000}\nwith {AUTHORIZATION}"
    )


@pytest.mark.parametrize("as_json", [True, False])
def test_tracebacks_are_plain_and_clean(as_json: bool) -> None:
    stream = configured(as_json=as_json)
    try:
        fail(SECRET)
    except OSError:
        logger().exception("it broke")
        logging.getLogger("aiohttp.server").exception("Error handling request")
    text = stream.getvalue()
    assert "S3CR3T" not in text
    assert "\x1b[2J" not in text
    assert text.count("Traceback (most recent call last)") == 2
    assert text.count("TC3-HMAC-SHA256 [cut]") == 2  # the end is kept
    assert "in fail" in text
    if as_json:
        first, second = (json.loads(line) for line in text.splitlines())
        assert first["exception"].splitlines()[0] == second["exception"].splitlines()[0]


@pytest.mark.parametrize("as_json", [True, False])
def test_what_does_not_print_is_escaped(as_json: bool) -> None:
    hostile = "a\x1b[2J\r\nforged\u202e\udc80\x9b"
    stream = configured(as_json=as_json)
    logger().info(hostile, path=hostile, more={hostile: [hostile]})
    text = stream.getvalue()
    assert not set(text) & set("\x1b\r\u202e\udc80\x9b")
    assert text.count("\n") == 1
    assert text.count("forged") == 4
    text.encode()


values = st.none() | st.floats() | st.text(max_size=20) | st.binary(max_size=9)


@given(st.dictionaries(st.text(max_size=5), values | st.lists(values, max_size=3), max_size=4))
def test_any_event_becomes_plain_json(event: dict[str, Any]) -> None:
    clean = logs.redact(None, "info", event)
    assert json.loads(json.dumps(clean, allow_nan=False)) == clean
    assert json.dumps(clean, ensure_ascii=False).isprintable()


def test_a_long_value_is_cut_in_linear_time() -> None:
    assert len(logs.scrub("a-" * 5_000_000)) < 20_000
    assert "(10,000,000 characters)" in logs.scrub("a-" * 5_000_000)
    deep: Any = "bottom"
    for _ in range(2000):
        deep = [deep]
    assert "bottom" not in str(logs.redact(None, "info", {"deep": deep}))


def test_a_value_that_cannot_be_shown_costs_its_line_and_nothing_else() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError(SECRET)

    stream = configured()
    logger().info("x", value=Broken())
    assert stream.getvalue() == "a log line of batchscan.test was lost: RuntimeError while it was formatted\n"


def test_a_stream_that_is_gone_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = configured()
    stream.close()
    logger().info("to nobody")
    logs.configure("info", json=False, stream=stream)
    logger().info("to nobody")
    monkeypatch.setattr(sys, "stderr", None)
    logs.configure("info", json=True)
    logger().info("to nobody")
    reader, writer = os.pipe()
    os.close(reader)
    broken = os.fdopen(writer, "w")
    logs.configure("info", json=True, stream=broken)
    logger().info("to nobody")
    with pytest.raises(BrokenPipeError):
        broken.close()


def test_lines_can_be_diverted_and_come_back() -> None:
    stream = configured()
    lines: list[str] = []
    logs.divert(lines.append)
    logger().info("aside")
    logs.divert(None)
    logger().info("back")
    assert [json.loads(line)["event"] for line in lines] == ["aside"]
    assert only(stream)["event"] == "back"


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colour_is_for_terminals_without_no_color(
    monkeypatch: pytest.MonkeyPatch, no_color: str, coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        logs.configure("info", json=False, stream=terminal)
        logger().info("hello", path="a b")
        shown = os.read(master, 4096).decode()
    os.close(master)
    assert ("\x1b[" in shown) == coloured
    assert "hello" in shown
    assert "path" in shown


def test_the_formatter_of_tracebacks_is_not_that_of_rich() -> None:
    stream = configured(as_json=False)
    try:
        fail("x")
    except OSError:
        logger().exception("it broke")
        plain = traceback.format_exc().splitlines()[0]
    assert plain in stream.getvalue()
    assert "╭" not in stream.getvalue()
    assert "content =" not in stream.getvalue().replace("content = f", "")
