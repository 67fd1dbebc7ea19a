"""What each failed call means, as data: the one place that decides between retry, item and run.

The vendor's codes come from its common error codes page; services append ``.Suffix`` parts freely, so a
code is looked up in full and then by its first dotted segment. The classes are our judgement: the vendor
documents the codes, not what to do about them. Codes in kebab case are ours, for what happened on the way.

``docs/errors.md`` is generated from here: ``python -m batchscan.api.reactions > docs/errors.md``.
"""

import sys
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from batchscan.errors import Policy, Reaction

CREATE: Final = "CreateSkillScan"
RESULT: Final = "DescribeSkillScanResult"
PAY_INFO: Final = "DescribeSkillScanPayInfo"

_POLLS = 100
"""Tries of a read that may simply be repeated: at one a minute, the longest documented scan."""


class Entry(msgspec.Struct, frozen=True):
    """One line of the table; ``action`` None means every action without a line of its own."""

    code: str
    action: str | None
    policy: Policy


_ASK = "Check the account's quota and orders with `batchscan quota`."
_SITE = "Check the key in the console of the endpoint's own site; keys of the other site are not known there."
_CAM = "Let the account's administrator grant the action in CAM, and check that the product is activated."
_DEFECT = "The request was not understood: please report this as a defect of batchscan."
_ENDPOINT = "Check `--endpoint`: this service does not offer the API that batchscan speaks."
_NETWORK = "Check network, DNS, proxy and firewall between here and the endpoint."
_FILE = "Look at the file: the service does not take it."

_RUN_CODES: Mapping[str, str] = {
    "AuthFailure": _SITE,
    "UnauthorizedOperation": _CAM,
    "IpInBlacklist": "Let the account's administrator take this machine's address off the black list.",
    "IpNotInWhitelist": "Let the account's administrator add this machine's address to the white list.",
    "ActionOffline": _ENDPOINT,
    "InvalidAction": _ENDPOINT,
    "NoSuchProduct": _ENDPOINT,
    "NoSuchVersion": _ENDPOINT,
    "UnsupportedProtocol": _ENDPOINT,
    "UnsupportedRegion": _ENDPOINT,
    "RegionError": _ENDPOINT,
    "DryRunOperation": _DEFECT,
}
_ITEM_CODES: Mapping[str, str] = {
    "InvalidParameter": _FILE,
    "InvalidParameterValue": _FILE,
    "InvalidParameterCombination": _FILE,
    "InvalidRequest": _FILE,
    "MissingParameter": _DEFECT,
    "UnknownParameter": _DEFECT,
    "UnsupportedOperation": _FILE,
    "RequestSizeLimitExceeded": "The file is larger than the service takes.",
    "ResponseSizeLimitExceeded": "The result is larger than the service can return.",
}
_QUOTA_CODES: Mapping[str, int] = {  # candidates for an exhausted quota: the vendor names no code for it
    "ResourceUnavailable": 3,
    "ResourceInsufficient": 3,
    "FailedOperation": 3,
    "ResourcesSoldOut": 1,
    "LimitExceeded": 1,
    "OperationDenied": 1,
}


def _entries() -> Iterator[Entry]:
    throttle = Policy(
        Reaction.THROTTLE,
        _POLLS,
        1.0,
        "Lower `--rate`, or ask the vendor for a higher limit; every tool of the account shares it.",
    )
    yield Entry("RequestLimitExceeded", None, throttle)
    for code, delay_s in (("InternalError", 2.0), ("ServiceUnavailable", 5.0), ("ResourceInUse", 2.0)):
        yield Entry(code, CREATE, Policy(Reaction.TRANSIENT, 5, delay_s))
        yield Entry(code, None, Policy(Reaction.TRANSIENT, _POLLS, delay_s))
    for code, attempts in _QUOTA_CODES.items():
        yield Entry(code, CREATE, Policy(Reaction.QUOTA, attempts, 5.0, _ASK))
        yield Entry(code, None, Policy(Reaction.TRANSIENT, _POLLS, 5.0))
    yield Entry(
        "AuthFailure.SignatureExpire",
        None,
        Policy(Reaction.CLOCK, 3, 0.0, "Set this machine's clock: it is more than five minutes off."),
    )
    yield Entry(
        "AuthFailure.TokenFailure",
        None,
        Policy(Reaction.CREDENTIAL, 3, 0.0, "Log in again or renew the temporary key: its token expired."),
    )
    for code, advice in _RUN_CODES.items():
        yield Entry(code, None, Policy(Reaction.RUN, 1, 0.0, advice))
    for code, advice in _ITEM_CODES.items():
        yield Entry(code, None, Policy(Reaction.ITEM, 1, 0.0, advice))
    yield Entry("ResourceNotFound", CREATE, Policy(Reaction.ITEM, 1, 0.0, _FILE))
    yield Entry(
        "ResourceNotFound",
        None,
        Policy(Reaction.TRANSIENT, 3, 1.0, "Asked for a result, this is read as NOT_FOUND: submit again."),
    )
    yield from _answers()
    yield from _transport()


def _answers() -> Iterator[Entry]:
    """What the service said, but cannot be taken as it is."""
    yield Entry(
        "hash-mismatch",
        None,
        Policy(Reaction.ITEM, 1, 0.0, "The service speaks of other content than was asked about: report it."),
    )
    yield Entry(
        "unknown-status",
        None,
        Policy(
            Reaction.TRANSIENT, _POLLS, 30.0, "The service reports a state that this version cannot read."
        ),
    )
    yield Entry(
        "unknown-risk-level",
        None,
        Policy(Reaction.ITEM, 1, 0.0, "The service gave a judgement that this version cannot read."),
    )


