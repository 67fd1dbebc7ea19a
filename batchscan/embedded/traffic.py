"""Arrivals by action: the caps, and what a test or an operator can count at the server.

A cap is N accepted arrivals in ANY second (a sliding window). The vendor words it as "the first N of a
second pass", which a fixed window would also satisfy; the sliding one is stricter, so a client that
never trips it does not trip the other. A refused arrival takes no place in the window.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence

WINDOW_S = 1.0
RING = 100_000
OTHER = "other"


class ActionTraffic:
    """Arrivals of one action, in monotonic seconds."""

    def __init__(self, cap: int | None) -> None:
        self.cap = cap
        self.times: deque[float] = deque(maxlen=RING)
        self.first: float | None = None
        self.peak = 0
        self._recent: deque[float] = deque()
        self._accepted: deque[float] = deque()

    def arrive(self, now: float) -> bool:
        """Count one arrival. False: it is above the cap."""
        if self.first is None:
            self.first = now
        self.times.append(now)
        self._recent.append(now)
        _forget(self._recent, now)
        self.peak = max(self.peak, len(self._recent))
        if self.cap is None:
            return True
        _forget(self._accepted, now)
        if len(self._accepted) >= self.cap:
            return False
        self._accepted.append(now)
        return True


def _forget(window: deque[float], now: float) -> None:
    while window and window[0] <= now - WINDOW_S:
        window.popleft()


class Traffic:
    """All arrivals of one engine. Names that callers make up are counted as ``other``."""

    def __init__(self, actions: Sequence[str], caps: Mapping[str, int]) -> None:
        self.requests: Counter[str] = Counter()
        self.throttled: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self._actions = {name: ActionTraffic(caps.get(name)) for name in (*actions, OTHER)}

    def arrive(self, action: str, now: float) -> bool:
        """Count one request. False: it is above its action's cap.

        Args:
            action: as named by the caller.
            now: monotonic seconds at which its head had arrived.
        """
        name = action if action in self._actions else OTHER
        self.requests[name] += 1
        if self._actions[name].arrive(now):
            return True
        self.throttled[name] += 1
        return False

    def times(self, action: str) -> Sequence[float]:
        """The last arrivals of an action (at most 100,000), monotonic seconds."""
        return tuple(self._actions[action].times)

    def summary(self) -> dict[str, dict[str, float | None]]:
        """By action: requests, how many were throttled, the most in any second, the cap.

        ``span_s`` is the time from the first to the last arrival, None before the first.
        """
        return {
            name: {
                "requests": self.requests[name],
                "throttled": self.throttled[name],
                "peak_per_second": traffic.peak,
                "span_s": None if traffic.first is None else round(traffic.times[-1] - traffic.first, 4),
                "cap": traffic.cap,
            }
            for name, traffic in self._actions.items()
        }
