"""The claims of a soak, checked from what it has left; the rows have their own module."""

import json
import statistics
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from soak_left import Findings, Left
from soak_rows import check_rows, check_runs

WARM_S = 300.0
"""Until all kinds of reports have been made once, and all caches are full."""

STOP_S = 10.0
CAP = 20
SCHEDULES = ("one", "two", "three", "again")
EDGE_S = 2.0
"""A due time that is so near to the start or the stop may be decided, or not."""

OWED_S = 15.0
"""How long what follows a run may take."""

SLOPE_MB_H = 20.0
MORE = {"descriptors": 4, "threads": 1, "tasks": 4}
"""How much the last quarter may have more than the first, in the median."""

OUTCOMES = ("scanned", "reused", "rejected", "failed", "pending")
LEVELS = ("malicious", "suspicious", "benign")


def judge(work: Path) -> tuple[dict[str, str], list[str]]:
    """Check all claims; returns figures for the table, and what does not hold."""
    left, found = Left(work), Findings()
    found.figure(
        "soaked", f"{(left.stopping['at'] - left.began['at']) / 60:.1f} min, seed {left.began['seed']}"
    )
    check_growth(left, found)
    check_stop(left, found)
    check_schedules(left, found)
    check_runs(left, found)
    counted = check_rows(left, found)
    check_engine(left, found)
    check_metrics(left, found, counted)
    check_client(left, found)
    check_streams(left, found)
    check_log(left, found)
    check_ledger(left, found)
    return found.figures, found.broken


