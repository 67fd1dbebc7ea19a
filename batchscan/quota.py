"""The account's quota in words, and how much of what is to be scanned fits into it.

The service bills files inside the ZIP, once a scan has succeeded. So what it has accepted and not judged
yet is still to be taken from what it says is left.
"""

import asyncio
import random
import sys
from datetime import datetime
from typing import Final

import msgspec

from batchscan.api.client import ScanClient
from batchscan.api.protocol import PayInfo
from batchscan.backoff import Backoff
from batchscan.connect import UNLIMITED
from batchscan.errors import Reaction, ServiceError
from batchscan.ledger.backlog import Work
from batchscan.report.text import printable

QUOTA_SCHEMA: Final = "batchscan.quota/1"

# vendor: the fields of DescribeSkillScanPayInfo
_ORDERS: Final = {
    0: "none bought",
    1: "normal",
    2: "isolated, the account is overdue",
    6: "on trial",
    7: "expired",
    8: "the trial has ended",
}
_PAY_MODES: Final = {0: "postpaid", 1: "prepaid"}
_POSTPAID: Final = {0: "off", 1: "on, takes what is above the quota", 2: "isolated, the account is overdue"}
_TIME: Final = "%Y-%m-%d %H:%M:%S"
_LEARNT: Final = {Reaction.CLOCK, Reaction.CREDENTIAL}
"""The refusal told the time, or the token is read anew: there is nothing to wait for."""

_PASSING: Final = _LEARNT | {Reaction.TRANSIENT, Reaction.THROTTLE, Reaction.UNKNOWN}
_QUESTIONS: Final = 3
_DELAYS: Final = Backoff(first_s=1.0, most_s=2.0)

RENEW: Final = "Buy or renew the order in the console of the endpoint's site."


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """The order of an account at an endpoint, and what waits for it. Amounts are files inside ZIPs.

    Attributes:
        order, pay_mode, postpaid: in words; None where the service did not say.
        begins, ends, now: as the service wrote them; it names no zone.
        exhausted: nothing more can be scanned.
        under_way: accepted by the service and not judged yet, so not booked yet.
        pending: admitted in the ledger, not accepted yet.
        room: files that can still be accepted; None where there is no limit or none was told.
        fitting: files of ``pending`` for which there is room; None where that is not known.
    """

    schema: str = QUOTA_SCHEMA
    endpoint: str
    order: str | None
    pay_mode: str | None
    postpaid: str | None
    total: int | None
    used: int | None
    remaining: int | None
    begins: str | None
    ends: str | None
    now: str | None
    exhausted: bool
    unlimited: bool
    under_way: Work
    pending: Work
    room: int | None
    fitting: int | None

    def fit(self, files: int) -> int | None:
        """How many of so many files there is room for; None where that is not known."""
        if self.unlimited:
            return files
        return None if self.room is None else min(files, self.room)

    @property
    def days_left(self) -> int | None:
        """Whole days until the order ends, by the service's own clock."""
        try:
            left = datetime.strptime(self.ends or "", _TIME) - datetime.strptime(self.now or "", _TIME)  # noqa: DTZ007 - both in the same zone, which is not told
        except ValueError:
            return None
        return left.days


async def ask_quota(client: ScanClient) -> PayInfo:
    """Ask, three times at most: what may be over in a moment is waited for. Bills nothing.

    Raises:
        ServiceError: refused or not reachable; the message says what to do.
    """
    for number in range(1, _QUESTIONS):
        try:
            return await client.pay_info()
        except ServiceError as error:
            reaction = error.policy.reaction
            if reaction not in _PASSING:
                raise advised(error) from error
        if reaction not in _LEARNT:  # somebody waits for the answer: not for as long as a run would
            await asyncio.sleep(_DELAYS.delay_s(number, jitter=random.random()))  # noqa: S311 - no secret
    try:
        return await client.pay_info()
    except ServiceError as error:
        raise advised(error) from error


