"""What can be set, in which form, and what holds where nobody sets it.

``settings`` finds out who set what; here each value is checked by itself. What a setting is where nobody
gives it may depend on the endpoint: those are the presets. No secret is a setting.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import platformdirs
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

LIMIT_BYTES = 7_000_000
LARGEST_LIMIT_BYTES = 7_340_032
"""The vendor says 7 MB and not which: below 7,000,000 is safe, up to 7 MiB may be tried."""

PREFIX = "BATCHSCAN_"
"""Of the variables: ``BATCHSCAN_RATE`` is the setting ``rate``."""

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)")


def parse_duration(value: object) -> object:
    """Read ``90``, ``90s``, ``5m``, ``1.5h`` or ``30d`` as seconds; anything that is no text passes."""
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ValueError(f"not a duration: {value!r}; write seconds, or a number with ms, s, m, h or d")
    return float(match[1]) * _UNITS[match[2]]


def duration_text(seconds: float) -> str:
    """Write seconds in the form that ``parse_duration`` reads, in the largest unit that is whole."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds * 1000:g}ms" if seconds < 1 else f"{seconds:g}s"


def _given(value: object) -> object:
    """Refuse an empty text, which an unset variable in a script makes; it would be the current directory."""
    if isinstance(value, str) and not value.strip():
        raise ValueError("is empty")
    return value


def _absolute(path: Path) -> Path:
    """Absolute, because a resumed run changes to the directory of its sources."""
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"{path.parts[0]!r} is nobody's home directory; write the path out") from error


Duration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Place = Annotated[Path, BeforeValidator(_given), AfterValidator(_absolute)]


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint's settings are where nobody gives them. Rates are starts a second."""

    create_rate: float | None
    result_rate: float | None
    first_poll_s: float
    poll_interval_s: float
    deadline_s: float
    poll_growth: float = 0.0


PRESETS: Mapping[str, Preset] = {
    # vendor: 20 and 100 a second on the international site, 3 and 20 in China; first poll after five
    # minutes, then every minute; the longest scan documented for the engine family takes 90 minutes
    "intl": Preset(create_rate=20, result_rate=100, first_poll_s=300, poll_interval_s=60, deadline_s=6000),
    "china": Preset(create_rate=3, result_rate=20, first_poll_s=300, poll_interval_s=60, deadline_s=6000),
    "embedded": Preset(
        create_rate=None,
        result_rate=None,
        first_poll_s=0.25,
        poll_interval_s=0.5,
        deadline_s=1800,
        poll_growth=0.25,
    ),
}


class Config(BaseSettings):
    """All settings of a command. Durations are seconds, sizes bytes, rates starts a second.

    Attributes:
        state_dir: ledger, reports without ``--output``, the embedded endpoint's store.
        endpoint: ``embedded``, ``intl``, ``china`` or a URL.
        profile: of the credentials; part of the scope in the ledger.
        language: of the service's texts; None the endpoint's own.
        rate: submissions a second; 0 is no cap; None the endpoint's preset.
        result_rate: polls a second, likewise.
        first_poll_s, poll_interval_s, deadline_s: see ``stages.Timing``.
        limit_bytes: larger files are rejected.
        max_age_s: verdicts scanned longer ago are not reused.
        daily_budget: files that may be billed in a day (UTC) at this endpoint and profile, by all runs.
        unreachable_s: without any answer for so long, the run ends.
        rehash: read every file, whatever the stat cache says.
        report_urls: keep and write the service's report links, which are bearer secrets.
        ca_file: PEM file of authorities to trust instead of the system's.
        proxy: ``http://[user:password@]host:port``.
        notify_url: who is told of a run; whoever knows the address can write there, so it is not shown.
        notify_format: ``json``, or ``slack`` for the chats that take its messages.
        detector: of the embedded endpoint.
        detector_workers: its processes; None as many as there are processors.
        log_level: ``debug``, ``info``, ``warning`` or ``error``.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    state_dir: Place = Field(default_factory=lambda: Path(platformdirs.user_state_dir("batchscan")))
    endpoint: str = "embedded"
    profile: str | None = None
    language: Literal["en-US", "zh-CN"] | None = None
    rate: Rate | None = None
    result_rate: Rate | None = None
    first_poll_s: Duration | None = None
    poll_interval_s: Annotated[Duration, Field(gt=0)] | None = None
    deadline_s: Duration | None = None
    limit_bytes: Annotated[int, Field(gt=0, le=LARGEST_LIMIT_BYTES)] = LIMIT_BYTES
    max_age_s: Duration | None = None
    daily_budget: Annotated[int, Field(ge=0)] | None = None
    unreachable_s: Annotated[Duration, Field(gt=0)] = 120.0
    rehash: bool = False
    report_urls: bool = False
    ca_file: Place | None = None
    proxy: str | None = None
    notify_url: SecretStr | None = None
    notify_format: Literal["json", "slack"] = "json"
    detector: Literal["skilltotal", "deep"] = "skilltotal"
    detector_workers: Annotated[int, Field(ge=1, le=64)] | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "warning"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - given by name
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - given by name
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - given by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - given by name
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is handed over: ``settings`` asks the sources one by one, to know who set what."""
        return (init_settings,)

    @property
    def preset(self) -> Preset:
        """The endpoint's; a URL has that of the international site."""
        return PRESETS.get(self.endpoint, PRESETS["intl"])

    @property
    def create_rate(self) -> float | None:
        """Submissions a second, None without a cap."""
        return (self.preset.create_rate if self.rate is None else self.rate) or None

    @property
    def poll_rate(self) -> float | None:
        """Polls a second, None without a cap."""
        return (self.preset.result_rate if self.result_rate is None else self.result_rate) or None


def faults(values: Mapping[str, Any], model: type[BaseModel] = Config) -> dict[str, str]:
    """Check settings by themselves; says of each wrong one what is wrong with it."""
    try:
        model(**values)
    except ValidationError as error:
        return {str(e["loc"][0]): fault(e) for e in error.errors()}
    return {}


_TYPES = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "finite": "a finite number",
    "string": "a text",
    "path": "a path",
    "tuple": "a list",
}


def fault(error: ErrorDetails) -> str:
    """Say what is wrong with the value; pydantic's own words where these do not fit."""
    kind, limits, value = error["type"], error.get("ctx", {}), error["input"]
    wanted = _TYPES.get(kind.partition("_")[0])
    if kind == "missing" or kind.endswith("too_short"):
        return "missing" if kind == "missing" else "is empty"
    if kind == "literal_error":
        return f"{value!r} is not one of {limits['expected']}"
    if kind == "string_type":
        return f"is not {wanted}"  # a proxy's may hold a password, so it is not shown
    if wanted is not None:
        return f"{value!r} is not {wanted}"
    for bound, words in (("ge", "at least"), ("gt", "above"), ("le", "at most")):
        if bound in limits:
            return f"{value} is out of range; it must be {words} {limits[bound]}"
    return error["msg"].removeprefix("Value error, ")
