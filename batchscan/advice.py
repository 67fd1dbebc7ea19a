"""What to do about an input without a verdict, by the code of its error."""

from collections.abc import Mapping
from typing import Final

from batchscan.api.reactions import CREATE, policy

_RESUME = "Go on with `batchscan resume`: what was accepted is polled, and nothing is billed twice."
_FILE = "Replace or remove the file; the service cannot take it as it is."
_OUR_CODES: Final[Mapping[str, str]] = {
    "missing": "Check that the file is still there and that its link points somewhere, then scan again.",
    "not-a-file": "Take it out of the source or the manifest: only regular files are scanned.",
    "unreadable": "Give the user that scans the right to read the file, then scan again.",
    "bad-manifest-line": "Correct that line of the manifest, then scan again.",
    "empty": _FILE,
    "not-a-zip": _FILE,
    "too-large": "Make the ZIP smaller than the service's limit; until then treat the skill as unknown.",
    "changing": "Scan again when nothing writes to the file.",
    "not-submitted": _RESUME,
    "no-verdict-yet": _RESUME,
    "deadline": _RESUME,
    "sample": "The sample is judged; `batchscan resume` submits the rest.",
    "budget": "Resume with a `--budget` for the rest, or wait for tomorrow's daily budget.",
    "quota": "See what is left with `batchscan quota`, order more, then `batchscan resume`.",
    "unreachable": "Check network, DNS, proxy and firewall on the way there, then `batchscan resume`.",
    "scan-failed": "The engine gave up on it each time; scan again later, and treat the skill as unknown.",
    "not-found": "The service lost the submission each time; scan again later.",
    "failed": "Look at `batchscan explain` for this file, then scan again.",
    "other": "The report's `error` names the code of each.",
}
_AGAIN = "Nothing to correct on this side; scan the same sources again later."


def advise(code: str) -> str:
    """Say what to do about it, in a sentence or two; never empty."""
    return _OUR_CODES.get(code) or policy(code, CREATE).advice or _AGAIN
