"""The exception tree. A class says how far the damage goes: this try, this item, or the whole run.

Foreign errors (aiohttp, SQLAlchemy, OS) are translated at the port that meets them, with the cause
chained. Messages say what was wrong, where, and what to do; no secret and no file content is ever put
into one.
"""

from enum import StrEnum

import msgspec


class BatchscanError(Exception):
    """Anything that batchscan raises on purpose. ``exit_code`` is what the CLI ends with."""

    exit_code = 70


class UsageError(BatchscanError):
    """A wrong flag, source, setting or path: found before anything was submitted."""

    exit_code = 2


class NothingMatchedError(BatchscanError):
    """The sources hold no input at all."""

    exit_code = 5


class LedgerError(BatchscanError):
    """The ledger cannot be used: not writable, damaged, or from a newer version."""

    exit_code = 2


class CutShortError(BatchscanError):
    """The ledger failed in the middle of a run; what was committed is there, and the run can be resumed."""

    exit_code = 3


class ReportError(BatchscanError):
    """The report cannot be written or read. The ledger still knows all that was paid for."""

    exit_code = 3


class BudgetReachedError(BatchscanError):
    """What is left to do costs more than the budget has left. Nothing went wrong, and polling went on."""

    exit_code = 8


class Reaction(StrEnum):
    """What a failed call means for what comes next (facts: the vendor's common error codes).

    ``throttle``, ``transient``, ``clock``, ``credential`` and ``unknown`` (sent, but no answer) are tried
    again; ``item`` gives up this digest; ``quota`` asks for the account's quota first; ``run`` stops
    submitting.
    """

    THROTTLE = "throttle"
    TRANSIENT = "transient"
    CLOCK = "clock"
    CREDENTIAL = "credential"
    UNKNOWN = "unknown"
    ITEM = "item"
    QUOTA = "quota"
    RUN = "run"


class Policy(msgspec.Struct, frozen=True):
    """How one kind of failed call is answered.

    Attributes:
        reaction: what to do about it.
        max_attempts: how often the call may be made in all before the item is given up.
        delay_s: how long to wait at least before the next try, seconds.
        advice: what the operator should do, one sentence; empty when there is nothing to do.
    """

    reaction: Reaction
    max_attempts: int = 3
    delay_s: float = 1.0
    advice: str = ""


class ServiceError(BatchscanError):
    """A call to the scan service did not give a usable answer.

    Attributes:
        code: the vendor's code, or ours in kebab case for what happened on the way.
        policy: what to do about it.
        request_id: the vendor's id of the call, where the gateway answered.
        status: HTTP status, None when nothing was received.
        server_time: the answer's ``Date`` as epoch seconds, where there was one.
    """

    exit_code = 4

    def __init__(
        self,
        code: str,
        message: str,
        *,
        policy: Policy,
        request_id: str | None = None,
        status: int | None = None,
        server_time: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.policy = policy
        self.request_id = request_id
        self.status = status
        self.server_time = server_time


class CredentialsError(BatchscanError):
    """No usable credentials; the message says which variables and files were looked at."""

    exit_code = 4