def check_growth(left: Left, found: Findings) -> None:
    """Nothing grows once it is warm."""
    long = left.stopping["at"] - left.began["at"] > 2 * WARM_S
    since = left.began["at"] + (WARM_S if long else 0)
    samples = [each for each in left.samples if each["at"] >= since]
    tasks = [each for each in left.tasks if each["at"] >= since]
    if not samples or not tasks:
        found.claim(not long, "nothing was sampled")
        return
    hours, rss = [each["at"] / 3600 for each in samples], [each["rss"] / 1e6 for each in samples]
    found.figure("RSS, MB", f"{rss[0]:.1f} when warm, {rss[-1]:.1f} at the end, at most {max(rss):.1f}")
    # Heaps and caches fill for half an hour, the slower the fuller they are; what leaks does so to the end.
    half = len(rss) // 2
    slope = slope_of(hours[half:], rss[half:])
    found.figure(
        "RSS slope",
        f"{slope_of(hours, rss):+.1f} MB/h after the warm-up, {slope:+.1f} in the second half of that",
    )
    found.claim(not long or slope <= SLOPE_MB_H, f"RSS grows by {slope:.1f} MB/h")
    for name, series in (
        ("descriptors", samples),
        ("threads", samples),
        ("tasks", tasks),
        ("objects", tasks),
    ):
        values = [each[name] for each in series]
        quarter = max(1, len(values) // 4)
        first, last = statistics.median(values[:quarter]), statistics.median(values[-quarter:])
        found.figure(
            name,
            f"median {first:,.0f} in the first quarter, {last:,.0f} in the last, at most {max(values):,}",
        )
        if long and name in MORE:
            found.claim(
                last - first <= MORE[name], f"{name} grow: {first} in the first quarter, {last} in the last"
            )
    used = (samples[-1]["cpu_s"] - samples[0]["cpu_s"]) / max(1.0, samples[-1]["at"] - samples[0]["at"])
    found.figure("CPU of the service", f"{used:.0%} of a core")


def slope_of(x: Sequence[float], y: Sequence[float]) -> float:
    """Least squares; 0 where there is nothing to fit."""
    return statistics.linear_regression(x, y).slope if len(set(x)) > 1 else 0.0


def check_stop(left: Left, found: Findings) -> None:
    """SIGTERM with all streams open ends it in time."""
    code, seconds, streams = left.stopped["stopped"], left.stopped["seconds"], left.stopping["streams"]
    found.figure("SIGTERM", f"exit {code} after {seconds:.1f} s, {streams} streams open, a run under way")
    found.claim(code == 0, f"the service ended with {code}")
    found.claim(seconds <= STOP_S, f"the service took {seconds:.1f} s to stop")
    found.claim(streams >= left.began["streams"] * 0.8, f"only {streams} streams were open at the end")
    last = next(run for run in left.runs if run.run_id == left.last_run)
    found.claim(last.state in {"queued", "running"}, f"the run under way at the stop is {last.state}")


def check_schedules(left: Left, found: Findings) -> None:
    """Each due time is decided once: a run, a visible skip, or nothing to do."""
    decided = {name: Counter[float]() for name in SCHEDULES}
    how: Counter[str] = Counter()
    for event in left.events:
        if event["event"] in {"schedule-due", "schedule-skipped", "schedule-had-nothing-to-do"}:
            decided[event["schedule"]][datetime.fromisoformat(event["due"]).timestamp()] += 1
            how[event["event"].removeprefix("schedule-").replace("-", " ").replace("due", "run")] += 1
        found.claim(event["event"] != "schedule-missed", f"missed: {event}")
    begin, end = left.began["at"], left.stopping["at"]
    minutes = [float(each) for each in range(int(begin // 60 + 1) * 60, int(end) + 1, 60)]
    must = {minute for minute in minutes if begin + EDGE_S < minute < end - EDGE_S}
    for name, times in decided.items():
        for minute in sorted(must - set(times)):
            found.claim(False, f"schedule {name}: {_clock(minute)} was not decided")
        for minute in sorted(set(times) - set(minutes)):
            found.claim(minute >= begin - EDGE_S, f"schedule {name}: {_clock(minute)} was not due")
        for minute in [minute for minute, count in times.items() if count > 1]:
            found.claim(False, f"schedule {name}: {_clock(minute)} was decided {times[minute]} times")
        runs = Counter(run.key for run in left.runs if run.origin == f"schedule {name}")
        due = [each for each in left.events if each["event"] == "schedule-due" and each["schedule"] == name]
        wanted = Counter(f"schedule {name} @ {each['due']}" for each in due)
        found.claim(
            runs == wanted, f"schedule {name}: {len(runs)} runs in the ledger, {len(wanted)} in the log"
        )
    listed = json.loads(left.batchscan("schedule", "list", "--config", "batchscan.toml", "--json").stdout)
    skipped = sum(each["skipped"] for each in listed["schedules"])
    missed = sum(each["missed"] for each in listed["schedules"])
    found.claim(skipped == how["skipped"], f"`schedule list` tells {skipped} skips, the log {how['skipped']}")
    found.claim(missed == 0, f"`schedule list` tells {missed} missed due times")
    told = ", ".join(f"{name} {count}" for name, count in sorted(how.items()))
    found.figure(
        "due times", f"{sum(how.values())} ({len(must)} minutes, 4 schedules): {told}; missed {missed}"
    )


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M")


def check_engine(left: Left, found: Findings) -> None:
    """The cap is held, by what the server counts."""
    stats = json.loads((left.work / "stats-end.json").read_text())
    create = stats["actions"]["CreateSkillScan"]
    found.figure("submissions", f"{create['requests']:,}, at most {create['peak_per_second']} in any second")
    found.claim(create["peak_per_second"] <= CAP, f"{create['peak_per_second']} submissions in a second")
    refused = sum(each["throttled"] for each in stats["actions"].values())
    found.claim(not refused, f"the endpoint's own cap refused {refused} requests")
    asked = sum(each["requests"] for each in stats["actions"].values())
    faults = stats["codes"].get("drill", 0)
    found.figure("faults met", f"{faults:,} of {asked:,} requests refused or cut ({faults / asked:.0%})")
    found.claim(faults, "no fault was met")


def check_metrics(left: Left, found: Findings, counted: Counter[str]) -> None:
    """The service's metrics, read while nothing was under way, say what ledger and reports say."""
    found.claim(left.note("quiet")["quiet"], "runs did not come to an end")
    metrics = read_metrics((left.work / "metrics.txt").read_text())
    for name, label, values in (
        ("batchscan_files_total", "outcome", OUTCOMES),
        ("batchscan_verdicts_total", "verdict", LEVELS),
    ):
        for value in values:
            told = total(metrics, name, f'{label}="{value}"')
            found.claim(
                told == counted[value], f"{name} {value}: {told:.0f}, in the reports {counted[value]}"
            )
    for state in ("queued", "running"):
        told = total(metrics, "batchscan_runs", f'state="{state}"')
        found.claim(told == 0, f"batchscan_runs {state}: {told:.0f} when it was quiet")
    billed = total(metrics, "batchscan_billed_files_total")
    engine = json.loads((left.work / "stats-quiet.json").read_text())["billed_units"]
    files, last = (
        "json_extract(result, '$.file_count')",
        f"(SELECT id FROM run WHERE run_id = '{left.last_run}')",
    )
    judged = left.select(f"SELECT coalesce(sum({files}), 0) FROM verdict WHERE run IS NOT {last}")[0][0]
    paid = "json_extract(result, '$.told_again') = 0"
    late = left.select(f"SELECT coalesce(sum({files}), 0) FROM verdict WHERE run = {last} AND {paid}")[0][0]
    of_days = "FROM purse WHERE name LIKE 'day %'"
    spent = left.select(f"SELECT coalesce(sum(spent), 0) {of_days}")[0][0] - late
    reserved = left.select(f"SELECT coalesce(sum(reserved), 0) {of_days}")[0][0]  # sent by who was cancelled
    found.figure(
        "billed files",
        f"{billed:,.0f} by the metrics, {spent:,} by the ledger, {reserved:,} reserved; {engine:,} by the"
        f" endpoint; {judged:,} in all that has a verdict",
    )
    found.claim(billed == spent, f"billed: {billed:.0f} by the metrics, {spent} by the ledger")
    against = f"billed: {billed:.0f}, and {reserved} reserved; by the endpoint {engine}; judged {judged}"
    found.claim(judged <= engine <= billed + reserved, against)
    found.claim(billed <= engine, against)


def read_metrics(text: str) -> dict[str, float]:
    """Samples by name and labels, as they are written."""
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def total(metrics: dict[str, float], name: str, label: str = "") -> float:
    """Add up the samples of a metric that have this label."""
    return sum(
        value for sample, value in metrics.items() if sample.partition("{")[0] == name and label in sample
    )


def check_client(left: Left, found: Findings) -> None:
    """Each answer was one that is right."""
    passed_on = 0
    for note in left.notes("wrong"):
        if note.get("status") == 502 and "endpoint-refused" in note["body"] and "/quota" in note["asked"]:
            passed_on += 1  # the endpoint met a fault when it was asked, which is not tried again
        else:
            found.claim(False, f"told at {_clock(note['at'])}: {note}")
    found.figure("quota: faults passed on as 502", passed_on)
    seconds = sorted(note["s"] for note in left.notes("asked") if "wrong" not in note)
    if seconds:
        shown = ", ".join(f"{name} {seconds[int(len(seconds) * at)] * 1000:.0f} ms" for name, at in _POINTS)
        found.figure(
            "requests of the client", f"{len(seconds):,}: {shown}, slowest {seconds[-1] * 1000:.0f} ms"
        )
    reports = Counter(note["report"] for note in left.notes("report"))
    found.figure("reports read", ", ".join(f"{name} {count}" for name, count in sorted(reports.items())))


_POINTS = (("median", 0.5), ("99 %", 0.99))


def check_streams(left: Left, found: Findings) -> None:
    """Whoever reads all the time and whoever comes back saw the same, and nothing twice."""
    readers = list(left.notes("reader"))
    readers = [each for each in readers if "numbers" in each]
    whole = [each for each in readers if each["reader"].startswith("plain") and not each["gaps"]]
    every = sorted({number for each in whole for number in each["numbers"]})
    for each in readers:
        numbers = each["numbers"]
        found.claim(
            numbers == sorted(set(numbers)), f"reader {each['reader']}: events out of order, or twice"
        )
        if numbers and not each["gaps"]:
            between = [number for number in every if numbers[0] <= number <= numbers[-1]]
            lost = set(between) - set(numbers)
            found.claim(not lost, f"reader {each['reader']}: {len(lost)} changes of runs did not come")
        missed = each["gaps"] if each["reader"].startswith("comes back") else 0
        found.claim(
            not missed, f"reader {each['reader']}: {missed} times told anew, when it was back at once"
        )
    back = sum(each["comebacks"] for each in readers if each["reader"].startswith("comes back"))
    gaps = sum(each["gaps"] for each in readers)
    followed = Counter(note["state"] for note in left.notes("followed") if note["at"] < left.stopping["at"])
    open_ends = {
        state for state in followed if state not in {"complete", "incomplete", "cancelled", "failed"}
    }
    found.claim(not open_ends, f"streams of runs ended before their run: {followed}")
    found.figure(
        "event streams",
        f"{len(readers)}; {len(every):,} changes of runs, {back:,} times come back,"
        f" {gaps} snapshots for what was missed, {followed.total():,} runs followed to their end",
    )


def check_log(left: Left, found: Findings) -> None:
    """No error, and nothing that is no line of the log."""
    strange = [line for line in left.log.splitlines() if not line.startswith("{")]
    found.claim(not strange, f"on stderr: {strange[:5]}")
    levels = Counter(event["level"] for event in left.events)
    found.figure("log", ", ".join(f"{level} {count:,}" for level, count in sorted(levels.items())))
    for event in left.events:
        if event["level"] in {"error", "critical"} or "exception" in event:
            found.claim(False, f"logged: {event}")
    engine = (left.work / "engine.log").read_text()
    found.claim("Traceback" not in engine, f"the endpoint: {engine[-500:]}")


def check_ledger(left: Left, found: Findings) -> None:
    """The ledger is sound, and what follows the runs of schedules was done."""
    done = left.batchscan("status", "--verify", "--state-dir", "state")
    found.claim(done.returncode == 0, f"status --verify: {done.stdout} {done.stderr}")
    found.figure("`status --verify`", f"exit {done.returncode}")
    steps: Counter[bool] = Counter()
    ended = {run.run_id: run.ended_at or left.stopping["at"] for run in left.runs}
    for run_id, text in left.select("SELECT run_id, steps FROM aftermath"):
        late = ended[run_id] > left.stopping["at"] - OWED_S  # then it is done at the next start
        found.claim(text is not None or late, f"what follows {run_id} is still owed")
        for step in json.loads(text) if text is not None else []:
            steps[step["problem"] is None] += 1
            found.claim(step["problem"] is None, f"{run_id}: {step}")
    found.figure("files that followed runs", steps[True])
