"""The documents of the API: what comes in and what goes out. The OpenAPI document is made of these.

Times are RFC 3339 in UTC, sizes are bytes. Additions are no break: whoever reads them ignores what it does
not know; what comes in may hold nothing that is not named here.
"""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from batchscan.ledger.queue import COMMAND_LINE, Listed, QueuedRun
from batchscan.ledger.runs import RunRecord
from batchscan.models import Problem as Reason
from batchscan.report.rows import rfc3339
from batchscan.report.text import encodable
from batchscan.service.queue import AD_HOC, HIGHEST
from batchscan.stats import Stats

RunId = Annotated[str, Field(pattern=r"^\d{8}T\d{6}Z-[0-9a-f]{8}$", examples=["20260501T020000Z-0badcafe"])]
State = Literal["queued", "running", "complete", "incomplete", "cancelled", "failed", "interrupted"]
Level = Literal["malicious", "suspicious", "benign"]
Name = Annotated[str, Field(min_length=1, max_length=4096)]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Count = Annotated[int, Field(ge=0)]


def _whole(value: object) -> object:
    """Take 28.0 for 28, as JSON Schema does."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE: Final = BeforeValidator(_whole)


class Document(BaseModel):
    """What goes out."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Order(BaseModel):
    """What comes in."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Fault(Document):
    """One thing that is wrong with a request, and where."""

    where: str
    what: str


class ProblemDocument(Document):
    """Why a request was not carried out (RFC 9457)."""

    type: str = Field(examples=["urn:batchscan:problem:not-found"])
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    instance: str | None = None
    request_id: str
    errors: tuple[Fault, ...] = ()


class _Sampled(Order):
    sample: Annotated[int, Field(ge=1, le=1_000_000_000), WHOLE] | None = Field(
        default=None, description="Submit so many first, chosen by chance, and leave the rest pending."
    )


class RescanOlder(_Sampled):
    """What an engine with a lower number judged."""

    which: Literal["engine-before"]
    value: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,17}$", examples=["20260501"])]


class RescanVerdict(_Sampled):
    """What has this verdict."""

    which: Literal["verdict"]
    value: Level


class RescanOther(_Sampled):
    """What has expired, what was given up without a verdict, or all."""

    which: Literal["expired", "failed", "all"]
    value: None = None


_ONE_THING: Final[list[JsonValue]] = [
    {
        "anyOf": [
            {"required": ["sources"], "properties": {"sources": {"minItems": 1}}},
            {"required": ["manifests"], "properties": {"manifests": {"minItems": 1}}},
        ],
        "properties": {"rescan": {"type": "null"}},
    },
    {
        "required": ["rescan"],
        "properties": {
            "rescan": {"type": "object"},
            **{name: {"maxItems": 0} for name in ("sources", "manifests", "include", "exclude")},
        },
    },
]
"""Of an order, in the words of JSON Schema; the validator says it in those of a person."""


class RunOrder(Order):
    """A run to make: sources or manifests to scan, or a rescan, and not both.

    Sources are directories and skill ZIPs, manifests are lists of them, all by absolute paths below the
    roots of the service. Links that lead out of the roots are not followed.
    """

    sources: Annotated[tuple[Name, ...], Field(max_length=500, strict=False)] = ()
    manifests: Annotated[tuple[Name, ...], Field(max_length=500, strict=False)] = ()
    include: Annotated[tuple[Name, ...], Field(max_length=100, strict=False)] = ()
    exclude: Annotated[tuple[Name, ...], Field(max_length=100, strict=False)] = ()
    rescan: Annotated[RescanOlder | RescanVerdict | RescanOther, Field(discriminator="which")] | None = None
    endpoint: Annotated[str, Field(min_length=1, max_length=255)] | None = Field(
        default=None, description="One that the service's settings file names; by default the service's own."
    )
    priority: Annotated[int, Field(ge=0, le=HIGHEST), WHOLE] = AD_HOC
    budget: Annotated[int, Field(ge=0, le=1_000_000_000), WHOLE] | None = None
    wait: bool = True
    fail_on: Literal["malicious", "suspicious"] | None = None

    model_config = ConfigDict(json_schema_extra={"oneOf": _ONE_THING})

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        scans = bool(self.sources or self.manifests)
        if scans == (self.rescan is not None):
            raise ValueError("name sources or manifests, or a rescan, and not both")
        if self.rescan is not None and (self.include or self.exclude):
            raise ValueError("include and exclude belong to a scan")
        return self


class ReasonDocument(Document):
    """What ended or hindered a run."""

    code: str
    message: str


class Progress(Document):
    """How far a run is. Counts of this process, from where it went on."""

    found: Count
    discovery_done: bool
    waiting: Count
    submitted: Count
    outcomes: dict[str, Count]
    verdicts: dict[str, Count]
    requests: dict[str, Count]
    throttled: Count
    retries: Count


class Run(Document):
    """A run, of the service or of the command line.

    `interrupted` are runs of the command line that can be resumed there. `summary` is how the run last
    ended, as `batchscan scan --json` prints it; `progress` is there while the service carries it out.
    """

    run_id: RunId
    state: State
    origin: str
    priority: int | None
    sources: tuple[str, ...]
    manifests: tuple[str, ...]
    rescan: str | None
    endpoint: str
    queued_at: Time | None
    began_at: Time | None
    ended_at: Time | None
    cancelled: bool
    problem: ReasonDocument | None
    progress: Progress | None
    summary: dict[str, Any] | None


class RunPage(Document):
    """Runs, the newest first; `next` is the cursor of the following page, null on the last one."""

    runs: tuple[Run, ...]
    next: RunId | None


def progress_of(stats: Stats) -> Progress:
    """Say how far a run is."""
    return Progress(
        found=stats.found,
        discovery_done=stats.discovery_done,
        waiting=max(0, stats.waiting),
        submitted=stats.submitted,
        outcomes={str(outcome): count for outcome, count in stats.outcomes.items()},
        verdicts={str(level): count for level, count in stats.verdicts.items()},
        requests=dict(stats.requests),
        throttled=stats.throttled,
        retries=stats.retries,
    )


def run_document(listed: Listed, stats: Stats | None, summary: dict[str, Any] | None) -> Run:
    """Say all of a run that is known."""
    queued, record = listed.queued, listed.record
    request = queued.work.request if queued is not None else None if record is None else record.request
    if request is None:
        raise AssertionError  # one of the two is there
    reason = None if queued is None else queued.problem
    return Run(
        run_id=listed.run_id,
        state=_state(queued, record),
        origin=COMMAND_LINE if queued is None else queued.origin,
        priority=None if queued is None else queued.priority,
        sources=tuple(map(encodable, request.sources)),
        manifests=tuple(map(encodable, request.manifests)),
        rescan=None if request.rescan is None else str(request.rescan),
        endpoint=request.endpoint,
        queued_at=None if queued is None else rfc3339(queued.queued_at),
        began_at=rfc3339(
            queued.began_at if record is None and queued else record.started_at if record else None
        ),
        ended_at=rfc3339(_ended_at(queued, record)),
        cancelled=queued is not None and queued.cancelled,
        problem=None if reason is None else reason_document(reason),
        progress=None if stats is None else progress_of(stats),
        summary=summary,
    )


def reason_document(reason: Reason) -> ReasonDocument:
    """Say why."""
    return ReasonDocument(code=reason.code, message=encodable(reason.message))


def _state(queued: QueuedRun | None, record: RunRecord | None) -> State:
    if queued is None:
        return record.state.value if record is not None else "failed"
    if record is not None and record.state == "complete" and queued.state.is_end and queued.problem is None:
        return "complete"  # one that was cancelled may have been resumed on the command line
    return queued.state.value


def _ended_at(queued: QueuedRun | None, record: RunRecord | None) -> float | None:
    if queued is not None:
        return queued.ended_at
    return None if record is None else record.finished_at
