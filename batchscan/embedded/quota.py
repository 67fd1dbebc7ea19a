"""The account's side: DescribeSkillScanPayInfo and the window of DescribeSkillScanTaskList.

Refusing Create with ``LimitExceeded`` once the booked units reach the quota is our choice: the vendor
documents neither the code nor the moment. Scans that run at that time may still overshoot it, as
units are booked at SUCCESS only (documented). Times here are ``YYYY-MM-DD HH:mm:ss`` at UTC+8: the
vendor states no zone, its examples elsewhere use that one.
"""

from datetime import datetime
from typing import Any

from batchscan.embedded.store import Account
from batchscan.embedded.wire import CHINA_TIME, Site, TaskListRequest, WireError

BETA_END = "2026-06-30 23:59:59"  # a constant of the interface description
MAX_LIMIT = 200
_FORM = "%Y-%m-%d %H:%M:%S"
_ORDER_LIFE_S = 365 * 86_400


def pay_info(account: Account, total_quota: int, site: Site, now: float) -> dict[str, Any]:
    """A prepaid order in good standing, made when the store was. Fields of postpaid only in China."""
    fields: dict[str, Any] = {
        "AppID": 1_250_000_000,
        "OrderStatus": 1,
        "TotalQuota": total_quota,
        "UsedCount": account.used_units,
        "PayMode": 1,
        "AutoRenew": 0,
        "ResourceId": "skillscan-embedded",
        "TimeSpan": 12,
        "TimeUnit": "m",
        "BeginTime": _text(account.opened_at),
        "EndTime": _text(account.opened_at + _ORDER_LIFE_S),
        "BetaEndTime": BETA_END,
        "TimeNow": _text(now),
        "Uin": "100000000000",
        "NickName": "embedded",
    }
    if site is Site.CHINA:
        fields |= {"PostPayStatus": 0, "PostPayResourceId": "", "PostPayBeginTime": ""}
    return fields


def task_window(request: TaskListRequest, now: float) -> tuple[float, float]:
    """First and last second asked for; without both times the current month.

    Raises:
        WireError: ``InvalidParameterValue``, ``InvalidParameterCombination``.
    """
    if request.order not in ("ASC", "DESC"):
        raise WireError("InvalidParameterValue", "`Order` must be `ASC` or `DESC`.")
    if request.by != "InsertTime":
        raise WireError("InvalidParameterValue", "`By` must be `InsertTime`.")
    if request.offset < 0 or not 0 <= request.limit <= MAX_LIMIT:
        raise WireError(
            "InvalidParameterValue", f"`Offset` must not be negative, `Limit` at most {MAX_LIMIT}."
        )
    if request.start_time is None:
        if request.end_time is not None:
            raise WireError("InvalidParameterCombination", "`EndTime` needs `StartTime`.")
        month = datetime.fromtimestamp(now, CHINA_TIME).replace(
            day=1, hour=0, minute=0, second=0, microsecond=0
        )
        return month.timestamp(), now
    end = now if request.end_time is None else _time("EndTime", request.end_time) + 1.0
    return _time("StartTime", request.start_time), end


def _text(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, CHINA_TIME).strftime(_FORM)


def _time(name: str, text: str) -> float:
    try:
        return datetime.strptime(text, _FORM).replace(tzinfo=CHINA_TIME).timestamp()
    except (ValueError, OverflowError) as error:
        raise WireError("InvalidParameterValue", f"`{name}` must be like `2026-05-01 08:00:00`.") from error
