"""The settings file: TOML, checked whole, so that all that is wrong with it is told at once.

Keys are named like flags (``first_poll = "5m"``), tables ``[endpoints.NAME]`` hold what belongs to one
endpoint, tables ``[schedule.NAME]`` what the service does by itself. Relative paths start at the file's
directory. Keys of an account have no place in it: what looks like one is refused and never shown.
``docs/configuration.md`` says it for people.
"""

import re
import ssl
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from batchscan.api.endpoints import endpoint, proxy_url, receiver_url
from batchscan.config import PRESETS, Config, faults
from batchscan.errors import UsageError
from batchscan.schedules.schedule import KEYS, Schedule, Surroundings, read_schedule
from batchscan.service_config import PATHS, SERVICE, ServiceConfig, service_faults
from batchscan.toml_document import Purpose, read_toml, unknown_key

ENDPOINTS: Final = "endpoints"
SCHEDULES: Final = "schedule"
_PURPOSE: Final = Purpose("settings", "--config")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SECRET = re.compile(r"secret|token|passw|credential|api_?key|access_?key|private_?key", re.IGNORECASE)

_FIELDS: Final = {name.removesuffix("_s"): name for name in Config.model_fields}
"""Key to setting: durations have a unit in the value, so the key needs none."""

_OF_ENDPOINT: Final = {
    "url": "endpoint",
    **{
        key: _FIELDS[key]
        for key in (
            *("profile", "language", "rate", "result_rate", "first_poll", "poll_interval", "deadline"),
            *("unreachable", "daily_budget", "ca_file", "proxy"),
        )
    },
}


class SettingsFile(msgspec.Struct, frozen=True):
    """What a file holds, by the names of the settings.

    Attributes:
        path: of the file.
        settings: its keys.
        endpoints: the tables, by the endpoint's name.
        schedules: the others, by the schedule's name.
        service: the table of the service.
    """

    path: Path
    settings: Mapping[str, Any] = {}
    endpoints: Mapping[str, Mapping[str, Any]] = {}
    schedules: Mapping[str, Schedule] = {}
    service: Mapping[str, Any] = {}

    def where(self, setting: str, table: str | None = None) -> str:
        """Name the file and the key that holds a setting, in a table or before all tables."""
        keys = _FIELDS if table is None else _OF_ENDPOINT
        key = next(key for key, name in keys.items() if name == setting)
        return f"{self.path}: {key if table is None else f'{ENDPOINTS}.{table}.{key}'}"


def read_settings_file(path: Path) -> tuple[SettingsFile, list[str]]:
    """Read and check a settings file; blocks.

    Returns:
        What it holds, and all that is wrong with it, each problem with file and key. A wrong value is
        not held.
    """
    try:
        document = read_toml(path, _PURPOSE)
    except UsageError as error:
        return SettingsFile(path), [str(error)]
    problems = list(_checked(document, path.parent))
    endpoints = _tables(document, ENDPOINTS)
    schedules, wrong = _schedules(document, Surroundings(path.parent, tuple(endpoints)))
    good = SettingsFile(
        path,
        _sound(_outside(document), _FIELDS, path.parent),
        {name: _sound(table, _OF_ENDPOINT, path.parent) for name, table in endpoints.items()},
        schedules,
        _sound_service(document.get(SERVICE, {}), path.parent),
    )
    return good, [f"{path}: {problem}" for problem in (*problems, *wrong)]


def unusable(values: Mapping[str, Any]) -> dict[str, str]:
    """Check settings, and what they name: a proxy's form, the file of authorities; blocks.

    Returns:
        What is wrong with each wrong one.
    """
    found = faults(values)
    if "proxy" in values and "proxy" not in found:
        try:
            proxy_url(values["proxy"])
        except UsageError as error:
            found["proxy"] = str(error)
    if "notify_url" in values and "notify_url" not in found:
        try:
            receiver_url(values["notify_url"])
        except UsageError as error:
            found["notify_url"] = str(error)
    if "ca_file" in values and "ca_file" not in found:
        path = Path(values["ca_file"]).expanduser()
        try:
            ssl.create_default_context(cafile=path)
        except (OSError, ValueError) as error:  # ssl.SSLError is the first, a NUL byte the second
            found["ca_file"] = f"{path}: not a readable PEM file of certificates: {error}"
    return found


def _checked(document: Mapping[str, Any], directory: Path) -> Iterator[str]:
    """All that is wrong but for the schedules, each problem beginning with its key."""
    yield from _table(_outside(document), _FIELDS, directory, "")
    yield from _service(document.get(SERVICE, {}), directory)
    for kind in (ENDPOINTS, SCHEDULES):
        yield from _no_tables(document, kind)
    for name, table in _tables(document, ENDPOINTS).items():
        prefix = f"{ENDPOINTS}.{name}"
        yield from _table(table, _OF_ENDPOINT, directory, f"{prefix}.")
        yield from _address(name, table, prefix)


def _outside(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in (ENDPOINTS, SCHEDULES, SERVICE)}


