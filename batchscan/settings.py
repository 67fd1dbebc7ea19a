"""Who set what: flags before environment before file before defaults, checked once, then frozen.

Every setting can be given as ``BATCHSCAN_<NAME>`` in the environment and, without a unit in the name, as
a key of the settings file. Of the file, the table of the chosen endpoint goes before the keys outside of
it. A run that is resumed has the settings that it was started with, before environment and file.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import platformdirs
from pydantic_settings import EnvSettingsSource

from batchscan.api.endpoints import endpoint
from batchscan.config import PREFIX, PRESETS, Config
from batchscan.errors import UsageError
from batchscan.schedules.schedule import Schedule
from batchscan.settings_file import SettingsFile, read_settings_file, unusable

CONFIG_VARIABLE: Final = f"{PREFIX}CONFIG"
OUTSIDE: Final = (f"{PREFIX}NOTIFY_SECRET",)
"""Variables that are no settings: secrets, which are looked up where they are used and nowhere else."""

FILE_NAME: Final = "batchscan.toml"

RECORDED: Final = (
    *("language", "rate", "result_rate", "first_poll_s", "poll_interval_s", "deadline_s", "limit_bytes"),
    *("max_age_s", "unreachable_s", "rehash", "report_urls"),
)
"""What a resumed run has as it was started. How this machine gets to the endpoint (proxy, authorities)
and what it shows is asked anew: it may have changed, and a proxy's address may hold a password."""


