"""The pace: how many submissions a second were made in the last minutes, at each endpoint."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from batchscan.api.reactions import CREATE
from batchscan.stats import Meter

STEP_S: Final = 5.0
STEPS: Final = 24
"""Steps that are kept: two minutes."""


class Pace(msgspec.Struct, frozen=True):
    """Submissions a second, step by step, the oldest first; fewer steps at the beginning."""

    steps: tuple[float, ...]

    @property
    def minute(self) -> float:
        """The average of the last minute."""
        last = self.steps[-12:]
        return sum(last) / len(last) if last else 0.0


class Pacemeter:
    """Looks at the meters every few seconds.

    Args:
        meters: of all endpoints by scope.
    """

    def __init__(
        self, meters: Callable[[], Mapping[str, Meter]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._meters = meters
        self._clock = clock
        self._seen: dict[str, int] = {}
        self._at = clock()
        self._steps: dict[str, deque[float]] = {}

    async def run(self) -> None:
        """Look until this is cancelled."""
        while True:
            await asyncio.sleep(STEP_S)
            self.look()

    def look(self) -> None:
        """Note how many there were since the last look."""
        now = self._clock()
        for scope, meter in self._meters().items():
            calls = sum(number for (action, _), number in meter.calls.items() if action == CREATE)
            steps = self._steps.setdefault(scope, deque(maxlen=STEPS))
            steps.append((calls - self._seen.get(scope, 0)) / max(0.001, now - self._at))
            self._seen[scope] = calls
        self._at = now

    def of(self, scope: str) -> Pace:
        """Tell the pace at an endpoint."""
        return Pace(tuple(self._steps.get(scope, ())))
