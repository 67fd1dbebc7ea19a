"""Who is told of a run, when, and in what form; and that nothing of it comes back to the run."""

import asyncio
import json
import signal
import socket
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from cli_lab import ENGINE_VERSION, FAST, Lab, skill, skills, until
from msgspec import structs
from notice_lab import SECRET, TOKEN, Inbox, inbox, verified

from batchscan.api.keys import Secret
from batchscan.embedded.detection import Detection
from batchscan.models import Outcome, RiskLevel, RunState
from batchscan.notice import Difference, Named, Notice, encode_for_slack, encode_notice, notice_of
from batchscan.notify import Patience, Receiver, deliver
from batchscan.report.summary import Summary

MALICIOUS, SUSPICIOUS, BENIGN = RiskLevel.MALICIOUS, RiskLevel.SUSPICIOUS, RiskLevel.BENIGN


def told(box: Inbox, **more: str) -> dict[str, str | None]:
    return {"BATCHSCAN_NOTIFY_URL": box.url, **more}


async def test_a_notice_is_sent_when_something_changed_and_only_then(lab: Lab) -> None:
    """Three nights with one report that is replaced: the first, one as before, and one with news."""
    skills(lab.inputs, 2)
    skills(lab.inputs, 1, "evil old")
    night = ("in", "-o", lab.report, "--overwrite", "--json")
    async with lab.service() as service:
        async with inbox() as first:
            done = await lab.scan(service, *night, env=told(first, BATCHSCAN_NOTIFY_SECRET=SECRET))
        async with inbox() as same:
            await lab.scan(service, *night, env=told(same))
        (lab.inputs / "new.zip").write_bytes(skill("evil new"))
        (lab.inputs / "skill-0000.zip").write_bytes(skill("evil turned"))
        (lab.inputs / "evil old-0000.zip").unlink()
        async with inbox() as news:
            last = await lab.scan(service, *night, env=told(news))
    assert (done.code, last.code) == (0, 0)
    notice = first.notice()
    assert notice["reasons"] == ["new-malicious"]
    assert (notice["run_id"], notice["compared_with"]) == (done.summary["run_id"], None)
    assert [named["path"] for named in notice["newly_malicious"]] == ["evil old-0000.zip"]
    request, body = first.requests[0]
    assert verified(request, body)
    assert not verified(request, body + b" ")
    assert abs(int(request.headers["X-Batchscan-Timestamp"]) - time.time()) < 60
    assert request.headers["Content-Type"] == "application/json"
    assert same.requests == []
    notice = news.notice()
    assert notice["reasons"] == ["new-malicious", "gone"]
    assert notice["compared_with"] not in (None, notice["run_id"], done.summary["run_id"])
    assert sorted(named["path"] for named in notice["newly_malicious"]) == ["new.zip", "skill-0000.zip"]
    assert (notice["new"], notice["gone"], notice["not_named"]) == ({"malicious": 2, "suspicious": 0}, 1, 0)
    assert notice["newly_malicious"][0] | {"path": "", "sha256": ""} == {
        "path": "",
        "sha256": "",
        "score": 5,
        "rule": "90002",
        "rule_name": notice["newly_malicious"][0]["rule_name"],
    }
    assert "X-Batchscan-Signature" not in news.requests[0][0].headers


async def test_missing_verdicts_refusals_and_failures_are_told(lab: Lab) -> None:
    skills(lab.inputs, 1)
    (lab.inputs / "text.zip").write_text("no ZIP")
    (lab.path / "empty").mkdir()
    async with lab.service(total_quota=0) as service, inbox() as box, inbox() as other, inbox() as none:
        refused = await lab.scan(service, "in", "--notify", box.url, "--json")
        nothing = await lab.scan(service, "empty", env=told(other))
        wrong = await lab.scan(service, "nosuch", env=told(none))
    notice = box.notice()
    assert (refused.code, notice["exit_code"]) == (4, 4)
    assert notice["reasons"] == ["incomplete", "refused"]
    assert notice["missing"] == {"pending": 1, "failed": 0, "rejected": 1}
    assert notice["error"]["code"] == "quota"
    notice = other.notice()
    assert (nothing.code, notice["exit_code"], notice["run_id"]) == (5, 5, None)
    assert (notice["reasons"], notice["error"]["code"]) == (["failed"], "NothingMatchedError")
    assert (wrong.code, none.requests) == (2, []), "whoever wrote the command reads it"


