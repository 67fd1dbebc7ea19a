"""Lines at the cap: the most urgent first, and no place is ever lost."""

import asyncio
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from batchscan.lines import AHEAD_S, Line, Lines


async def entered(line: Line, priority: int, order: list[int]) -> None:
    await line.enter(priority)
    order.append(priority)


async def test_the_most_urgent_is_let_in_first_and_equals_in_turn() -> None:
    line, order = Line(1), list[int]()
    await line.enter(0)
    tasks = [asyncio.create_task(entered(line, priority, order)) for priority in (0, 5, 0, 9, 5)]
    await asyncio.sleep(0)
    assert line.waiting == 5
    for _ in tasks:
        line.leave()
        await asyncio.sleep(0)
    assert order == [9, 5, 5, 0, 0]
    line.leave()
    await asyncio.wait_for(line.enter(0), 1)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=30), st.integers(1, 4))
def test_no_place_is_lost_whoever_is_cancelled_and_when(
    callers: list[tuple[int, bool, bool]], places: int
) -> None:
    async def work() -> None:
        line, inside, most = Line(places), 0, 0

        async def call(priority: int, *, slow: bool) -> None:
            nonlocal inside, most
            await line.enter(priority)
            inside += 1
            most = max(most, inside)
            try:
                await asyncio.sleep(0.001 if slow else 0)
            finally:
                inside -= 1
                line.leave()

        tasks = []
        for priority, slow, cancelled in callers:
            task = asyncio.create_task(call(priority, slow=slow))
            tasks.append(task)
            if cancelled:
                await asyncio.sleep(0)
                task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        assert most <= places
        assert line.waiting == 0
        for _ in range(places):
            await asyncio.wait_for(line.enter(0), 1)

    asyncio.run(work())


async def test_a_line_holds_a_quarter_of_a_second_of_slots() -> None:
    lines = Lines()
    for action, rate, places in (("a", 20, 5), ("b", 1, 2), ("c", 100, 25)):
        stand = lines.at(action, rate, 0)
        for _ in range(places):
            await stand.__aenter__()
        waiting = asyncio.create_task(lines.at(action, rate, 7).__aenter__())
        await asyncio.sleep(0)
        assert not waiting.done(), f"more than {AHEAD_S} s are booked ahead"
        await stand.__aexit__(None, None, None)
        await waiting