class SettingsError(UsageError):
    """Some settings are wrong.

    Attributes:
        problems: each with where it came from.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        listed = "".join(f"\n  {problem}" for problem in problems)
        super().__init__(
            problems[0] if len(problems) == 1 else f"{len(problems)} settings are wrong:{listed}"
        )
        self.problems = tuple(problems)


class Recorded(msgspec.Struct, frozen=True):
    """What is on record of a run that is resumed."""

    run_id: str
    endpoint: str
    endpoint_name: str | None
    profile: str | None
    settings: Mapping[str, Any]


class Settled(msgspec.Struct, frozen=True):
    """All settings, and where they came from.

    Attributes:
        config: the settings; its ``endpoint`` is an address, also where a table of the file was named.
        origins: by setting; one that nobody gave is not in it.
        endpoint_name: what was given as the endpoint: a preset, a URL, or a table of the file.
        file: the settings file, None without one.
        endpoints: the endpoints that the file names.
        schedules: its schedules, by name.
        service: what it says of the service.
    """

    config: Config
    origins: Mapping[str, str]
    endpoint_name: str
    file: Path | None
    endpoints: tuple[str, ...] = ()
    schedules: Mapping[str, Schedule] = {}
    service: Mapping[str, Any] = {}

    def to_record(self) -> dict[str, Any]:
        """Return the settings that a resumed run has as it was started."""
        return {name: getattr(self.config, name) for name in RECORDED}


class _Layer(msgspec.Struct, frozen=True):
    """Settings from one place; ``where`` names it for one setting."""

    kind: str
    where: Callable[[str], str]
    values: Mapping[str, Any]

    def problems(self) -> list[str]:
        return [f"{self.where(name)}: {why}" for name, why in unusable(self.values).items()]


def load(flags: Mapping[str, Any], recorded: Recorded | None = None) -> Config:
    """Settle all settings, see ``settle``.

    Raises:
        SettingsError: some are wrong.
    """
    return settle(flags, recorded).config


def settle(flags: Mapping[str, Any], recorded: Recorded | None = None) -> Settled:
    """Settle all settings; reads files.

    Args:
        flags: by setting, and ``config``, the settings file; those that are None were not given.
        recorded: of the run that is resumed.

    Raises:
        SettingsError: some are wrong; the message names each one and where it came from.
    """
    given = {name: value for name, value in flags.items() if value is not None and name != "config"}
    file, problems = _file(flags.get("config"))
    layers = [_Layer("flag", _flag, given), _environment(), _Layer("file", file.where, file.settings)]
    problems = [*layers[0].problems(), *layers[1].problems(), *_unknown_variables(), *problems]
    if recorded is not None:
        layers.insert(1, _recorded(recorded, file))
    chosen = next((layer for layer in layers if "endpoint" in layer.values), None)
    name = "embedded" if chosen is None else str(chosen.values["endpoint"])
    table = dict(file.endpoints.get(name, {}))
    address = table.pop("endpoint", name)
    layers.insert(-1, _Layer("file", lambda setting: file.where(setting, name), table))
    try:
        address = _address(address)
        if recorded is not None and address != _address(recorded.endpoint):
            problems.append(_moved(recorded, file))
    except UsageError as error:
        if chosen is not None and name not in file.endpoints:  # a table's address was looked at there
            problems.append(f"{chosen.where('endpoint')}: {error}{_named(file)}")
    if problems:
        raise SettingsError(list(dict.fromkeys(problems)))
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in reversed(layers):
        merged |= layer.values
        origins |= {setting: f"{layer.kind} {layer.where(setting)}" for setting in layer.values}
    config = Config(**merged | {"endpoint": address})
    path = None if file is _NO_FILE else file.path
    return Settled(config, origins, name, path, tuple(file.endpoints), file.schedules, file.service)


def default_file() -> Path:
    """Return where a settings file is looked for: never in the working directory.

    A tree that is scanned must not configure its scanner.
    """
    return platformdirs.user_config_path("batchscan") / FILE_NAME


_NO_FILE = SettingsFile(Path())


def _file(flag: object) -> tuple[SettingsFile, list[str]]:
    given = os.environ.get(CONFIG_VARIABLE) if flag is None else str(flag)
    if given is None:
        path = default_file()
        # a relative XDG_CONFIG_HOME is void (XDG base directories); older platformdirs take it all the same
        return read_settings_file(path) if path.is_absolute() and os.path.lexists(path) else (_NO_FILE, [])
    if not given.strip():
        return _NO_FILE, [f"{CONFIG_VARIABLE if flag is None else '--config'}: is empty"]
    try:
        path = Path(given).expanduser().absolute()
    except RuntimeError:
        return _NO_FILE, [f"--config: {given!r} is in nobody's home directory; write the path out"]
    return read_settings_file(path)


def _flag(setting: str) -> str:
    return "--notify" if setting == "notify_url" else "--" + setting.removesuffix("_s").replace("_", "-")


def _environment() -> _Layer:
    return _Layer("variable", lambda setting: PREFIX + setting.upper(), EnvSettingsSource(Config)())


def _unknown_variables() -> list[str]:
    known = {PREFIX + name.upper() for name in Config.model_fields} | {CONFIG_VARIABLE, *OUTSIDE}
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    return [f"no such setting: {', '.join(unknown)}; unset it or correct its name"] if unknown else []


def _recorded(run: Recorded, file: SettingsFile) -> _Layer:
    """Of a run: with the endpoint's name where the file still has it, for the way to get there."""
    named = run.endpoint_name in file.endpoints
    values = {"endpoint": run.endpoint_name if named else run.endpoint, "profile": run.profile}
    return _Layer("run", lambda _: run.run_id, values | dict(run.settings))


def _address(name_or_url: str) -> str:
    """Check an endpoint's address; a preset's URL is the preset, with its caps."""
    if name_or_url == "embedded":
        return name_or_url
    target = endpoint(name_or_url)
    return target.name if target.name in PRESETS else name_or_url


def _moved(run: Recorded, file: SettingsFile) -> str:
    name = str(run.endpoint_name)
    return (
        f"{file.path}: endpoints.{name} is not {run.endpoint} any more, where run {run.run_id} was started;"
        " put it back to resume the run, or scan its sources anew"
    )


def _named(file: SettingsFile) -> str:
    return f"; {file.path} names {', '.join(file.endpoints)}" if file.endpoints else ""
