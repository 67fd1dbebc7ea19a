"""Statements in few texts: the driver keeps those that it has prepared, and runs come in every size."""

import os

import pytest
from core_lab import Bench
from sqlalchemy import Connection, event

from batchscan.ledger.firsts import first_paths
from batchscan.ledger.padding import padded
from batchscan.ledger.queries import known
from batchscan.ledger.waiting import WaitingInputs
from batchscan.models import Candidate

SIZES = range(1, 130)
FEW = 9
"""1, 2, 4, 8, ... 128, 256."""


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 127, 128, 129, 500])
def test_values_are_kept_in_order_and_the_last_is_repeated(count: int) -> None:
    values = list(range(count))
    found = padded(values)
    assert found[:count] == values
    assert set(found[count:]) <= {count - 1}
    assert len(found) in {0, *(1 << power for power in range(20))}
    assert count <= len(found) <= max(1, 2 * count - 1) or count == 0


async def test_files_are_looked_up_by_few_statements(table: Bench) -> None:
    def texts(connection: Connection) -> set[str]:
        return {known(connection.dialect, 1, [b"at"] * count)[0] for count in SIZES}

    assert 1 < len(await table.ledger.read(texts)) <= FEW


async def test_inputs_are_noted_by_few_statements(table: Bench) -> None:
    texts: set[str] = set()

    def note(connection: Connection) -> None:
        event.listen(connection, "before_cursor_execute", lambda *told: texts.add(str(told[2])))
        for count in SIZES:
            inputs = [(os.urandom(32), os.urandom(16), f"{number}.zip") for number in range(count)]
            assert first_paths(connection, 1, inputs) == [None] * count
            again = [(digest, os.urandom(16), "copy.zip") for digest, _, _ in inputs]
            assert first_paths(connection, 1, again) == [path for _, _, path in inputs]

    await table.ledger.read(note)
    assert 1 < len(texts) <= 2 * FEW, "those that note, and those that look up what was there"


async def test_what_is_left_of_a_resumed_run_is_asked_for_in_few_statements(table: Bench) -> None:
    texts: set[str] = set()
    run = await table.new_run("run-1")
    inputs = WaitingInputs(table.ledger, run.id)
    await table.ledger.read(
        lambda c: event.listen(c, "before_cursor_execute", lambda *told: texts.add(str(told[2])))
    )
    for count in SIZES:
        candidates = [Candidate(path=f"{number}.zip", source="in") for number in range(count)]
        assert await inputs.unreported(candidates) == candidates
    assert 1 < len(texts) <= FEW