async def test_the_address_and_the_secret_are_nowhere(lab: Lab) -> None:
    """Not in a log at the most talkative level, not in the ledger, a report, a summary or the settings."""
    skills(lab.inputs, 1, "evil")
    settings = lab.path / "settings.toml"
    free = socket.create_server(("127.0.0.1", 0))
    nobody = f"http://127.0.0.1:{free.getsockname()[1]}/{TOKEN}"
    free.close()
    settings.write_text(f'notify_url = "{nobody}"\nlog_level = "debug"\n')
    env = {"BATCHSCAN_NOTIFY_SECRET": SECRET, "BATCHSCAN_CONFIG": str(settings)}
    async with lab.service() as service:
        gone, shown, as_json, bad = await asyncio.gather(
            lab.scan(service, "in", "-o", lab.report, "--json", env=env),
            lab.run("config", "show", env=env),
            lab.run("config", "show", "--json", env=env),
            lab.run("config", "check", env={"BATCHSCAN_NOTIFY_URL": f"http://hooks.example/{TOKEN}"}),
        )
    assert gone.code == 0
    assert "the notice was not delivered" in gone.err
    assert "127.0.0.1" in gone.err
    assert f"{nobody.removesuffix(TOKEN)}***" in shown.out
    assert bad.code == 2
    assert "BATCHSCAN_NOTIFY_URL: what is found is not told in the clear; use https" in bad.err
    texts = {
        f"{name} of {n}": out
        for n, d in enumerate((gone, shown, as_json, bad))
        for name, out in (("out", d.out.encode()), ("err", d.err.encode()))
    }
    for path in lab.path.rglob("*"):
        if path.is_file() and path != settings:
            texts[str(path)] = path.read_bytes()
    assert any(name.endswith("ledger.sqlite3") for name in texts)
    for name, text in texts.items():
        assert TOKEN.encode() not in text, name
        assert SECRET.encode() not in text, name


async def test_a_receiver_that_hangs_holds_neither_the_result_nor_a_signal_up(lab: Lab) -> None:
    """The summary is out and the report whole before anybody is told; a signal ends the telling only."""
    skills(lab.inputs, 1, "evil")
    async with lab.service() as service, inbox(None) as box:
        running = await lab.start(
            *("scan", "in", "-o", lab.report, "--json", "--fail-on", "malicious"),
            *("--endpoint", service.url, *FAST),
            env=told(box),
        )
        await box.arrived.wait()
        lab.rows_of(1)
        running.send(signal.SIGTERM)
        done = await running.done()
    assert done.code == 1, "the code of the run, not that of the signal"
    assert done.summary["exit_code"] == 1


async def test_an_interrupted_run_is_told_and_so_is_what_resuming_it_found(lab: Lab) -> None:
    skills(lab.inputs, 1, "evil")
    async with lab.service() as service, inbox() as first, inbox() as second:
        service.detector.gate.clear()
        scan = ("scan", "in", "-o", lab.report, "--endpoint", service.url, *FAST)
        running = await lab.start(*scan, env=told(first))
        await until(lambda: len(service.creates) == 1)
        running.send(signal.SIGTERM)
        stopped = await running.done()
        service.detector.gate.set()
        resumed = await lab.run("resume", "--notify", second.url, *FAST)
    assert (stopped.code, resumed.code) == (143, 0)
    left, found = first.notice(), second.notice()
    assert (left["reasons"], left["state"], left["exit_code"]) == (["incomplete"], "interrupted", 143)
    assert (found["reasons"], found["run_id"]) == (["new-malicious"], left["run_id"])


