"""Every error path is taken, at the most talkative level: nothing secret is in any file or on any stream."""

import base64
import logging
from pathlib import Path
from typing import Any

import pytest
import structlog
from cli_lab import skill, skills
from test_errors_walk import DRILLED, FILES, OURS, Walk, each, no_waits

from batchscan import logs
from batchscan.embedded.report_link import report_url
from batchscan.errors import ServiceError

__all__ = ["no_waits"]  # a fixture

MARKER = "thequickbrownfoxjumpsoverthelazydogsback"


async def test_no_secret_gets_out_whatever_goes_wrong(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    links: set[str] = set()
    watch_links(monkeypatch, links)
    codes = watch_errors(monkeypatch)

    async def step(code: str, walk: Walk) -> None:
        fault = OURS.get(code, code)
        faults = (f"Create:{fault}*1", f"Result:{fault}*1")
        async with walk.service(",".join(faults[: 1 if fault == "wrong-hash" else 2])) as engine:
            await walk.scan(engine)

    for path in skills(tmp_path / "in", FILES):
        path.write_bytes(skill(f"{MARKER} {path.name}"))
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    logs.configure("debug", json=True)
    try:
        await each(tmp_path, DRILLED, FILES, step)
    finally:
        structlog.reset_defaults()
        root.handlers[:], root.level = before
    assert len(links) >= 10, "report links were given out"
    taken = {code.partition(".")[0] for code in codes} | {f"{code[:6]}xx" for code in codes}
    ways = {code.partition(".")[0] for code in DRILLED}
    assert ways - taken == set(), "not every way was taken"

    out, err = capfd.readouterr()
    texts = {"streams": (out + err).encode()}
    assert b"run stopped" in texts["streams"]
    for path in tmp_path.rglob("*"):  # noqa: ASYNC240 - nothing else runs any more
        if path.is_file() and "in" not in path.parts and not path.name.startswith("service.sqlite3"):
            texts[str(path)] = path.read_bytes()
    assert any(name.endswith("ledger.sqlite3") for name in texts)
    content = base64.b64encode(skill(f"{MARKER} skill-0000.zip"))[:60]
    secrets = [b"SecretKeyOfTheWalk", b"Authorization", b"Signature=", b"TC3-HMAC-SHA256 C", MARKER.encode()]
    secrets += [content, *(link.partition("?")[2].encode() for link in links)]
    for name, text in texts.items():
        for secret in secrets:
            assert secret not in text, (name, secret)


def watch_errors(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Note the code of each failed call."""
    codes: set[str] = set()
    make = ServiceError.__init__

    def noted(self: ServiceError, code: str, message: str, **fields: Any) -> None:
        codes.add(code)
        make(self, code, message, **fields)

    monkeypatch.setattr(ServiceError, "__init__", noted)
    return codes


def watch_links(monkeypatch: pytest.MonkeyPatch, links: set[str]) -> None:
    """Note each report link that the endpoint gives out."""

    def noted(base: str, digest: bytes, engine_version: int, *, secret: str, expires: int) -> str:
        link = report_url(base, digest, engine_version, secret=secret, expires=expires)
        links.add(link)
        return link

    monkeypatch.setattr("batchscan.embedded.actions.report_url", noted)
