"""Connect to the endpoint that was chosen; the one place that starts the embedded one."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from batchscan.api.client import ScanClient, Timeouts, open_client
from batchscan.api.credentials import (
    SECRET_ID,
    SECRET_KEY,
    Credentials,
    CredentialSource,
    RoleServices,
    Secret,
    StaticCredentials,
    find_credentials,
    profile_name,
)
from batchscan.api.endpoints import Endpoint, endpoint
from batchscan.api.reactions import known_code
from batchscan.config import Config
from batchscan.errors import CredentialsError, UsageError
from batchscan.stats import Stats
from batchscan.streams import data_on_stdout

EMBEDDED = "embedded"
EMBEDDED_STORE = "embedded.sqlite3"
DETECTOR_TIME_LIMIT_S = 60.0
DETECTOR_MEMORY_LIMIT = 1024 * 1024 * 1024
QUESTION = Timeouts(connect_s=5.0, read_s=15.0, total_s=20.0)
"""For a call that a person waits for: a short question with a short answer."""

UNLIMITED = 2**53
"""The quota of an embedded endpoint that was given none."""


def scope_name(config: Config) -> str:
    """Name whose verdicts these are: the profile and the endpoint's host.

    Raises:
        UsageError: the endpoint is neither a preset nor a usable URL.
    """
    host = EMBEDDED if config.endpoint == EMBEDDED else endpoint(config.endpoint).host
    return f"{profile_name(config.profile, os.environ)}@{host}"


class Access(msgspec.Struct, frozen=True):
    """An endpoint that is somewhere else, and what opens it."""

    endpoint: Endpoint
    credentials: CredentialSource


def find_access(config: Config) -> Access | None:
    """Find the configured endpoint and its credentials; None for the embedded one. Reads files.

    Raises:
        UsageError: the endpoint is neither a preset nor a usable URL.
        CredentialsError: no credentials for it.
    """
    if config.endpoint == EMBEDDED:
        return None
    target = _in_language(endpoint(config.endpoint), config)
    roles = RoleServices.of(target, proxy=config.proxy, ca_file=config.ca_file)
    return Access(target, find_credentials(config.profile, os.environ, Path.home(), roles))


def _in_language(target: Endpoint, config: Config) -> Endpoint:
    if config.language is None:
        return target
    return msgspec.structs.replace(target, language=config.language)


@asynccontextmanager
async def connect(
    config: Config,
    access: Access | None,
    stats: Stats,
    timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
) -> AsyncIterator[tuple[ScanClient, Endpoint]]:
    """Open a client for an endpoint, starting the embedded one where there is no access to another.

    Raises:
        UsageError: the endpoint, proxy or CA file cannot be used.
    """
    if access is None:
        async with (
            _embedded(config) as (target, credentials),
            _client(config, Access(target, credentials), stats, timeouts) as client,
        ):
            yield client, target
        return
    async with _client(config, access, stats, timeouts) as client:
        yield client, access.endpoint


@asynccontextmanager
async def _client(
    config: Config, access: Access, stats: Stats, timeouts: Timeouts
) -> AsyncIterator[ScanClient]:
    def count(action: str) -> None:
        stats.requests[action] += 1

    def meter(action: str, code: str | None, seconds: float) -> None:
        stats.meter.answered(action, "ok" if code is None else known_code(code), seconds)

    async with open_client(
        access.endpoint,
        access.credentials,
        timeouts=timeouts,
        on_request=count,
        on_answer=meter,
        ca_file=config.ca_file,
        proxy=config.proxy,
    ) as client:
        yield client


class Standalone(msgspec.Struct, frozen=True, kw_only=True):
    """How the embedded endpoint is run by itself; None is the usual. ``stats``: its counters can be read."""

    port: int
    site: str
    drill: str | None = None
    engine_version: int | None = None
    total_quota: int | None = None
    stats: bool = True


async def run_standalone(config: Config, standalone: Standalone, stop: asyncio.Event) -> None:
    """Run the embedded endpoint until ``stop`` is set; say on stdout where it is and what key it takes.

    Raises:
        UsageError: a setting cannot be used, the port is taken, or stdout cannot be written.
        LedgerError: the state directory cannot be used.
    """
    try:
        source = await asyncio.to_thread(find_credentials, config.profile, os.environ, Path.home())
        key, made = await source.get(), False
    except CredentialsError:
        key, made = _made_up_key(), True
    async with _engine(config, key, standalone) as url:
        with data_on_stdout():
            print(url)  # noqa: T201 - data goes to stdout
            if made:
                print(f"export {SECRET_ID}={key.secret_id}")  # noqa: T201 - made up, for loopback only
                print(f"export {SECRET_KEY}={key.secret_key.reveal()}")  # noqa: T201 - see above
        await stop.wait()


def _made_up_key() -> Credentials:
    return Credentials("AKID" + secrets.token_hex(16), Secret(secrets.token_hex(16)), None, "made up")


@asynccontextmanager
async def _embedded(config: Config) -> AsyncIterator[tuple[Endpoint, CredentialSource]]:
    key = _made_up_key()
    async with _engine(config, key, Standalone(port=0, site=EMBEDDED, stats=False)) as url:
        yield _in_language(Endpoint(EMBEDDED, url, "en-US"), config), StaticCredentials(key)


@asynccontextmanager
async def _engine(config: Config, key: Credentials, standalone: Standalone) -> AsyncIterator[str]:
    # Imported here, because a scan at a cloud endpoint has no use for a server.
    from batchscan.embedded.detector import engine_version, open_detector  # noqa: PLC0415
    from batchscan.embedded.drill import Drill  # noqa: PLC0415
    from batchscan.embedded.server import serve  # noqa: PLC0415
    from batchscan.embedded.settings import EngineSettings  # noqa: PLC0415

    try:
        settings = EngineSettings(
            port=standalone.port,
            site=standalone.site,
            secret_id=key.secret_id,
            secret_key=key.secret_key.reveal(),
            token=None if key.token is None else key.token.reveal(),
            engine_version=standalone.engine_version or engine_version(config.detector),
            total_quota=UNLIMITED if standalone.total_quota is None else standalone.total_quota,
            store_path=config.state_dir / EMBEDDED_STORE,
            drill=None if standalone.drill is None else Drill.parse(standalone.drill),
            stats=standalone.stats,
        )
    except ValueError as error:
        raise UsageError(f"embedded endpoint: {error}") from error
    async with (
        open_detector(
            config.detector,
            workers=config.detector_workers or os.cpu_count() or 1,
            time_limit_s=DETECTOR_TIME_LIMIT_S,
            memory_limit_bytes=DETECTOR_MEMORY_LIMIT,
        ) as detector,
        serve(settings, detector) as running,
    ):
        yield running.url
