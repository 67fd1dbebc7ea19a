"""A failed write whose caller is gone: the run ends by the first failure and prints no second one."""

import asyncio
import gc
import threading
from typing import Any

import pytest
from core_lab import Bench
from sqlalchemy import Connection


async def test_a_failed_write_of_a_cancelled_caller_is_not_reported_by_asyncio(shelf: Bench) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    entered, gate = threading.Event(), threading.Event()

    def late(_connection: Connection) -> None:
        entered.set()
        assert gate.wait(10)
        raise ValueError

    caller = asyncio.create_task(shelf.ledger.write(late))
    await asyncio.to_thread(entered.wait, 10)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    gate.set()
    await shelf.ledger.read(lambda _: None)  # the one thread has come to the end of the write
    await asyncio.sleep(0)
    del caller
    gc.collect()
    assert told == []
