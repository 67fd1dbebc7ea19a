"""The four actions: a verified body in, the fields of the answer out."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from batchscan.embedded.body import apart
from batchscan.embedded.detection import Detection
from batchscan.embedded.judge import Judge
from batchscan.embedded.quota import pay_info, task_window
from batchscan.embedded.report_link import expiry, report_url
from batchscan.embedded.settings import EngineSettings
from batchscan.embedded.store import Admission, Clock, Scan, Status, Store
from batchscan.embedded.upload import read_upload
from batchscan.embedded.wire import (
    MAX_REPORT_HOURS,
    Action,
    PayInfoRequest,
    ResultRequest,
    Site,
    TaskListRequest,
    WireError,
    content_hash,
    failed_data,
    iso_time,
    not_found_data,
    parse_content_hash,
    parse_request,
    scanning_data,
    success_data,
)

Fields = dict[str, Any]
Perform = Callable[[bytes, str], Awaitable[Fields]]
_MESSAGES = {
    Admission.NEW: "File received, scan task created",
    Admission.KNOWN: "The same file is known already, no second task was created",
}
_DETECTION = msgspec.json.Decoder(Detection)


class Actions:
    """What the endpoint can do."""

    def __init__(self, settings: EngineSettings, store: Store, judge: Judge, clock: Clock) -> None:
        self._settings = settings
        self._site = Site(settings.site)
        self._store = store
        self._judge = judge
        self._clock = clock
        self._by_name: dict[str, Perform] = {
            Action.CREATE: self._create,
            Action.RESULT: self._result,
            Action.PAY_INFO: self._pay_info,
        }
        if self._site is not Site.INTL:  # vendor: TaskList is in no international interface description
            self._by_name[Action.TASK_LIST] = self._task_list

    async def perform(self, action: str, body: bytes, base_url: str) -> Fields:
        """Do one action.

        Args:
            action: its wire name.
            body: the verified request body.
            base_url: how the caller reached this endpoint, for links.

        Raises:
            WireError: a refusal.
            StoreError: the store failed.
        """
        perform = self._by_name.get(action)
        if perform is None:
            raise WireError("InvalidAction", f"The action `{action[:64]}` does not exist.")
        return await perform(body, base_url)

    async def _create(self, body: bytes, _base_url: str) -> Fields:
        upload = await apart(len(body), read_upload, body, self._settings.limit_bytes)
        version = self._settings.engine_version
        admission = await self._store.create(
            upload.digest, version, upload.content, self._settings.total_quota
        )
        if admission is Admission.NO_QUOTA:
            raise WireError("LimitExceeded", "The quota of files is used up.")
        if admission is Admission.NEW:
            self._judge.ring()
        return {
            "ContentHash": content_hash(upload.digest),
            "EngineVersion": version,
            "Status": "SCANNING",  # vendor: always this, also for a repeat
            "Message": _MESSAGES[admission],
        }

    async def _result(self, body: bytes, base_url: str) -> Fields:
        request = parse_request(body, ResultRequest)
        digest = parse_content_hash(request.content_hash)
        if not 1 <= request.report_hours <= MAX_REPORT_HOURS:
            raise WireError(
                "InvalidParameterValue", f"`ReportURLExpireHours` must be between 1 and {MAX_REPORT_HOURS}."
            )
        scan = await self._store.find(digest, request.engine_version)
        if scan is None:
            return {"Status": "NOT_FOUND", "Data": not_found_data(digest)}
        link = report_url(
            base_url,
            digest,
            request.engine_version,
            secret=self._settings.secret_key,
            expires=expiry(self._clock(), request.report_hours),
        )
        return {"Status": scan.status, "Data": self._data(scan, digest, request.engine_version, link)}

    def _data(self, scan: Scan, digest: bytes, engine_version: int, link: str) -> Fields:
        finished_at = scan.created_at if scan.finished_at is None else scan.finished_at
        if scan.status is Status.SCANNING:
            return scanning_data(digest, scan.created_at, self._site)
        if scan.status is Status.FAILED or scan.detection is None:
            return failed_data(digest, finished_at, scan.message or "The scan failed.", self._site)
        return success_data(
            _DETECTION.decode(scan.detection),
            digest=digest,
            engine_version=engine_version,
            report_url=link,
            finished_at=finished_at,
            site=self._site,
        )

    async def report(self, digest: bytes, engine_version: int) -> Fields | None:
        """What a valid report link shows; None when there is no finished scan (any more)."""
        scan = await self._store.find(digest, engine_version)
        if scan is None or scan.status is not Status.SUCCESS:
            return None
        fields = self._data(scan, digest, engine_version, "")
        del fields["ReportURL"]
        return fields

    async def _pay_info(self, body: bytes, _base_url: str) -> Fields:
        parse_request(body, PayInfoRequest)
        account = await self._store.account()
        return pay_info(account, self._settings.total_quota, self._site, self._clock())

    async def _task_list(self, body: bytes, _base_url: str) -> Fields:
        request = parse_request(body, TaskListRequest)
        start, end = task_window(request, self._clock())
        total, bookings = await self._store.bookings(
            start, end, newest_first=request.order == "DESC", offset=request.offset, limit=request.limit
        )
        tasks = [
            {
                "InsertTime": iso_time(booking.created_at, self._site),
                "SkillName": booking.skill_name,
                "DeductCount": booking.units,
            }
            for booking in bookings
        ]
        return {"TotalCount": total, "TaskList": tasks}
