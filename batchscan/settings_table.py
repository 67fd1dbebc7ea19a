"""What `batchscan config` prints: each setting, its value and who set it. No secret is shown."""

import os
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from batchscan.api.credentials import PROFILE, profile_name
from batchscan.api.endpoints import endpoint, proxy_url, receiver_url
from batchscan.config import PRESETS, Config, duration_text
from batchscan.report.text import printable
from batchscan.service_config import SERVICE, ServiceConfig
from batchscan.settings import Settled, default_file

SETTINGS_SCHEMA: Final = "batchscan.settings/1"
_OF_PRESET: Final = {"rate": "create_rate"}
_WITHOUT: Final = {
    "rate": "no cap",
    "result_rate": "no cap",
    "max_age_s": "no limit",
    "daily_budget": "no limit",
    "ca_file": "the system's",
    "proxy": "none",
    "notify_url": "none",
}


class Shown(msgspec.Struct, frozen=True):
    """One setting in force: seconds, bytes and starts a second; None where there is none such."""

    value: Any
    origin: str


class SettingsTable(msgspec.Struct, frozen=True, kw_only=True):
    """All settings in force.

    Attributes:
        file: the settings file, None without one.
        address: where requests are posted to; None for the embedded endpoint, which has none yet.
        endpoints: those that the file names.
        schedules: likewise; `batchscan schedule list` tells what they do.
    """

    schema: str = SETTINGS_SCHEMA
    file: str | None
    endpoint_name: str
    address: str | None
    endpoints: tuple[str, ...]
    schedules: tuple[str, ...]
    settings: dict[str, Shown]
    service: dict[str, Shown]


def settings_table(settled: Settled) -> SettingsTable:
    """Look up what holds for each setting."""
    config = settled.config
    return SettingsTable(
        file=None if settled.file is None else str(settled.file),
        endpoint_name=settled.endpoint_name,
        address=None if config.endpoint == "embedded" else endpoint(config.endpoint).url,
        endpoints=settled.endpoints,
        schedules=tuple(settled.schedules),
        settings={name: _shown(settled, name) for name in Config.model_fields},
        service=_service(settled),
    )


def show_settings(settled: Settled, *, as_json: bool) -> None:
    """Print the settings in force on stdout."""
    table = settings_table(settled)
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(table) + b"\n")
        return
    rows = [
        (name.removesuffix("_s"), _text(name, shown.value), shown.origin)
        for name, shown in table.settings.items()
    ]
    rows += [
        (f"{SERVICE}.{name}", _text(name, shown.value), shown.origin) for name, shown in table.service.items()
    ]
    names, values = (max(len(row[column]) for row in rows) for column in (0, 1))
    lines = [f"settings file: {table.file or f'none, there is no {default_file()}'}"]
    if table.endpoints:
        lines.append(f"endpoints in it: {', '.join(table.endpoints)}")
    if table.schedules:
        lines.append(f"schedules in it: {', '.join(table.schedules)}")
    lines.append(f"endpoint: {table.endpoint_name}{'' if table.address is None else f', {table.address}'}")
    lines.append("")
    lines += [f"{name:{names}}  {value:{values}}  {origin}" for name, value, origin in rows]
    print("\n".join(printable(line) for line in lines))  # noqa: T201 - data goes to stdout


def show_check(settled: Settled) -> None:
    """Say on stdout that nothing is wrong."""
    of = f"{settled.file}, the environment" if settled.file else f"the environment (no {default_file()})"
    print(printable(f"{of} and the flags: no problem; the endpoint is {settled.endpoint_name}"))  # noqa: T201 - data goes to stdout


def _shown(settled: Settled, name: str) -> Shown:
    config = settled.config
    origin = settled.origins.get(name, "default")
    value = getattr(config, name)
    if name == "profile" and value is None:
        value = profile_name(None, os.environ)
        origin = f"variable {PROFILE}" if os.environ.get(PROFILE) else "default"
    elif name == "proxy" and value is not None:
        value = _masked(value)
    elif name == "notify_url" and value is not None:
        value = f"{receiver_url(value.get_secret_value()).origin()}/***"
    elif name == "language" and value is None and config.endpoint != "embedded":
        value = endpoint(config.endpoint).language
        origin = f"preset of {config.endpoint}" if config.endpoint in PRESETS else "default"
    elif name == "detector_workers" and value is None:
        value = os.cpu_count() or 1
    elif value is None and hasattr(config.preset, _OF_PRESET.get(name, name)):
        value = getattr(config.preset, _OF_PRESET.get(name, name))
        origin = f"preset of {config.endpoint if config.endpoint in PRESETS else 'intl'}"
    if name in {"rate", "result_rate"}:
        value = value or None
    return Shown(str(value) if isinstance(value, Path) else value, origin)


def _service(settled: Settled) -> dict[str, Shown]:
    config = ServiceConfig(**settled.service)
    return {
        name: Shown(value, f"file {settled.file}: {SERVICE}.{name}" if name in settled.service else "default")
        for name, value in config.model_dump(mode="json").items()
    }


def _text(name: str, value: object) -> str:
    if value is None:
        return _WITHOUT.get(name, "-")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        if name == "port":
            return str(value)
        return duration_text(value) if name.endswith("_s") else f"{value:,}".removesuffix(".0")
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def _masked(proxy: str) -> str:
    url = proxy_url(proxy)
    return str(url if url.user is None else url.with_user(None).with_user("***"))
