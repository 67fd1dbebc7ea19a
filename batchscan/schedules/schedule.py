"""A schedule: one ``[schedule.NAME]`` table of the settings file, checked key by key.

What it names is checked as far as that is possible before its time: the zone, the endpoint, the formats, the
files that are read. Its sources are not: they may be mounted by then.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, StrictBool

from batchscan.api.endpoints import endpoint
from batchscan.config import Place, faults, parse_duration
from batchscan.decisions.policy_file import read_policy
from batchscan.errors import UsageError
from batchscan.formats.registry import FORMATS
from batchscan.ledger.chosen import Selection, Which
from batchscan.models import RiskLevel
from batchscan.schedules.timetable import Timetable, TimetableError

OLDER_ENGINE: Final = "engine-older"
"""The selection of what an engine judged that is older than the newest one that was seen."""

_INPUTS: Final = ("sources", "manifest", "rescan")
_PLACES: Final = ("manifest", "policy", "suppressions", "reports_dir")

_ORIGIN: Final = "schedule "

Texts = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
WholeNumber = Annotated[int, Strict()]
Seconds = Annotated[float, Strict(), BeforeValidator(parse_duration)]


class Schedule(BaseModel):
    """When to run what, and what follows. Paths are absolute.

    Attributes:
        cron, timezone: when.
        sources: directories and skill ZIPs.
        manifest: a list of paths.
        rescan: what of the ledger is submitted again, as a text that ``selection`` reads.
        include, exclude: globs.
        endpoint: as ``--endpoint`` takes it; None: that of the service.
        profile: of the credentials, likewise.
        budget: files that each run may bill.
        policy: file of the decision policy; None: nothing is decided. Decisions go into ``reports_dir``.
        suppressions: file of accepted findings.
        reports: formats that each run is written in, into ``reports_dir``.
        notify: whether the receiver of the settings is told, if there is reason.
        priority: the higher, the sooner.
        enabled: whether it runs at all.
        catch_up: whether a time that the service slept through is run once it is up.
        watch: whether new ZIPs in the sources are submitted as they come.
        watch_settle: seconds for which a file that was written in place must be quiet.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cron: str
    timezone: str = "UTC"
    sources: Texts = ()
    manifest: Place | None = None
    rescan: str | None = None
    include: Texts = ()
    exclude: Texts = ()
    endpoint: str | None = None
    profile: str | None = None
    budget: Annotated[WholeNumber, Field(ge=0)] | None = None
    policy: Place | None = None
    suppressions: Place | None = None
    reports: Texts = ()
    reports_dir: Place | None = None
    notify: StrictBool = True
    priority: Annotated[WholeNumber, Field(ge=0, le=100)] = 0
    enabled: StrictBool = True
    catch_up: StrictBool = True
    watch: StrictBool = False
    watch_settle: Annotated[Seconds, Field(gt=0, le=3600)] = 2.0

    @cached_property
    def timetable(self) -> Timetable:
        """When it is due."""
        return Timetable(self.cron, self.timezone)

    @property
    def rule(self) -> str:
        """What decides when it is due, in one text: another one is another timetable."""
        return f"{self.cron} {self.timezone}"


KEYS: Final = tuple(Schedule.model_fields)


def origin_of(name: str) -> str:
    """Name a schedule as the one that asks for a run."""
    return f"{_ORIGIN}{name}"


def schedule_of(origin: str) -> str | None:
    """Tell which schedule asked for a run, None when none did."""
    return origin.removeprefix(_ORIGIN) if origin.startswith(_ORIGIN) else None


def watch_of(name: str) -> str:
    """Name a schedule as the one whose sources have something new."""
    return f"watch {name}"


class Surroundings(msgspec.Struct, frozen=True):
    """What a table is read with: the settings file's directory, and the endpoints that it names."""

    directory: Path
    endpoints: Collection[str]


