"""When credentials are fetched anew, how often, and what happens when that fails."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from batchscan.api.credentials import Credentials, Secret, find_credentials
from batchscan.api.rotation import RETRY_S, RotatingCredentials
from batchscan.errors import CredentialsError

START = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Issuer:
    """A source whose answers the test decides: ``life_s`` of the next key, or ``failure``."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.life_s: float | None = 7200.0
        self.failure: str | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = 0
        self.arrived = asyncio.Event()

    async def fetch(self) -> Credentials:
        self.asked += 1
        count = self.asked
        self.arrived.set()
        await self.gate.wait()
        if self.failure is not None:
            raise CredentialsError(self.failure)
        expires_at = None if self.life_s is None else self.clock.now + self.life_s
        return Credentials(f"AKID{count}", Secret("key"), Secret("token"), "issuer", expires_at)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer(clock: Clock) -> Issuer:
    structlog.reset_defaults()
    return Issuer(clock)


def rotating(issuer: Issuer, patience_s: float = 30.0) -> RotatingCredentials:
    return RotatingCredentials(
        issuer.fetch, source="issuer", advice="do this", clock=issuer.clock, patience_s=patience_s
    )


async def crowd(call: Callable[[], Awaitable[Credentials]]) -> list[Credentials | BaseException]:
    return await asyncio.gather(*(call() for _ in range(100)), return_exceptions=True)


@pytest.mark.parametrize(
    ("life_s", "ahead_s"),
    [(43200, 4320), (7200, 720), (3600, 360), (1800, 300), (600, 300), (400, 200), (60, 30)],
)
async def test_when_they_are_due(issuer: Issuer, clock: Clock, life_s: float, ahead_s: float) -> None:
    issuer.life_s = life_s
    source = rotating(issuer)
    first = await source.get()
    clock.now = START + life_s - ahead_s - 0.1
    assert await source.get() is first
    clock.now = START + life_s - ahead_s
    assert (await source.get()).secret_id == "AKID2"
    assert issuer.asked == 2


async def test_what_does_not_expire_is_fetched_once(issuer: Issuer, clock: Clock) -> None:
    issuer.life_s = None
    source = rotating(issuer)
    first = await source.get()
    clock.now += 10 * 365 * 86400
    assert await source.get() is first
    assert issuer.asked == 1


async def test_a_hundred_who_have_none_cause_one_fetch(issuer: Issuer) -> None:
    issuer.gate.clear()
    source = rotating(issuer)
    waiting = asyncio.create_task(crowd(source.get))
    await issuer.arrived.wait()
    issuer.gate.set()
    assert {key.secret_id for key in await waiting if isinstance(key, Credentials)} == {"AKID1"}
    assert issuer.asked == 1


async def test_a_hundred_who_have_good_ones_do_not_wait_for_the_next(issuer: Issuer, clock: Clock) -> None:
    source = rotating(issuer)
    first = await source.get()
    clock.now = START + 6500
    issuer.gate.clear()
    issuer.arrived.clear()
    fetching = asyncio.create_task(source.get())
    await issuer.arrived.wait()
    assert await asyncio.wait_for(crowd(source.get), 5) == [first] * 100
    issuer.gate.set()
    assert (await fetching).secret_id == "AKID2"
    assert issuer.asked == 2


async def test_a_hundred_share_one_failure(issuer: Issuer) -> None:
    issuer.failure = "issuer: closed"
    issuer.gate.clear()
    source = rotating(issuer)
    waiting = asyncio.create_task(crowd(source.get))
    await issuer.arrived.wait()
    issuer.gate.set()
    outcomes = await waiting
    assert [str(error) for error in outcomes] == ["issuer: closed"] * 100
    assert all(isinstance(error, CredentialsError) for error in outcomes)
    assert issuer.asked == 1
    issuer.failure = None
    assert (await source.get()).secret_id == "AKID2"


async def test_a_failure_ahead_of_time_is_a_warning_and_tried_again_later(
    issuer: Issuer, clock: Clock
) -> None:
    source = rotating(issuer)
    first = await source.get()
    issuer.failure = "issuer: closed"
    clock.now = START + 6500
    with capture_logs() as logs:
        assert await source.get() is first
        assert await source.get() is first
        clock.now += RETRY_S - 0.1
        assert await source.get() is first
    assert issuer.asked == 2
    assert [(entry["event"], entry["log_level"], entry["reason"]) for entry in logs] == [
        ("credentials-not-renewed", "warning", "issuer: closed")
    ]
    assert logs[0]["good_until"] == "2027-01-15T10:00:00Z"
    clock.now += 0.2
    assert await source.get() is first
    assert issuer.asked == 3
    issuer.failure = None
    clock.now += RETRY_S
    assert (await source.get()).secret_id == "AKID4"


