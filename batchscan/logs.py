"""Logs: one way out for structlog and the standard library, and nothing secret on it.

Every record, from whichever library, passes ``redact`` as the last step before it is rendered. It goes to
stderr as one line; while a progress display owns the terminal, that prints the line above its bars.

structlog is imported by ``configure`` only: ``batchscan --help`` has no use for it.
"""

import logging
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final, TextIO

from batchscan.errors import UsageError
from batchscan.report.text import printable, printable_lines

if TYPE_CHECKING:
    from structlog.typing import Processor

LEVELS: Final = ("debug", "info", "warning", "error")
"""What ``configure`` takes, in either case."""

CUT: Final = "[cut]"
"""What stands where something secret was."""

_FOREIGN = ("aiohttp", "aiosqlite", "asyncio", "concurrent", "sqlalchemy")  # at debug they tell contents
_LENGTH_LIMIT = 16_384
_DEPTH_LIMIT = 8
_MULTILINE = frozenset({"exception", "stack"})

_SECRET_WORDS = "secret|token|authorization|signature|passw(?:or)?d"  # noqa: S105 - words, not a password
_SECRET_KEY = re.compile(_SECRET_WORDS, re.IGNORECASE)
_KEY = rf"[\w-]{{0,40}}(?:{_SECRET_WORDS})[\w-]{{0,40}}"  # bounded: a log line must not cost quadratic time
_QUOTED = r"'[^']*'|\"[^\"]*\""


def _pattern(text: str, kept: str) -> tuple[re.Pattern[str], str]:
    return re.compile(text, re.IGNORECASE), kept + CUT


_SECRET_TEXT: Final = (
    # a signed header's value, up to where it was quoted or the line ends
    _pattern(r"(TC3-HMAC-SHA256)\s[^'\"\r\n]*", r"\1 "),
    _pattern(r"(authorization['\"]?\s*[:=]\s*['\"]?)[^'\"\r\n]*", r"\1"),
    _pattern(r"(x-tc-token['\"]?\s*[:=]\s*['\"]?)[^\s'\"]*", r"\1"),
    # key=value, and 'key': 'value' as in a printed dictionary
    _pattern(rf"({_KEY}=)(?:{_QUOTED}|[^\s&,;)]*)", r"\1"),
    _pattern(rf"(['\"]{_KEY}['\"]\s*:\s*)(?:{_QUOTED}|[^\s,}}]*)", r"\1"),
    # a printed byte string: it may be file content
    _pattern(r"\b(b)(?:'(?:[^'\\\r\n]|\\.)*'?|\"(?:[^\"\\\r\n]|\\.)*\"?)", r"\1"),
    # of a URL: the user, and the query, which is a bearer secret in a report's address
    _pattern(r"(://)[^\s/?#@\"]*(?=@)", r"\1"),
    _pattern(r"(://[^\s?#\"<>]*)[?#][^\s\"<>]*", r"\1?"),
)


def configure(level: str, *, json: bool, stream: TextIO | None = None) -> None:
    """Set up all logging of the process. A second call replaces the first.

    Args:
        level: one of ``LEVELS``. Libraries are kept at ``warning`` at least: at debug some print
            what they carry.
        json: JSON lines, otherwise text for a person; coloured on a terminal unless ``NO_COLOR`` is set.
        stream: where to, by default ``sys.stderr`` as it is now.

    Raises:
        UsageError: there is no such level.
    """
    import structlog  # noqa: PLC0415 - costs more than the rest of `batchscan --help`

    if level.lower() not in LEVELS:
        raise UsageError(f"log level {level!r} is unknown; use one of {', '.join(LEVELS)}")
    number = logging.getLevelNamesMapping()[level.upper()]
    target = sys.stderr if stream is None else stream
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,  # plain: locals would show keys and contents
            redact,
            _renderer(json=json, colors=_is_terminal(target) and not os.environ.get("NO_COLOR")),
        ],
    )
    handler = _LineHandler(target)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _LineHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(number)
    for name in _FOREIGN:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *before,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def divert(write: Callable[[str], None] | None) -> None:
    """Let ``write`` print the lines, each without its end, instead of the stream; None ends that.

    For whoever draws on the same terminal and must print above what it drew.
    """
    _LineHandler.diverted = write


def send_to(stream: TextIO) -> None:
    """Write the lines to another stream from now on, in the form that ``configure`` has chosen."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _LineHandler):
            handler.stream = stream


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Reduce an event to plain values, cut what is secret, and escape what does not print.

    A structlog processor. Cut are the values of keys that name a secret, at any depth, and in any
    text, tracebacks included: Authorization values, ``key=value`` pairs of such keys, and the
    query and user part of URLs. Byte strings show only their length: they may be file content.
    """
    clean = {}
    for key, value in event.items():
        if key in _MULTILINE and isinstance(value, str):
            clean[key] = printable_lines(scrub(value))
        else:
            clean[printable(key)] = CUT if _SECRET_KEY.search(key) else _clean(value, 0)
    return clean


def scrub(text: str) -> str:
    """Shorten a text to what a line can bear, then cut what is secret out of it."""
    if len(text) > _LENGTH_LIMIT:
        half = _LENGTH_LIMIT // 2
        _, _, tail = text[-half:].partition("\n")  # whole lines: half a secret would not be recognised
        text = f"{text[:half]}... ({len(text):,} characters)\n{tail}".rstrip("\n")
    for pattern, replacement in _SECRET_TEXT:
        text = pattern.sub(replacement, text)
    return text


def _clean(value: object, depth: int) -> Any:  # noqa: ANN401 - a log value is anything
    if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"({len(value):,} bytes)"
    if depth >= _DEPTH_LIMIT:
        return "..."
    if isinstance(value, Mapping):
        return {
            printable(scrub(str(key))): CUT if _SECRET_KEY.search(str(key)) else _clean(item, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_clean(item, depth + 1) for item in value]
    if isinstance(value, BaseException):
        value = f"{type(value).__name__}: {value}"
    return printable(scrub(str(value)))


def _renderer(*, json: bool, colors: bool) -> "Processor":
    import structlog  # noqa: PLC0415 - as in configure

    if json:
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(
        colors=colors,
        pad_event_to=0,
        exception_formatter=structlog.dev.plain_traceback,
    )


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


class _LineHandler(logging.Handler):
    """Writes a record as a line, or hands it to whom the lines are diverted."""

    diverted: Callable[[str], None] | None = None

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self.stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - a value that cannot be shown must not end a run
            line = f"a log line of {record.name} was lost: {type(error).__name__} while it was formatted"
        try:
            self._write(line)
        except (OSError, ValueError):  # stderr is gone or closed: nobody is left to be told
            return

    def _write(self, line: str) -> None:
        if _LineHandler.diverted is not None:
            try:
                _LineHandler.diverted(line)
            except (OSError, ValueError):  # the display is gone; the stream may still be there
                _LineHandler.diverted = None
            else:
                return
        if self.stream is not None:
            self.stream.write(line + "\n")
            self.stream.flush()