def advised(error: ServiceError) -> ServiceError:
    """Say in the message what to do as well."""
    message = f"{error.message.rstrip('.')}. {error.policy.advice}".strip()
    return ServiceError(
        error.code,
        message,
        policy=error.policy,
        request_id=error.request_id,
        status=error.status,
        server_time=error.server_time,
    )


def files_left(info: PayInfo) -> int | None:
    """How many files the service still takes, by what it says; None where there is no limit or none told."""
    if info.exhausted:
        return 0
    unlimited = info.post_pay_status == 1 or (info.total or 0) >= UNLIMITED
    return None if unlimited else info.remaining


def to_quota(info: PayInfo, endpoint: str, *, under_way: Work, pending: Work) -> Quota:
    """Put what the service said and what is in the ledger together."""
    unlimited = info.post_pay_status == 1 or (info.total or 0) >= UNLIMITED
    room: int | None = None
    if info.exhausted:
        room = 0
    elif not unlimited and info.remaining is not None:
        room = max(info.remaining - under_way.files, 0)
    quota = Quota(
        endpoint=endpoint,
        order=_word(_ORDERS, info.order_status),
        pay_mode=_word(_PAY_MODES, info.pay_mode),
        postpaid=_word(_POSTPAID, info.post_pay_status),
        total=info.total,
        used=info.used,
        remaining=info.remaining,
        begins=info.begin_time,
        ends=info.end_time,
        now=info.time_now,
        exhausted=info.exhausted,
        unlimited=unlimited,
        under_way=under_way,
        pending=pending,
        room=room,
        fitting=None,
    )
    return msgspec.structs.replace(quota, fitting=quota.fit(pending.files))


def show_quota(quota: Quota, *, as_json: bool) -> None:
    """Print it on stdout."""
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(quota) + b"\n")
        return
    print("\n".join(printable(line) for line in _lines(quota)))  # noqa: T201 - data goes to stdout


def left_in_words(quota: Quota) -> str:
    """How much of the order is used and left, in one phrase."""
    if quota.total is None or quota.used is None:
        return "not told by the service"
    if quota.total >= UNLIMITED:
        return f"{quota.used:,} used, no limit"
    return f"{quota.used:,} of {quota.total:,} used, {quota.remaining:,} left"


def fit_in_words(quota: Quota, files: int) -> str:
    """Whether so many files fit, in one phrase."""
    fitting = quota.fit(files)
    if fitting is None:
        return "whether they fit is not known"
    if fitting == files:
        return "all of them fit"
    return f"{fitting:,} of the files fit, {files - fitting:,} do not"


def _lines(quota: Quota) -> list[str]:
    paid = "" if quota.pay_mode is None else f", {quota.pay_mode}"
    lines = [
        f"endpoint: {quota.endpoint}",
        f"order: {quota.order or 'not told by the service'}{paid}",
        f"files: {left_in_words(quota)}",
    ]
    if quota.ends:
        days = "" if quota.days_left is None else f", in {quota.days_left:,} days"
        lines.append(f"order ends: {quota.ends}{days} (the service's time; it names no zone)")
    if quota.postpaid is not None:
        lines.append(f"postpaid billing: {quota.postpaid}")
    if quota.under_way.skills:
        lines.append(f"under way: {_work(quota.under_way)}, billed once they are judged")
    fits = f"; {fit_in_words(quota, quota.pending.files)}" if quota.pending.skills else ""
    lines.append(f"pending here: {_work(quota.pending)}{fits}")
    if quota.exhausted:
        lines.append(f"Nothing more can be scanned. {RENEW}")
    return lines


def _work(work: Work) -> str:
    return f"{work.skills:,} skills with {work.files:,} files" if work.skills else "none"


def _word(words: dict[int, str], status: int | None) -> str | None:
    return None if status is None else words.get(status, f"unknown state {status}")
