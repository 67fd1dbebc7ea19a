"""Fixtures of the wire's tests."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from scripted_service import Service, running

from batchscan.api.credentials import Credentials, Secret, StaticCredentials


@pytest_asyncio.fixture
async def service() -> AsyncIterator[Service]:
    async with running() as started:
        yield started


@pytest.fixture
def source() -> StaticCredentials:
    key = Secret("FakeSecretKeyForLoopbackTests000")
    return StaticCredentials(
        Credentials("AKIDEXAMPLE0000000000000000000000000", key, Secret("FakeSessionToken/+=="), "test")
    )