def _transport() -> Iterator[Entry]:
    """What happened on the way. Nothing was sent in the first four."""
    yield Entry("connect-failed", None, Policy(Reaction.TRANSIENT, 10, 5.0, _NETWORK))
    check_proxy = "Check the setting `proxy` and its password."
    yield Entry("proxy-failed", None, Policy(Reaction.TRANSIENT, 5, 5.0, check_proxy))
    yield Entry("tls-failed", None, Policy(Reaction.TRANSIENT, 5, 5.0, _NETWORK))
    yield Entry(
        "tls-untrusted",
        None,
        Policy(
            Reaction.RUN,
            1,
            0.0,
            "Something between here and the endpoint may be reading along; give its "
            "authority with the setting `ca_file` if you trust it, or install the system's CA certificates.",
        ),
    )
    yield Entry(
        "no-credentials",
        None,
        Policy(Reaction.RUN, 1, 0.0, "Check the source of the credentials with `batchscan doctor`."),
    )
    sent = Policy(
        Reaction.UNKNOWN,
        5,
        2.0,
        "Nothing to do: the service knows content by its hash, so it is safe to send again.",
    )
    read = Policy(Reaction.TRANSIENT, _POLLS, 2.0, _NETWORK)
    for code in ("timeout", "connection-lost", "bad-reply", "reply-too-large", "http-5xx"):
        yield Entry(code, CREATE, sent)
        yield Entry(code, None, read)
    yield Entry(
        "http-3xx",
        None,
        Policy(
            Reaction.RUN, 1, 0.0, "Check `--endpoint`: it redirects, and a signed request is not redirected."
        ),
    )
    yield Entry(
        "http-413", None, Policy(Reaction.ITEM, 1, 0.0, "The file is larger than the way there takes.")
    )
    yield Entry("http-429", None, Policy(Reaction.THROTTLE, _POLLS, 1.0, "Lower `--rate`."))
    check_address = "Check `--endpoint` and the setting `proxy`."
    yield Entry("http-4xx", None, Policy(Reaction.TRANSIENT, 3, 5.0, check_address))


TABLE: Final = tuple(_entries())
UNKNOWN_CODE: Final = (
    Entry("(any other code)", CREATE, Policy(Reaction.TRANSIENT, 2, 2.0, "Look the code up at the vendor.")),
    Entry("(any other code)", None, Policy(Reaction.TRANSIENT, 5, 2.0, "Look the code up at the vendor.")),
)

_INDEX = {(entry.code, entry.action): entry.policy for entry in TABLE}
_KNOWN = frozenset(entry.code for entry in TABLE)
_CODES = frozenset(entry.code for entry in _transport())

TRANSPORT: Final[Mapping[str, Policy]] = MappingProxyType(
    {code: _INDEX.get((code, CREATE)) or _INDEX[code, None] for code in sorted(_CODES)}
)
"""Outcomes of the transport, as they count for a submission: there an unknown outcome is ``unknown``."""


def known_code(code: str) -> str:
    """The code in full if the table has it, else its first segment, else ``other``: a bounded number."""
    for known in (code, code.partition(".")[0]):
        if known in _KNOWN:
            return known
    return "other"


def policy(code: str, action: str) -> Policy:
    """What to do after ``action`` failed with ``code``: the code in full, its first segment, or unknown.

    Within each, a line for the action goes before a line for all.
    """
    for key in (code, code.partition(".")[0]):
        found = _INDEX.get((key, action)) or _INDEX.get((key, None))
        if found is not None:
            return found
    return UNKNOWN_CODE[0 if action == CREATE else 1].policy


def run_policy(code: str, action: str) -> Policy:
    """The same advice, but the remedy was tried and did not help: the run has to stop."""
    return Policy(Reaction.RUN, 1, 0.0, policy(code, action).advice)


_PREAMBLE = """\
# Errors and reactions

Generated from `batchscan/api/reactions.py` by `python -m batchscan.api.reactions > docs/errors.md`;
edit the data there.

A code with a dot is looked up in full and then by the part before the first dot. Codes in CamelCase are
the vendor's, codes in kebab case say what happened on the way or what could not be read.

| reaction | meaning |
|---|---|
| throttle | the rate limit: slow down, send again |
| transient | send again later |
| clock | take the server's time, sign anew, send again; a second time in a row it is `run` |
| credential | read the credentials anew, send again; a second time in a row it is `run` |
| unknown | sent, but no usable answer: safe to send again, content is known by its hash |
| item | this file is given up, the run goes on |
| quota | ask for the account's quota: exhausted, it is `run`; else the attempts of this line |
| run | nothing more is submitted; exit code 4 |

Attempts count all calls for one file, the first included; the delay is the least wait before the next.

| code | action | reaction | attempts | delay | advice |
|---|---|---|---|---|---|
"""


def markdown() -> str:
    """The text of ``docs/errors.md``."""
    entries = (*TABLE, *UNKNOWN_CODE)
    with_action = {entry.code for entry in entries if entry.action is not None}
    lines = []
    for entry in entries:
        action = entry.action or ("other" if entry.code in with_action else "any")
        answer = entry.policy
        lines.append(
            f"| `{entry.code}` | {action} | {answer.reaction} | {answer.max_attempts} "
            f"| {answer.delay_s:g} s | {answer.advice or '-'} |\n"
        )
    return _PREAMBLE + "".join(lines)


if __name__ == "__main__":
    sys.stdout.write(markdown())
