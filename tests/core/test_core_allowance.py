"""The allowance of bytes: never too many out, nobody starved, nothing lost to a cancellation."""

import asyncio
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from batchscan.allowance import Allowance


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Holder:
    """Holds some bytes until it is told to let go."""

    def __init__(self, allowance: Allowance, size: int) -> None:
        self.size = size
        self.has = False
        self._end = asyncio.Event()
        self.task = asyncio.create_task(self._hold(allowance))

    async def _hold(self, allowance: Allowance) -> None:
        async with allowance.hold(self.size):
            self.has = True
            await self._end.wait()
        self.has = False

    async def let_go(self) -> None:
        self._end.set()
        await self.task


async def test_who_does_not_fit_waits_and_nobody_overtakes() -> None:
    allowance = Allowance(10)
    first, large, small = (Holder(allowance, size) for size in (6, 7, 2))
    await settle()
    assert [h.has for h in (first, large, small)] == [True, False, False]
    await first.let_go()
    await settle()
    assert [large.has, small.has] == [True, True]
    await large.let_go()
    await small.let_go()
    assert allowance.out == 0


async def test_one_alone_may_have_more_than_all() -> None:
    allowance = Allowance(10)
    giant = Holder(allowance, 50)
    other = Holder(allowance, 1)
    await settle()
    assert [giant.has, other.has] == [True, False]
    await giant.let_go()
    await settle()
    assert other.has
    await other.let_go()


async def test_who_is_cancelled_holds_up_nobody() -> None:
    allowance = Allowance(10)
    first, waiting, last = (Holder(allowance, size) for size in (10, 10, 3))
    await settle()
    waiting.task.cancel()
    await settle()
    await first.let_go()
    await settle()
    assert last.has
    await last.let_go()
    assert allowance.out == 0


async def test_who_is_cancelled_as_it_is_let_in_gives_back() -> None:
    allowance = Allowance(10)
    first, unlucky = Holder(allowance, 10), Holder(allowance, 10)
    await settle()
    first._end.set()
    await asyncio.sleep(0)  # first lets go, and lets the other in, which has not run yet
    unlucky.task.cancel()
    await settle()
    await first.task
    assert allowance.out == 0


@given(st.lists(st.integers(1, 15), min_size=1, max_size=30), st.randoms(use_true_random=False))
async def test_never_too_many_are_out_and_all_get_their_turn(sizes: list[int], random: Random) -> None:
    allowance = Allowance(10)
    holders = [Holder(allowance, size) for size in sizes]
    done = 0
    while done < len(sizes):
        await settle()
        having = [h for h in holders if h.has]
        assert having
        out = sum(h.size for h in having)
        assert out == allowance.out
        assert out <= 10 or len(having) == 1
        await random.choice(having).let_go()
        done += 1
    assert allowance.out == 0
