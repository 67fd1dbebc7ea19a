"""Text that a person does not see and an agent or a compiler does, where the library only hesitates.

Zero-width characters and bidirectional controls are ordinary in many scripts, so the library notes them
and judges nothing. Two uses have no honest reading: a long run of zero-width characters (it carries
bits, not a script's joining), and an override of the reading direction (Trojan Source, CVE-2021-42574).
"""

import re
from pathlib import PurePosixPath

from batchscan.embedded.analysis.names import printable
from batchscan.embedded.analysis.signals import FusedRule, Signal
from batchscan.models import RiskLevel

_ZERO_WIDTH_RUN = re.compile("[\u200b\u200c\u200d\u2060\ufeff]{8,}")
_OVERRIDE = re.compile("[\u202d\u202e]")
_PROSE_SUFFIXES = frozenset({".md", ".mdx", ".txt", ".rst", ".po", ".html", ".htm", ".csv"})


def look_for_hidden(name: str, data: bytes) -> list[Signal]:
    """What is hidden in one file; nothing in a file that is not UTF-8."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return []
    signals = []
    if run := _ZERO_WIDTH_RUN.search(text):
        line = _line(text, run.start())
        what = f"{run.end() - run.start()} zero-width characters in a row carry hidden text"
        signals.append(Signal(RiskLevel.MALICIOUS, FusedRule.PROMPT, f"{what} ({printable(name)}:{line})"))
    if override := _OVERRIDE.search(text):
        prose = PurePosixPath(name).suffix.lower() in _PROSE_SUFFIXES
        level = RiskLevel.SUSPICIOUS if prose else RiskLevel.MALICIOUS
        line = _line(text, override.start())
        what = "text that is displayed in another order than it is read"
        signals.append(Signal(level, FusedRule.OBFUSCATION, f"{what} ({printable(name)}:{line})"))
    return signals


def _line(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1
