"""The textfile of a run: whole at any moment, written however the run ends, and true to what was before."""

import asyncio
import os
import signal
from pathlib import Path

from cli_lab import FAST, Lab, skill, skills, until
from prometheus_client.parser import text_string_to_metric_families

Samples = dict[str, dict[tuple[str, ...], float]]


def read(path: Path) -> Samples:
    """Values by name and by labels without the schedule, each sample of which has the file's name."""
    found: Samples = {}
    for family in text_string_to_metric_families(path.read_text()):
        for sample in family.samples:
            assert sample.labels.pop("schedule") == path.stem
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.values()))] = sample.value
    return found


def one(samples: Samples, name: str) -> float:
    (value,) = samples[f"batchscan_{name}"].values()
    return value


async def test_a_run_tells_what_it_did_and_the_next_what_it_found_unchanged(lab: Lab) -> None:
    file = lab.path / "nightly.prom"
    skills(lab.inputs, 3)
    (lab.inputs / "bad.zip").write_bytes(skill("evil"))
    async with lab.service(drill="Create:RequestLimitExceeded*2") as service:
        args = (lab.inputs, "--metrics-textfile", "nightly.prom")
        assert (await lab.scan(service, *args)).code == 0
        first = read(file)
        (lab.inputs / "other.zip").write_bytes(skill("other"))
        (lab.inputs / "broken.zip").write_bytes(b"no zip")
        assert (await lab.scan(service, *args)).code == 3
        second = read(file)
        again = await lab.run(
            *(
                "rescan",
                "--verdict",
                "malicious",
                "--endpoint",
                service.url,
                *FAST,
                "--metrics-textfile",
                file,
            )
        )
        third = read(file)
    assert again.code == 0, again.err
    assert sum(v for k, v in third["batchscan_last_run_files"].items() if "scanned" in k) == 1
    assert one(third, "last_run_newly_malicious") == 0  # it was known to be
    assert sum(first["batchscan_files_total"].values()) == 4
    assert one(first, "newly_malicious_total") == 1
    assert one(first, "throttled_total") == 2
    assert one(first, "billed_files_total") == one(first, "day_billed_files") == 4
    assert one(first, "quota_left_files") == 100_000 - 4
    assert one(first, "verdict_polls_count") == 4
    assert sum(v for k, v in first["batchscan_api_requests_total"].items() if "CreateSkillScan" in k) == 6
    assert sum(v for k, v in second["batchscan_files_total"].items() if "reused" in k) == 4
    assert sum(v for k, v in second["batchscan_last_run_files"].items() if "rejected" in k) == 1
    assert one(second, "newly_malicious_total") == 0
    assert one(second, "last_run_exit_code") == 3
    assert one(second, "last_success_timestamp_seconds") > one(first, "last_success_timestamp_seconds")
    assert oct(file.stat().st_mode & 0o777) == oct(0o666 & ~_umask())
    assert not [p.name for p in lab.path.iterdir() if p.name.startswith(".nightly")]


async def test_a_run_that_fails_says_so_and_keeps_the_last_success(lab: Lab) -> None:
    file = lab.path / "nightly.prom"
    skills(lab.inputs, 1)
    async with lab.service() as service:
        await lab.scan(service, lab.inputs, "--metrics-textfile", file)
        good = read(file)
        assert one(good, "last_run_exit_code") == 0
        no_key: dict[str, str | None] = {"TENCENTCLOUD_SECRET_ID": None}
        refused = await lab.scan(service, lab.inputs, "--metrics-textfile", file, env=no_key)
    bad = read(file)
    assert one(bad, "last_run_exit_code") == refused.code == 4
    assert one(bad, "last_success_timestamp_seconds") == one(good, "last_success_timestamp_seconds")
    assert one(bad, "last_run_start_timestamp_seconds") > one(good, "last_run_end_timestamp_seconds")
    (lab.path / "wrong.toml").write_text("rate = 'x'\n")
    usage = await lab.run("scan", lab.inputs, "--config", "wrong.toml", "--metrics-textfile", file)
    assert usage.code == one(read(file), "last_run_exit_code") == 2
    file.write_text("no metrics {")
    again = await lab.run("scan", lab.inputs, "--metrics-textfile", file)
    assert again.code == one(read(file), "last_run_exit_code") == 0
    assert "metrics of earlier runs are lost" in again.err


async def test_it_is_there_while_the_run_lasts_and_after_it_was_interrupted(lab: Lab) -> None:
    file = lab.path / "nightly.prom"
    skills(lab.inputs, 2)
    async with lab.service() as service:
        service.hold()
        args = ("scan", lab.inputs, "--endpoint", service.url, *FAST, "--metrics-textfile", file)
        running = await lab.start(*args)
        await until(lambda: service.creates.total() > 0)
        during = read(file)
        assert "batchscan_last_run_end_timestamp_seconds" not in during
        running.send(signal.SIGTERM)
        await asyncio.sleep(0)
        service.release()
        stopped = await running.done()
        after = read(file)
        assert one(after, "last_run_exit_code") == stopped.code == 143
        assert "batchscan_last_success_timestamp_seconds" not in after
        resumed = await lab.run("resume", "--metrics-textfile", file)
        assert one(read(file), "last_run_exit_code") == resumed.code == 0
        assert sum(read(file)["batchscan_last_run_files"].values()) == 2


async def test_a_file_that_cannot_be_written_is_refused_before_anything_is_done(lab: Lab) -> None:
    skills(lab.inputs, 1)
    for name, what in (("gone/x.prom", "No such file"), ("metrics.txt", "must end in .prom")):
        done = await lab.run("scan", lab.inputs, "--metrics-textfile", lab.path / name)
        assert done.code == 2
        assert what in done.err
    assert not lab.state.exists()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