async def test_failing_until_the_end_is_an_error_and_no_longer_put_off(issuer: Issuer, clock: Clock) -> None:
    source = rotating(issuer)
    await source.get()
    issuer.failure = "issuer: closed"
    clock.now = START + 7199
    await source.get()
    clock.now = START + 7200
    with pytest.raises(CredentialsError, match="issuer: closed"):
        await source.get()
    assert issuer.asked == 3


async def test_a_clock_that_is_set_back_does_not_put_the_next_try_off(issuer: Issuer, clock: Clock) -> None:
    source = rotating(issuer)
    await source.get()
    issuer.failure = "issuer: closed"
    clock.now = START + 7100
    await source.get()
    clock.now = START + 6500
    await source.get()
    assert issuer.asked == 3


async def test_a_refusal_forces_one_fetch_for_all(issuer: Issuer) -> None:
    source = rotating(issuer)
    await source.get()
    issuer.gate.clear()
    issuer.arrived.clear()
    waiting = asyncio.create_task(crowd(source.refresh))
    await issuer.arrived.wait()
    issuer.gate.set()
    assert {key.secret_id for key in await waiting if isinstance(key, Credentials)} == {"AKID2"}
    assert issuer.asked == 2
    assert (await source.refresh()).secret_id == "AKID3"


async def test_a_forced_fetch_that_fails_says_so_and_leaves_what_there_is(issuer: Issuer) -> None:
    source = rotating(issuer)
    first = await source.get()
    issuer.failure = "issuer: closed"
    with pytest.raises(CredentialsError, match="issuer: closed"):
        await source.refresh()
    assert await source.get() is first


async def test_who_is_cancelled_leaves_the_fetch_to_the_next(issuer: Issuer) -> None:
    source = rotating(issuer)
    issuer.gate.clear()
    cancelled = asyncio.create_task(source.get())
    await issuer.arrived.wait()
    other = asyncio.create_task(source.get())
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    issuer.gate.set()
    assert (await other).secret_id == "AKID2"


async def test_a_source_that_never_answers(issuer: Issuer) -> None:
    issuer.gate.clear()
    with pytest.raises(CredentialsError, match=r"issuer: gave no answer within 0\.01 s"):
        await rotating(issuer, patience_s=0.01).get()


@pytest.mark.parametrize("life_s", [0, -3600])
async def test_what_has_expired_already_is_refused(issuer: Issuer, life_s: float) -> None:
    issuer.life_s = life_s
    with pytest.raises(CredentialsError, match=r"issuer: expired at 20\S+: do this"):
        await rotating(issuer).get()


async def test_it_says_what_it_is_and_until_when_it_is_good(issuer: Issuer) -> None:
    source = rotating(issuer)
    assert source.source == "issuer"
    assert issuer.asked == 0
    assert (await source.get()).described() == "issuer (until 2027-01-15T10:00:00Z)"


# the profile of the vendor's command line


def write(home: Path, token: str, expires_at: object) -> Path:
    path = home / ".tccli" / "default.credential"
    path.parent.mkdir(exist_ok=True)
    fields = {"type": "oauth", "secretId": "AKIDcli", "secretKey": "KEYcli", "token": token}
    path.write_text(json.dumps(fields | {"expiresAt": expires_at}), "utf-8")
    path.chmod(0o600)
    return path


async def test_a_login_is_read_again_before_it_expires(tmp_path: Path, clock: Clock) -> None:
    path = write(tmp_path, "TOKa", START + 7200)
    source = find_credentials(None, {}, tmp_path, system_ini=tmp_path / "none", clock=clock)
    assert (await source.get()).described() == f"{path} (until 2027-01-15T10:00:00Z)"
    write(tmp_path, "TOKb", START + 14400)
    assert (await source.get()).token == Secret("TOKa")
    clock.now = START + 6600
    assert (await source.get()).token == Secret("TOKb")


async def test_an_expired_login_is_an_error_until_it_is_renewed(tmp_path: Path, clock: Clock) -> None:
    path = write(tmp_path, "TOKa", int(START) - 1)
    source = find_credentials(None, {}, tmp_path, system_ini=tmp_path / "none", clock=clock)
    with pytest.raises(CredentialsError) as caught:
        await source.get()
    assert str(path) in str(caught.value)
    assert "expired at 2027-01-15T07:59:59Z: log in again with tccli" in str(caught.value)
    write(tmp_path, "TOKb", START + 60)
    assert (await source.get()).token == Secret("TOKb")


@pytest.mark.parametrize("expires_at", ["soon", -5, True, [1], 10**20, "9" * 5000, 1e300])
def test_an_expiry_that_is_no_time(tmp_path: Path, expires_at: object) -> None:
    path = write(tmp_path, "TOKa", expires_at)
    with pytest.raises(CredentialsError, match="expiresAt is not a time") as caught:
        find_credentials(None, {}, tmp_path, system_ini=tmp_path / "none")
    assert str(path) in str(caught.value)
