"""The harness works: one quick benchmark from the command line, and the sums that the report rests on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cap import least_span_s, most_in_any_second
from figures import Table, spread, table
from measure import BenchmarkError, run

HARNESS = Path(__file__).with_name("run.py")


def test_a_quick_run_prints_and_keeps_figures(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, HARNESS, "start", "--quick", "--json", results, "--work-dir", tmp_path / "work"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "| batchscan --help |" in done.stdout
    record = json.loads(results.read_text())["start"]
    cases = {series["case"] for series in record["finding"]["series"]}
    assert {"python -c pass", "batchscan --help", "batchscan, to its first request"} <= cases
    assert all(value > 0 for series in record["finding"]["series"] for value in series["values"])
    assert str(tmp_path) not in results.read_text()


def test_an_unknown_name_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, HARNESS, "nothing"], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 2
    assert "start, submit, cap, cold, night, poll" in done.stderr


def test_a_file_that_holds_no_results_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    results.write_text('{"start": 1}')
    done = subprocess.run(
        [sys.executable, HARNESS, "start", "--quick", "--json", results],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 1
    assert "no results of this harness" in done.stderr
    assert done.stdout == ""
    assert results.read_text() == '{"start": 1}'


def children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_harness_leaves_no_process_and_no_directory(tmp_path: Path, number: int) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, HARNESS, "cold", "--quick"], env=env, start_new_session=True
    ) as run_py:
        while len(started := children(run_py.pid)) < 2:  # the engine, and the scan that uses it
            assert run_py.poll() is None
            time.sleep(0.01)
        run_py.send_signal(number)
        assert run_py.wait(30) == 130
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    assert list(tmp_path.iterdir()) == []


def test_children_that_nobody_waits_for_are_ended() -> None:
    script = (
        "import subprocess, measure;"
        "pids = [subprocess.Popen(['sleep', '60']).pid for _ in range(2)];"
        "measure.end_children(); print(*pids)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=HARNESS.parent,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    pids = done.stdout.split()
    assert len(pids) == 2
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_process_that_takes_too_long_is_ended_and_told() -> None:
    with pytest.raises(BenchmarkError, match="not done within"):
        run([sys.executable, "-c", "import time; time.sleep(60)"], os.environ, limit_s=0.2)


def test_a_process_that_fails_is_told_with_its_words() -> None:
    with pytest.raises(BenchmarkError, match="exit code 7; so it is"):
        run([sys.executable, "-c", "import sys; print('so it is', file=sys.stderr); sys.exit(7)"], os.environ)


def test_usage_counts_what_the_child_took() -> None:
    used = run([sys.executable, "-c", "x = bytearray(200_000_000); sum(range(10**7)); print(3)"], os.environ)
    assert used.json == 3
    assert used.rss_mb > 200
    assert 0 < used.cpu_s <= used.wall_s * 1.5


@pytest.mark.parametrize(
    ("times", "most"),
    [([], 0), ([1.0], 1), ([0.0, 1.0, 2.0], 1), ([0.0, 0.999, 1.5, 1.9, 2.4], 3), ([0.0] * 5 + [1.0] * 6, 6)],
)
def test_the_most_in_any_second(times: list[float], most: int) -> None:
    assert most_in_any_second(times) == most


def test_the_least_span_of_so_many() -> None:
    assert least_span_s([0.0, 1.0, 1.5, 3.0, 3.25], 3) == 1.5
    assert least_span_s([0.0, 1.0, 1.5, 3.0, 3.25], 2) == 0.25


def test_ratios_are_of_the_same_round() -> None:
    found = Table()
    for ours, theirs in ((1.0, 4.0), (2.0, 4.0), (9.0, 3.0)):
        found.add("ours", s=ours)
        found.add("theirs", s=theirs)
    found.ratio("ours", "theirs", "s", name="share")
    assert found.median("ours", "share") == 0.5
    assert found.worst("ours", "share") == 3.0
    assert "| ours | 2.00 (1.00..9.00) | 0.5 (0.25..3.00) |" in table(found.series())


def test_a_figure_that_did_not_vary_has_no_spread() -> None:
    assert spread([20.0, 20.0]) == "20.0"
