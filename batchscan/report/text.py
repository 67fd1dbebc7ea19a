"""Text that came from outside, made safe to show and to encode.

A skill's file name is chosen by its author. Shown raw it could move the cursor, forge a second line or
reverse what the eye reads; a lone surrogate in it would stop the JSON encoder.
"""

import json
import re

_MINUTE_S, _HOUR_S = 60, 3600
_SURROGATES = re.compile("[\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Escape what does not print, by the rule of ``repr``: one line, no control, no invisible character.

    Control characters, line breaks, ESC, bidi overrides, zero-width and private characters and lone
    surrogates become ``\n``, ``\x1b``, ``\u202e`` ...; all else, in any script, stays. For display
    only: a backslash stays as it is, so the result is not meant to be read back.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def printable_lines(text: str) -> str:
    """Escape like ``printable``, but keep the line breaks: for tracebacks."""
    return "\n".join(printable(line) for line in text.split("\n"))


def displayable(text: str, encoding: str) -> str:
    """Escape like ``printable``, and also what ``encoding`` cannot say (a terminal that knows only ASCII)."""
    return printable(text).encode(encoding, "backslashreplace").decode(encoding)


def printable_json(document: bytes) -> bytes:
    r"""Escape in one line of JSON what does not print: the same document, and safe on a terminal.

    The encoder escapes what JSON demands. DEL, the control characters from U+0080 to U+009F, bidi overrides
    and line separators are not among that.
    """
    text = document.decode()
    if text.isprintable():
        return document
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text).encode()


def code_span(text: str, limit: int) -> str:
    r"""Put a text into a code span of Markdown: printable, on one line, cut in the middle at ``limit``.

    What would end the span is ``\x60``. Chats that see tags and mentions in code, too, are given no ``<``.
    """
    shown = printable(text)
    if len(shown) > limit:
        shown = f"{shown[: limit // 2]}…{shown[-limit // 2 :]}"
    shown = shown.replace("`", r"\x60").replace("<", r"\x3c").strip(" ")
    return f"`{shown}`" if shown else "(empty)"


def encodable(text: str) -> str:
    r"""Escape lone surrogates (``\udc80``), which UTF-8 cannot carry, and nothing else."""
    if text.isascii():
        return text
    return _SURROGATES.sub(lambda match: _escape(match[0]), text)


def duration(seconds: float) -> str:
    """Write a duration for a person: ``3.2 s``, ``4 min 05 s``, ``2 h 07 min``."""
    tenths = round(max(0.0, seconds), 1)
    if tenths < _MINUTE_S:
        return f"{tenths:.1f} s"
    whole = round(seconds)
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S:02d} s"
    return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S:02d} min"


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