def read_schedule(table: Mapping[str, Any], around: Surroundings) -> tuple[Schedule | None, dict[str, str]]:
    """Check a table and read it; looks at the files that it names.

    Returns:
        The schedule, None where something is wrong; and by key, what is.
    """
    values = {key: _placed(key, table[key], around.directory) for key in KEYS if key in table}
    wrong = faults(values, Schedule)
    right = {key: value for key, value in values.items() if key not in wrong}
    for key, problem in (*_inputs(table), *_times(right), *_named(right, around)):
        wrong.setdefault(key, problem)
    return (None if wrong else Schedule.model_validate(values)), wrong


def selection(text: str, newest: int | None = None) -> Selection | None:
    """Read what is to be submitted again.

    It is ``expired``, ``failed``, ``all``, ``verdict=malicious``, ``engine-before=20260501`` or
    ``engine-older``.

    Args:
        text: of the settings file.
        newest: the newest engine version that was seen, which ``engine-older`` asks for.

    Returns:
        None for ``engine-older`` where no engine was seen.

    Raises:
        UsageError: it is none of these.
    """
    which, _, value = text.partition("=")
    if text == OLDER_ENGINE:
        return None if newest is None else Selection(which=Which.ENGINE_BEFORE, value=str(newest))
    valued = {
        Which.VERDICT: value in tuple(RiskLevel),
        Which.ENGINE_BEFORE: value.isascii() and value.isdigit(),
    }
    if which in tuple(Which) and (valued.get(Which(which), False) if "=" in text else which not in valued):
        return Selection(which=Which(which), value=value or None)
    raise UsageError(
        f"{text!r} is no selection; write {OLDER_ENGINE}, engine-before=VERSION, expired, failed,"
        f" verdict={'|'.join(RiskLevel)} or all"
    )


def _inputs(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    given = [key for key in _INPUTS if key in table]
    if len(given) != 1:
        several = f", not {' and '.join(given)}" if given else ""
        yield (given or _INPUTS)[-1], f"says what to scan; give one of {', '.join(_INPUTS)}{several}"
    if table.get("watch") is True and "sources" not in given:
        yield "watch", "only sources can be watched; give sources"
    sources = table.get("sources")
    if isinstance(sources, list) and "-" in sources:
        yield "sources", "a schedule has no standard input; name directories or skill ZIPs"


def _times(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for cron, timezone in ((values.get("cron"), "UTC"), ("* * * * *", values.get("timezone", "UTC"))):
        if cron is not None:
            try:
                Timetable(cron, timezone)
            except TimetableError as error:
                yield error.part, str(error)


def _named(values: Mapping[str, Any], around: Surroundings) -> Iterator[tuple[str, str]]:
    """What names something that is not there."""
    if "rescan" in values:
        try:
            selection(values["rescan"])
        except UsageError as error:
            yield "rescan", str(error)
    name = values.get("endpoint", "embedded")
    if name != "embedded" and name not in around.endpoints:
        try:
            endpoint(name)
        except UsageError as error:
            yield "endpoint", f"{error}{_of_file(around)}"
    for form in values.get("reports", ()):
        if form not in FORMATS:
            yield "reports", f"{form!r} is none of {', '.join(sorted(FORMATS))}"
    if "reports_dir" not in values and ("reports" in values or "policy" in values):
        yield "reports_dir", "missing; name the directory that reports and decisions go to"
    yield from _files(values)


def _files(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "policy" in values:
        try:
            read_policy(values["policy"])
        except UsageError as error:
            yield "policy", str(error)
    # read when it is needed: it may hold a line for each of a million findings
    if "suppressions" in values and not _is_readable(values["suppressions"]):
        yield "suppressions", f"{values['suppressions']}: no file that can be read"


def _of_file(around: Surroundings) -> str:
    return f"; the file names {', '.join(around.endpoints)}" if around.endpoints else ""


def _placed(key: str, value: object, directory: Path) -> object:
    """Let relative paths start at the file, wherever the program is started."""
    if key == "sources":
        return [_text(_place(path, directory)) for path in value] if isinstance(value, list) else value
    return _place(value, directory) if key in _PLACES else value


def _place(value: object, directory: Path) -> object:
    if not isinstance(value, str) or not value.strip():
        return value
    try:
        return directory / Path(value).expanduser()
    except RuntimeError:  # nobody's home: stays as it is, and is refused when the setting is checked
        return Path(value)


def _text(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _is_readable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.R_OK)
