"""What could keep a scan from working, looked at without scanning: each check passes, warns or fails.

Nothing is spent: the service is asked for the quota and for nothing else. Where there is no key it is asked
with a made-up one: the refusal shows that it can be reached, and its time.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from batchscan.api.client import ScanClient
from batchscan.api.credentials import Credentials, Secret, StaticCredentials
from batchscan.api.endpoints import Endpoint, endpoint
from batchscan.api.protocol import PayInfo
from batchscan.config import Config
from batchscan.connect import QUESTION, Access, connect, find_access
from batchscan.diagnosis import LOCAL, SERVICE, Check, Examination, Level, concluded, failed, passed, warned
from batchscan.errors import BatchscanError, CredentialsError, Reaction, ServiceError
from batchscan.local_checks import check_caps, check_settings, check_state, check_version
from batchscan.quota import RENEW, Quota, ask_quota, fit_in_words, left_in_words, to_quota
from batchscan.settings import SettingsError, settle
from batchscan.stats import Stats

SKEW_LIMIT_S: Final = 300
"""Vendor: a signature that is more than five minutes off is refused."""

_SKEW_NOTED_S: Final = 30
_SKEW_FIX: Final = "Set this machine's clock and let it follow a time server (NTP)."
_EXPIRES_SOON_S: Final = 900
_DAYS_SHORT: Final = 7
_PART_SHORT: Final = 0.1
_KEY_PATIENCE_S: Final = 30.0
_PASSING: Final = {Reaction.THROTTLE, Reaction.TRANSIENT}


async def examine(flags: Mapping[str, Any]) -> Examination:
    """Make all checks; what is wrong is in the result and raises nothing.

    Args:
        flags: as ``settings.settle`` takes them.
    """
    checks = [check_version()]
    try:
        settled = await asyncio.to_thread(settle, flags)
    except SettingsError as error:
        fix = "Correct it; `batchscan config check` tells when all is right."
        return concluded(checks + [failed("settings", problem, fix, LOCAL) for problem in error.problems])
    config = settled.config
    checks.append(await asyncio.to_thread(check_settings, settled))
    state, under_way, pending = await check_state(config)
    access, credentials = await _credentials(config)
    checks += [state, check_caps(config), credentials]
    if access is None and state.level is Level.FAIL:
        return concluded(checks)  # the embedded endpoint keeps its store there
    try:
        async with connect(config, access, Stats(), QUESTION) as (client, target):
            began = time.monotonic()
            answer = await _ask(client)
            checks.append(_endpoint(answer, target, time.monotonic() - began))
            checks += _clock(client.clock_skew_s)
    except BatchscanError as error:
        checks.append(failed("endpoint", str(error), "Put right what it names.", LOCAL))
        return concluded(checks)
    if credentials.level is not Level.FAIL:
        checks += _access(answer, target)
        if isinstance(answer, PayInfo):
            checks.append(_quota(to_quota(answer, target.name, under_way=under_way, pending=pending)))
    return concluded(checks)


async def _credentials(config: Config) -> tuple[Access | None, Check]:
    """How to get at the endpoint: with a made-up key where there is none; None for the embedded one."""
    try:
        access = await asyncio.to_thread(find_access, config)
        if access is None:
            return None, passed("credentials", "none needed, the embedded endpoint makes its own")
        async with asyncio.timeout(_KEY_PATIENCE_S):
            found = await access.credentials.get()
    except (CredentialsError, TimeoutError) as error:
        message = str(error) or f"their source did not answer within {_KEY_PATIENCE_S:g} s"
        fix = "Put a key where docs/credentials.md says, and choose among several with --profile."
        nobody = StaticCredentials(Credentials("AKID" + 32 * "0", Secret(32 * "0"), None, "made up"))
        return Access(endpoint(config.endpoint), nobody), failed("credentials", message, fix, SERVICE)
    if found.expires_at is not None and found.expires_at - time.time() < _EXPIRES_SOON_S:
        fix = "Log in again, unless whoever wrote them renews them."
        return access, warned("credentials", f"{found.described()}, which is soon", fix)
    return access, passed("credentials", found.described())


async def _ask(client: ScanClient) -> PayInfo | ServiceError:
    try:
        return await ask_quota(client)
    except ServiceError as error:
        return error


def _of_vendor(answer: PayInfo | ServiceError) -> bool:
    """Whether the service's own gateway has spoken: its codes are CamelCase, ours in kebab case."""
    return isinstance(answer, PayInfo) or answer.code[:1].isupper()


def _endpoint(answer: PayInfo | ServiceError, target: Endpoint, took_s: float) -> Check:
    if isinstance(answer, ServiceError) and not _of_vendor(answer):
        return failed("endpoint", f"{target.name} at {target.url}: {_told(answer)}", _fix(answer), SERVICE)
    return passed("endpoint", f"{target.name} at {target.url} answered in {took_s * 1000:.0f} ms")


def _clock(skew_s: float | None) -> list[Check]:
    """Compare the clocks; the ``Date`` of an answer has whole seconds."""
    if skew_s is None:
        return []
    off = abs(skew_s)
    told = f"{off:.0f} s {'behind' if skew_s > 0 else 'ahead of'} the service's"
    if off > SKEW_LIMIT_S:
        return [failed("clock", f"{told}; signatures are refused from {SKEW_LIMIT_S} s on", _SKEW_FIX, LOCAL)]
    if off > _SKEW_NOTED_S:
        return [warned("clock", told, _SKEW_FIX)]
    return [passed("clock", f"within {_SKEW_NOTED_S} s of the service's")]


def _access(answer: PayInfo | ServiceError, target: Endpoint) -> list[Check]:
    if isinstance(answer, PayInfo):
        return [passed("access", f"{target.name} takes the key")]
    if not _of_vendor(answer):
        return []
    if answer.policy.reaction in _PASSING:
        return [warned("access", _told(answer), _fix(answer) or "Try again in a minute.")]
    return [failed("access", _told(answer), _fix(answer), SERVICE)]


def _quota(quota: Quota) -> Check:
    left = left_in_words(quota)
    order = f"order {quota.order or 'unknown'}"
    if quota.exhausted:
        return failed("quota", f"{left}; {order}; nothing more can be scanned", RENEW, SERVICE)
    if quota.fitting is not None and quota.fitting < quota.pending.files:
        waiting = f"{quota.pending.files:,} files are pending here"
        return warned("quota", f"{left}; {waiting}, {fit_in_words(quota, quota.pending.files)}", RENEW)
    if quota.days_left is not None and quota.days_left < _DAYS_SHORT:
        return warned("quota", f"{left}; {order}, ends in {quota.days_left} days", RENEW)
    if not quota.unlimited and quota.total and (quota.remaining or 0) < quota.total * _PART_SHORT:
        return warned("quota", f"{left}; {order}", RENEW)
    return passed("quota", f"{left}; {order}{'' if quota.ends is None else f', until {quota.ends}'}")


def _told(error: ServiceError) -> str:
    """The refusal without the advice, which is the fix."""
    return str(error).removesuffix(error.policy.advice).rstrip(" .")


def _fix(error: ServiceError) -> str:
    return error.policy.advice
