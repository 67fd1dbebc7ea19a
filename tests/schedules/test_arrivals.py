"""Which files are whole, and which go together: with a clock that is moved by hand."""

import pytest

from batchscan.schedules import arrivals
from batchscan.schedules.arrivals import BATCH, Arrivals, Eyes, Sight

SETTLE = 2.0


class Disk:
    """Files, and whether somebody writes them."""

    def __init__(self) -> None:
        self.files: dict[str, Sight] = {}
        self.written: set[str] = set()

    def put(self, path: str, size: int = 1) -> None:
        self.files[path] = Sight(size, 0, 1)

    def arrivals(self) -> Arrivals:
        return Arrivals(SETTLE, Eyes(self.files.get, self.written.__contains__))


@pytest.fixture
def disk() -> Disk:
    return Disk()


def test_a_file_is_taken_once_after_the_settle_time(disk: Disk) -> None:
    found = disk.arrivals()
    disk.put("a")
    found.seen("a", 0.0)
    assert found.take(1.9) == ()
    assert found.take(2.0) == ("a",)
    assert found.take(9.0) == ()
    found.seen("a", 9.0)  # changed again
    assert found.take(11.0) == ("a",)


def test_a_file_that_changes_or_is_open_to_write_is_not_whole(disk: Disk) -> None:
    found = disk.arrivals()
    disk.put("a")
    found.seen("a", 0.0)
    disk.put("a", size=2)  # grew without a word
    assert found.take(2.0) == ()
    disk.written.add("a")
    for now in range(4, 100):
        assert found.take(float(now)) == ()
    disk.written.clear()
    assert found.take(102.0) == ("a",)


def test_a_file_that_is_gone_before_it_is_whole_is_dropped(disk: Disk) -> None:
    found = disk.arrivals()
    disk.put("a")
    found.seen("a", 0.0)
    del disk.files["a"]
    assert found.take(2.0) == ()
    assert found.waiting == 0


def test_a_burst_is_one_run_and_a_long_one_is_not_waited_for(disk: Disk) -> None:
    found = disk.arrivals()
    for number in range(10):
        disk.put(str(number))
        found.seen(str(number), number * 0.5)
    assert found.take(4.0) == ()  # some are whole, others are not
    assert len(found.take(6.6)) == 10
    disk.put("first")
    found.seen("first", 100.0)
    disk.put("slow")
    disk.written.add("slow")
    found.seen("slow", 100.0)
    assert found.take(102.0) == ()
    assert found.take(121.9) == ()
    assert found.take(122.0) == ("first",)


def test_batches_are_bounded(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    found = disk.arrivals()
    for number in range(BATCH + 1):
        disk.put(str(number))
        found.seen(str(number), 0.0)
    sizes = [len(found.take(2.0)), len(found.take(2.0)), len(found.take(2.0))]
    assert sizes == [BATCH, 1, 0]
    monkeypatch.setattr(arrivals, "MOST", 2)
    for number in range(5):
        found.seen(str(number), 10.0)
    assert (found.waiting, found.left_out) == (2, 3)


def test_what_could_not_be_submitted_comes_again(disk: Disk) -> None:
    found = disk.arrivals()
    disk.put("a")
    found.seen("a", 0.0)
    paths = found.take(2.0)
    found.put_back(paths, 2.0)
    assert found.take(3.0) == ()
    assert found.take(4.0) == ("a",)
