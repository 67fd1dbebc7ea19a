"""Fixtures of the core's tests; what they are made of is in ``core_lab``."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from core_lab import Bench, Service, bench, service


@pytest_asyncio.fixture
async def cloud() -> AsyncIterator[Service]:
    async with service() as running:
        yield running


@pytest_asyncio.fixture
async def table(tmp_path: Path, cloud: Service) -> AsyncIterator[Bench]:
    """A bench with a client for ``cloud``."""
    async with bench(tmp_path, cloud.endpoint) as made:
        yield made


@pytest_asyncio.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Bench]:
    """A bench without a service."""
    async with bench(tmp_path) as made:
        yield made
