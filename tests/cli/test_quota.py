"""The quota in words, against the endpoint with each site's fields, and what a dry run makes of it."""

import asyncio
import json
import zipfile
from typing import Any

import pytest
from cli_lab import FAST, SECRET_KEY, Lab, skills

from batchscan.api.protocol import PayInfo
from batchscan.ledger.backlog import Work
from batchscan.quota import Quota, fit_in_words, left_in_words, to_quota

PAY_INFO = "DescribeSkillScanPayInfo"
AWAY = {"TENCENTCLOUD_SECRET_ID": None, "TENCENTCLOUD_SECRET_KEY": None}
NOTHING = Work()


def quota_of(*, pending: Work = NOTHING, under_way: Work = NOTHING, **fields: Any) -> Quota:
    return to_quota(PayInfo(**fields), "intl", under_way=under_way, pending=pending)


@pytest.mark.parametrize(
    ("fields", "under_way", "room", "fitting"),
    [
        ({"order_status": 1, "total": 100, "used": 30}, 0, 70, 10),
        ({"order_status": 6, "total": 100, "used": 95}, 0, 5, 5),
        ({"order_status": 1, "total": 100, "used": 95}, 3, 2, 2),
        ({"order_status": 1, "total": 100, "used": 95}, 9, 0, 0),
        ({"order_status": 1, "total": 100, "used": 101}, 0, 0, 0),
        ({"order_status": 7, "total": 100, "used": 0}, 0, 0, 0),
        ({"order_status": 0, "total": 0, "used": 0, "post_pay_status": 0}, 0, 0, 0),
        ({"order_status": 0, "total": 0, "used": 0, "post_pay_status": 1}, 0, None, 10),
        ({"order_status": 1, "total": 2**53, "used": 5}, 0, None, 10),
        ({}, 0, None, None),
    ],
)
def test_what_is_under_way_is_taken_off_what_is_left(
    fields: dict[str, Any], under_way: int, room: int | None, fitting: int | None
) -> None:
    quota = quota_of(**fields, under_way=Work(1, under_way), pending=Work(4, 10))
    assert (quota.room, quota.fitting) == (room, fitting)
    words = fit_in_words(quota, 10)
    if fitting is None:
        assert words == "whether they fit is not known"
    else:
        assert words == (
            "all of them fit" if fitting == 10 else f"{fitting} of the files fit, {10 - fitting} do not"
        )


@pytest.mark.parametrize(
    ("status", "word", "exhausted"),
    [
        (0, "none bought", True),
        (1, "normal", False),
        (2, "isolated, the account is overdue", True),
        (6, "on trial", False),
        (7, "expired", True),
        (8, "the trial has ended", True),
        (99, "unknown state 99", True),
        (None, None, False),
    ],
)
def test_each_state_of_an_order_has_words(status: int | None, word: str | None, exhausted: bool) -> None:
    quota = quota_of(order_status=status, total=9, used=1)
    assert (quota.order, quota.exhausted) == (word, exhausted)


def test_what_the_service_does_not_say_is_not_made_up() -> None:
    assert left_in_words(quota_of(order_status=1, used=3)) == "not told by the service"
    assert quota_of(end_time="2027-01-02 00:00:00").days_left is None
    assert quota_of(end_time="soon", time_now="2027-01-01 00:00:00").days_left is None
    assert quota_of(end_time="2027-01-11 00:00:00", time_now="2027-01-01 12:00:00").days_left == 9


async def test_the_quota_of_each_site_is_told_in_words(lab: Lab) -> None:
    skills(lab.inputs, 2)
    with zipfile.ZipFile(lab.inputs / "three.zip", "w") as archive:
        for name in ("SKILL.md", "a.md", "b.md"):
            archive.writestr(name, "x")
    async with lab.service(site="china", total_quota=2, drill="Create:UnauthorizedOperation") as service:
        refused = await lab.scan(service, "in")
        china, parsed = await asyncio.gather(
            lab.run("quota", "--endpoint", service.url), lab.run("quota", "--endpoint", service.url, "--json")
        )
        creates = service.creates.total()
    assert refused.code == 4
    assert creates == 0
    assert china.code == parsed.code == 0
    lines = china.out.splitlines()
    assert lines[0] == f"endpoint: {service.url.removeprefix('http://')}"
    assert lines[1:3] == ["order: normal, prepaid", "files: 0 of 2 used, 2 left"]
    assert lines[3].startswith("order ends: 20")
    assert lines[3].endswith(" days (the service's time; it names no zone)")
    assert lines[4:] == [
        "postpaid billing: off",
        "pending here: 3 skills with 5 files; 2 of the files fit, 3 do not",
    ]
    quota = json.loads(parsed.out)
    assert quota["schema"] == "batchscan.quota/1"
    assert quota["pending"] == {"skills": 3, "files": 5}
    assert (quota["total"], quota["remaining"], quota["room"], quota["fitting"]) == (2, 2, 2, 2)