async def test_a_rescan_tells_what_flipped_and_nothing_otherwise(lab: Lab) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]  # whose verdicts they are is the host with its port
    skills(lab.inputs, 2, "odd")
    skills(lab.inputs, 1, "fine")
    async with lab.service(port=port) as service:
        await lab.scan(service, "in", "-q")
    async with lab.service(port=port, engine_version=ENGINE_VERSION + 1) as service:
        judge = service.detector.detect

        async def worse(content: bytes) -> Detection:
            level = "malicious" if b"odd" in content else "benign"
            return structs.replace(await judge(content), risk_level=level)

        service.detector.detect = worse  # type: ignore[method-assign]  # another engine
        again = ("rescan", "--all", "--endpoint", service.url, *FAST)
        async with inbox() as loud:
            flipped = await lab.run(*again, env=told(loud))
        async with inbox() as quiet:
            same = await lab.run(*again, env=told(quiet))
    assert (flipped.code, same.code) == (0, 0)
    notice = loud.notice()
    assert notice["reasons"] == ["new-malicious", "changed-verdict"]
    assert (notice["new"]["malicious"], notice["worse"], notice["not_named"]) == (2, 2, 2)
    assert quiet.requests == []


def receiver(box: Inbox, **more: Any) -> Receiver:
    return Receiver(url=Secret(box.url), **more)


def notice(**more: Any) -> Notice:
    summary = Summary(
        run_id="run",
        state=RunState.COMPLETE,
        exit_code=0,
        report=None,
        endpoint="embedded",
        engine_versions=[],
        counts={Outcome.SCANNED: 3},
        verdicts={MALICIOUS: 3},
        billed_files=0,
        requests={},
        throttled=0,
        retries=0,
        elapsed_s=0.0,
        inputs=3,
        skipped={},
    )
    difference = Difference(new={MALICIOUS: 3, SUSPICIOUS: 0}, **more)
    made = notice_of(summary, difference, datetime(2026, 11, 24, tzinfo=UTC))
    assert made is not None
    return made


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Patience:
    from batchscan import notify
    from batchscan.backoff import Backoff

    monkeypatch.setattr(notify, "_DELAYS", Backoff(first_s=0.001, most_s=0.001))
    return Patience(tries=3, try_s=0.2, total_s=20.0)


@pytest.mark.parametrize(
    ("statuses", "tries", "taken"),
    [
        ([200], 1, True),
        ([500, 429, 204], 3, True),
        ([None, 204], 2, True),
        ([503, 503, 503], 3, False),
        ([404], 1, False),
        ([302], 1, False),
    ],
)
async def test_what_may_help_is_tried_again_and_no_redirect_is_followed(
    impatient: Patience, statuses: list[int | None], tries: int, taken: bool
) -> None:
    async with inbox(*statuses) as box:
        assert await deliver(receiver(box, key=Secret(SECRET)), notice(), impatient) is taken
        assert len(box.requests) == tries
        assert len({request.headers["X-Batchscan-Delivery"] for request, _ in box.requests}) == 1
        assert all(verified(request, body) for request, body in box.requests)


async def test_the_time_for_all_tries_has_a_limit() -> None:
    async with inbox(None) as box:
        assert not await deliver(receiver(box), notice(), Patience(tries=1, try_s=600.0, total_s=0.2))
        assert len(box.requests) == 1


HOSTILE = ("<!channel>", "<https://e.example|x>", "`*bold*` @here &amp;", "a\n<!here>", "\u202egpj")


def test_nothing_in_a_name_is_markup_in_a_chat() -> None:
    named = tuple(Named(path=name, sha256=None, score=None, rule=name, rule_name=None) for name in HOSTILE)
    body = json.loads(encode_for_slack(notice(newly_malicious=named, compared_with="<!everyone>")))
    text = body["text"]
    assert "<" not in text
    assert ">" not in text
    assert text.count("`") % 2 == 0
    outside = "".join(text.split("`")[::2])
    assert not any(sign in outside for sign in ("@", "&", "bold", "http", "channel", "here>"))
    assert "`\\x60*bold*\\x60 @here &amp;amp;`" in text
    assert text.count("\n• ") == len(HOSTILE)
    assert (body["unfurl_links"], body["unfurl_media"]) == (False, False)
    assert encode_notice(notice(newly_malicious=named)).decode().isprintable()
