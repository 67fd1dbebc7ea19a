"""Pages from templates, safe by how they are made.

Every text that a template shows goes through ``shown``: what does not print is made visible, and markup
in it is text. What runs or styles a page is named by its hash in the page's own policy, so a text that
got past that would still do nothing. No page asks a network for anything.
"""

import base64
import hashlib
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from batchscan.pages.charts import compact
from batchscan.report.text import duration, printable

_ASSETS: Final = files("batchscan.pages") / "assets"
_MINUTE: Final = "%Y-%m-%d %H:%M UTC"


@cache
def environment() -> Environment:
    """Return the templates of this room."""
    made = Environment(
        loader=PackageLoader("batchscan.pages"),
        autoescape=True,
        finalize=shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        compact=compact,
        count=count,
        day=day,
        duration=duration,
        middle_cut=middle_cut,
        minute=minute,
        moment=moment,
        plural=plural,
        prose=prose,
    )
    return made


@cache
def asset(name: str) -> str:
    """Read a style sheet or a script of this room; what others wrote is in ``vendor/``."""
    return _ASSETS.joinpath(*name.split("/")).read_text(encoding="utf-8")


def content_policy(styles: str, script: str) -> str:
    """Make a policy under which a page uses this style sheet and this script, and nothing else."""
    return (
        f"default-src 'none'; style-src '{_hash(styles)}'; script-src '{_hash(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def shown(value: object) -> object:
    """Make a text safe to look at; markup that a template made stays as it is. None is nothing."""
    if value is None:
        return ""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return printable(value)
    return value


def prose(text: str | None, limit: int) -> str | None:
    """Put a text of sentences on one line, and cut it after ``limit`` characters."""
    if text is None:
        return None
    line = " ".join(text[: 4 * limit].split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def middle_cut(name: str, limit: int) -> str:
    """Cut a name in its middle: a path says most at its two ends."""
    if len(name) <= limit:
        return name
    tail = limit // 3
    return f"{name[: limit - tail - 1]}…{name[-tail:]}"


def count(number: int) -> str:
    """Write a number with its thousands apart."""
    return f"{number:,}"


def plural(number: int, noun: str, nouns: str | None = None) -> str:
    """Count something: ``1 input``, ``2 inputs``."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def minute(time: datetime | float) -> str:
    """Write a time to the minute; a number is epoch seconds."""
    return _utc(time).strftime(_MINUTE)


def moment(text: str | None) -> str | None:
    """Write a time that is RFC 3339 to the minute; what is none stays as it is."""
    try:
        return None if text is None else minute(datetime.fromisoformat(text))
    except ValueError:
        return middle_cut(text or "", 60)


def day(time: datetime | float) -> str:
    """Write the day of a time."""
    return _utc(time).strftime("%Y-%m-%d")


def _utc(time: datetime | float) -> datetime:
    return time.astimezone(UTC) if isinstance(time, datetime) else datetime.fromtimestamp(time, UTC)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