def _tables(document: Mapping[str, Any], kind: str) -> dict[str, Mapping[str, Any]]:
    tables = document.get(kind, {})
    found = tables.items() if isinstance(tables, dict) else ()
    return {name: table for name, table in found if isinstance(table, dict)}


def _no_tables(document: Mapping[str, Any], kind: str) -> Iterator[str]:
    """What is no table with a name where there should be only such."""
    tables = document.get(kind, {})
    if not isinstance(tables, dict):
        yield f"{kind}: not a table; write [{kind}.NAME]"
        return
    for name, table in tables.items():
        prefix = f"{kind}.{name}"
        if not isinstance(table, dict):
            yield f"{prefix}: {_secret() if _SECRET.search(name) else f'not a table; write [{prefix}]'}"
        elif not _NAME.fullmatch(name):
            yield f"{prefix}: not a name; use letters, digits, - and _, at most 64"


def _service(table: object, directory: Path) -> Iterator[str]:
    if not isinstance(table, dict):
        yield f"{SERVICE}: not a table; write [{SERVICE}]"
        return
    known = ServiceConfig.model_fields
    for key, why in service_faults(_service_placed(table, directory)).items():
        yield f"{SERVICE}.{key}: {why if key in known else _unknown(key, known)}"


def _sound_service(table: object, directory: Path) -> dict[str, Any]:
    if not isinstance(table, dict):
        return {}
    placed = _service_placed(table, directory)
    wrong = service_faults(placed)
    return {key: value for key, value in placed.items() if key not in wrong}


def _service_placed(table: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    def placed(value: object) -> object:
        if isinstance(value, list):
            return [placed(item) for item in value]
        return _place(value, directory) if isinstance(value, str) and value.strip() else value

    return {key: placed(value) if key in PATHS else value for key, value in table.items()}


def _schedules(document: Mapping[str, Any], around: Surroundings) -> tuple[dict[str, Schedule], list[str]]:
    found, problems = {}, []
    for name, table in _tables(document, SCHEDULES).items():
        prefix = f"{SCHEDULES}.{name}."
        unknown = {key: _unknown(key, KEYS) for key in sorted(table.keys() - set(KEYS))}
        schedule, wrong = read_schedule(table, around)
        problems += [f"{prefix}{key}: {problem}" for key, problem in (unknown | wrong).items()]
        if schedule is not None:
            found[name] = schedule
    return found, problems


def _table(table: Mapping[str, Any], keys: Mapping[str, str], directory: Path, prefix: str) -> Iterator[str]:
    for key in sorted(table.keys() - keys.keys()):
        yield f"{prefix}{key}: {_unknown(key, keys)}"
    wrong = _faults(table, keys, directory)
    for key, name in keys.items():
        if name in wrong:
            yield f"{prefix}{key}: {wrong[name]}"


def _address(name: str, table: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Who is meant by a table: its ``url``, or a name that is an address already."""
    url = table.get("url")
    if name in PRESETS:
        if url is not None:
            yield f"{prefix}.url: {name} has its own address; give the table another name"
    elif url is None:
        yield f"{prefix}: has no url; give intl, china, embedded or a URL"
    elif isinstance(url, str) and url != "embedded":
        try:
            endpoint(url)
        except UsageError as error:
            yield f"{prefix}.url: {error}"


def _faults(table: Mapping[str, Any], keys: Mapping[str, str], directory: Path) -> dict[str, str]:
    known = {name: table[key] for key, name in keys.items() if key in table}
    wrong = {name: _kind(name) for name, value in known.items() if _switched(name, value)}
    return wrong | unusable(_placed({n: value for n, value in known.items() if n not in wrong}, directory))


def _sound(table: Mapping[str, Any], keys: Mapping[str, str], directory: Path) -> dict[str, Any]:
    wrong = _faults(table, keys, directory)
    known = {name: table[key] for key, name in keys.items() if key in table and name not in wrong}
    return _placed(known, directory)


def _placed(values: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Let relative paths start at the file, wherever the program is started."""
    return {
        name: _place(value, directory)
        if name in {"ca_file", "state_dir"} and isinstance(value, str) and value.strip()
        else value
        for name, value in values.items()
    }


def _place(path: str, directory: Path) -> Path:
    try:
        return directory / Path(path).expanduser()
    except RuntimeError:  # nobody's home: stays as it is, and is refused when the setting is checked
        return Path(path)


def _switched(name: str, value: object) -> bool:
    """Whether ``true`` stands for a number, or a number for ``true``: pydantic would take either."""
    return isinstance(value, bool) != (Config.model_fields[name].annotation is bool)


def _kind(name: str) -> str:
    return (
        "must be true or false"
        if Config.model_fields[name].annotation is bool
        else "must not be true or false"
    )


def _unknown(key: str, known: Collection[str]) -> str:
    if _SECRET.search(key):
        return _secret()
    return unknown_key(key.removesuffix("_s").replace("-", "_"), known)


def _secret() -> str:
    return (
        "keys of an account do not belong in this file; put them where docs/credentials.md says, into"
        " TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY or ~/.tencentcloud/credentials,"
        " and choose among several with profile"
    )
