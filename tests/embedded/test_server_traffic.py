"""The sliding cap and the peak, with injected time."""

from batchscan.embedded.traffic import Traffic


def test_first_n_of_any_sliding_second_pass() -> None:
    traffic = Traffic(["A"], {"A": 2})
    accepted = [t for t in (0.0, 0.5, 0.75, 0.875, 1.0, 1.25, 1.5, 2.0) if traffic.arrive("A", t)]
    # a fixed window would have let 1.25 pass as the second of the second second
    assert accepted == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert traffic.throttled["A"] == 3


def test_the_peak_counts_all_arrivals_of_any_second() -> None:
    traffic = Traffic(["A"], {})
    for t in (0.0, 0.5, 0.999, 1.0, 1.4, 3.0):
        assert traffic.arrive("A", t)
    assert traffic.summary()["A"]["peak_per_second"] == 4
    assert traffic.summary()["A"]["span_s"] == 3.0
    assert traffic.times("A") == (0.0, 0.5, 0.999, 1.0, 1.4, 3.0)


def test_actions_do_not_share_a_cap() -> None:
    traffic = Traffic(["A", "B"], {"A": 1})
    assert traffic.arrive("A", 0.0)
    assert traffic.arrive("B", 0.0)
    assert traffic.arrive("B", 0.0)
    assert not traffic.arrive("A", 0.0)
