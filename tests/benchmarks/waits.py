"""How long a scan takes at the service, as far as its documents say, and a model of polling for it.

Usage: waits.py FIRST_POLL_S INTERVAL_S COUNT; prints JSON.

Vendor, of the same engine family: usually under 5 minutes, suspicious and malicious ones 5 to 10, the worst
about 90. The shares and the even spread between the bounds are ours.
"""

import json
import math
import random
import statistics
import sys
from collections.abc import Iterable

_SHARES = ((0.90, 30.0, 300.0), (0.095, 300.0, 600.0), (0.005, 600.0, 5400.0))
ABOUT = "; ".join(f"{share:.1%} ready within {least:g} to {most:g} s" for share, least, most in _SHARES)


def scan_s(seed: bytes | int) -> float:
    """Seconds from acceptance to the verdict; the same for the same seed."""
    draw = random.Random(seed)
    chosen = draw.random()
    for share, least, most in _SHARES:
        if chosen < share:
            return draw.uniform(least, most)
        chosen -= share
    return draw.uniform(*_SHARES[-1][1:])


def model(first_s: float, interval_s: float, count: int) -> dict[str, float]:
    """Polls and delays of so many scans when each is polled in time; calls take no time."""
    polls = 0

    def delays() -> Iterable[float]:
        nonlocal polls
        for number in range(count):
            ready_s = scan_s(number)
            further = max(0, math.ceil((ready_s - first_s) / interval_s))
            polls += 1 + further
            yield first_s + further * interval_s - ready_s

    lay = spread_of(list(delays()))
    return {"polls per verdict": polls / count, **lay}


def spread_of(delays: list[float]) -> dict[str, float]:
    """How long verdicts lay ready, seconds."""
    cuts = statistics.quantiles(delays, n=100)
    return {
        "ready to row s, median": cuts[49],
        "ready to row s, p99": cuts[98],
        "ready to row s, most": max(delays),
    }


if __name__ == "__main__":
    print(json.dumps(model(float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))))
