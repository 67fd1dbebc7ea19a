"""How long to wait before the next try: pure, with the random number handed in."""

import msgspec


class Backoff(msgspec.Struct, frozen=True):
    """Exponential delays with full jitter on their upper half.

    Attributes:
        first_s: delay after the first failure, before jitter.
        most_s: no delay is longer than this, unless the server asks for more.
    """

    first_s: float = 1.0
    most_s: float = 60.0

    def delay_s(self, failures: int, *, asked_s: float = 0.0, jitter: float) -> float:
        """Tell the delay after so many failures in a row.

        Args:
            failures: 1 after the first failure.
            asked_s: what the server or the error's policy asks for at least.
            jitter: a random number in 0..1.

        Returns:
            Seconds, between half of the exponential step and all of it, and never under ``asked_s``.
        """
        step = min(self.most_s, self.first_s * 2.0 ** min(max(failures, 1) - 1, 30))
        return max(asked_s, step * (0.5 + jitter / 2))
