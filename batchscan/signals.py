"""Signals: the first one drains, the second one aborts; the old handlers come back afterwards."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Received:
    """Which signal came first, if any."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None


@contextmanager
def drain_then_abort(drain: Callable[[], None], abort: Callable[[], None]) -> Iterator[Received]:
    """Call ``drain`` on the first SIGINT or SIGTERM and ``abort`` on each further one.

    Use it on the event loop's thread, inside the loop.
    """
    loop = asyncio.get_running_loop()
    received = Received()

    def handle(number: signal.Signals) -> None:
        if received.signal is None:
            received.signal = number
            drain()
        else:
            abort()

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        loop.add_signal_handler(number, handle, number)
    try:
        yield received
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
