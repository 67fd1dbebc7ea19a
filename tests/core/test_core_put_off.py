"""What is no fault of the content does not use up its attempts: throttling, or nobody there."""

import pytest
from core_lab import CREATE, Service, refuse, status
from test_core_stages import Steps, steps

from batchscan.models import Stage
from batchscan.scheduler import Wake
from batchscan.stages import Settled

__all__ = ["steps"]  # a fixture


async def test_a_busy_account_and_one_error_give_nothing_up(steps: Steps, cloud: Service) -> None:
    cloud.script[CREATE] = [refuse("RequestLimitExceeded")] * 6 + [refuse("InternalError"), status(503)]
    for _ in range(8):
        step = await steps.submit()
        assert isinstance(step, Wake)
        steps.clock.now = step.at
    assert await steps.told("state", "tries", "put_off") == ("admitted", 8, 6)
    step = await steps.submit()
    assert isinstance(step, Wake)
    assert step.stage is Stage.POLL
    assert await steps.told("state", "tries", "put_off") == ("scanning", 0, 0)


@pytest.mark.parametrize("before", [0, 3])
async def test_its_own_failures_still_have_a_limit(steps: Steps, cloud: Service, before: int) -> None:
    cloud.script[CREATE] = [refuse("RequestLimitExceeded")] * before
    cloud.always[CREATE] = refuse("InternalError")
    for _ in range(before + 4):
        step = await steps.submit()
        assert isinstance(step, Wake)
        steps.clock.now = step.at
    assert isinstance(await steps.submit(), Settled)
    assert await steps.told("state") == ("failed",)