async def test_what_the_service_has_not_judged_yet_is_not_free_any_more(lab: Lab) -> None:
    skills(lab.inputs, 2)
    async with lab.service(site="intl", total_quota=3) as service:
        service.detector.gate.clear()
        sent = await lab.run("scan", "in", "--endpoint", service.url, *FAST, "--no-wait")
        quota = await lab.run("quota", "--endpoint", service.url)
        skills(lab.inputs, 4, "more")
        dry = await lab.run("scan", "in", "-n", "--json", "--endpoint", service.url)
        service.detector.gate.set()
    assert sent.code == 3
    assert "postpaid" not in quota.out
    assert "under way: 2 skills with 2 files, billed once they are judged" in quota.out
    assert quota.out.endswith("pending here: none\n")
    plan = json.loads(dry.out)
    assert (plan["billed_files"], plan["fitting"], plan["quota_unasked"]) == (4, 1, None)
    assert plan["quota"]["room"] == 1


async def test_the_embedded_endpoint_answers_and_has_no_limit(lab: Lab) -> None:
    done = await lab.run("quota")
    assert done.code == 0
    assert done.out.startswith("endpoint: embedded\norder: normal, prepaid\nfiles: 0 used, no limit\n")
    assert done.out.endswith("pending here: none\n")


async def test_a_refusal_is_told_with_what_to_do(lab: Lab) -> None:
    wrong_key = {"TENCENTCLOUD_SECRET_KEY": "WrongKeyOfTheQuotaTests000000001"}
    async with lab.service(site="intl", drill="PayInfo:skew=900") as service:
        asked = ("quota", "--endpoint", service.url)
        skewed, wrong, nobody = await asyncio.gather(
            lab.run(*asked), lab.run(*asked, env=wrong_key), lab.run(*asked, env=AWAY)
        )
    gone = await lab.run(*asked)
    assert skewed.code == 0
    assert "clock-corrected" in skewed.err
    assert (wrong.code, nobody.code, gone.code) == (4, 4, 4)
    assert "AuthFailure.SignatureFailure: " in wrong.err
    assert "Check the key in the console" in wrong.err
    assert wrong_key["TENCENTCLOUD_SECRET_KEY"] not in wrong.err
    assert "no credentials found" in nobody.err
    assert "connect-failed: " in gone.err
    assert "Check network, DNS, proxy and firewall" in gone.err
    assert [wrong.out, nobody.out, gone.out] == ["", "", ""]
    assert not lab.state.exists()  # to ask makes nothing


async def test_a_dry_run_says_whether_it_fits_and_sends_no_file(lab: Lab) -> None:
    skills(lab.inputs, 3)
    async with lab.service(site="intl", total_quota=2) as service:
        scan = ("scan", "in", "-n", "--endpoint", service.url)
        short, nobody = await asyncio.gather(lab.run(*scan), lab.run(*scan, env=AWAY))
        requests = dict(service.engine.requests)
    gone, embedded = await asyncio.gather(lab.run(*scan), lab.run("scan", "in", "-n"))
    assert requests == {PAY_INFO: 1}
    assert [done.code for done in (short, nobody, gone, embedded)] == [0, 0, 0, 0]
    assert "3 inputs, no file was sent, only the quota was asked for\n" in short.out
    assert "\nquota: 0 of 2 used, 2 left; 2 of the files fit, 1 do not\n" in short.out
    assert "3 inputs, nothing was sent\n" in nobody.out
    assert "\nquota: not asked for, there are no usable credentials: see `batchscan doctor`\n" in nobody.out
    assert "\nquota: not told, connect-failed: " in gone.out
    assert "quota" not in embedded.out
    assert SECRET_KEY not in short.out + nobody.out + gone.out
