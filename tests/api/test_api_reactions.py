"""The table of reactions: lookups, and that the document says what the code does."""

from pathlib import Path

import pytest

from batchscan.api import reactions
from batchscan.api.reactions import CREATE, PAY_INFO, RESULT, TABLE, TRANSPORT, policy, run_policy
from batchscan.errors import Reaction

DOCUMENT = Path(__file__).parents[2] / "docs" / "errors.md"


def test_document_is_generated_from_the_table() -> None:
    assert DOCUMENT.read_text("utf-8") == reactions.markdown()


def test_no_line_is_given_twice() -> None:
    keys = [(entry.code, entry.action) for entry in TABLE]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("code", "action", "reaction"),
    [
        ("RequestLimitExceeded", CREATE, Reaction.THROTTLE),
        ("RequestLimitExceeded.IPLimitExceeded", RESULT, Reaction.THROTTLE),
        ("InternalError.Db", CREATE, Reaction.TRANSIENT),
        ("ServiceUnavailable", CREATE, Reaction.TRANSIENT),
        ("ResourceUnavailable", CREATE, Reaction.QUOTA),
        ("ResourceUnavailable", RESULT, Reaction.TRANSIENT),
        ("LimitExceeded.AreaQuota", CREATE, Reaction.QUOTA),
        ("FailedOperation", RESULT, Reaction.TRANSIENT),
        ("AuthFailure.SignatureExpire", CREATE, Reaction.CLOCK),
        ("AuthFailure.TokenFailure", RESULT, Reaction.CREDENTIAL),
        ("AuthFailure.SecretIdNotFound", PAY_INFO, Reaction.RUN),
        ("AuthFailure", CREATE, Reaction.RUN),
        ("AuthFailure.SomethingNew", CREATE, Reaction.RUN),
        ("UnauthorizedOperation.NoPermission", CREATE, Reaction.RUN),
        ("IpNotInWhitelist", CREATE, Reaction.RUN),
        ("InvalidParameterValue.FileBase64", CREATE, Reaction.ITEM),
        ("UnknownParameter", CREATE, Reaction.ITEM),
        ("RequestSizeLimitExceeded", CREATE, Reaction.ITEM),
        ("ResourceNotFound", CREATE, Reaction.ITEM),
        ("InvalidAction", CREATE, Reaction.RUN),
        ("DryRunOperation", CREATE, Reaction.RUN),
        ("NeverHeardOf.It", CREATE, Reaction.TRANSIENT),
        ("timeout", CREATE, Reaction.UNKNOWN),
        ("timeout", RESULT, Reaction.TRANSIENT),
        ("connection-lost", CREATE, Reaction.UNKNOWN),
        ("connect-failed", CREATE, Reaction.TRANSIENT),
        ("tls-untrusted", CREATE, Reaction.RUN),
        ("http-413", CREATE, Reaction.ITEM),
        ("http-5xx", CREATE, Reaction.UNKNOWN),
        ("http-5xx", PAY_INFO, Reaction.TRANSIENT),
    ],
)
def test_reaction(code: str, action: str, reaction: Reaction) -> None:
    assert policy(code, action).reaction is reaction


def test_every_policy_has_limits_and_final_ones_say_what_to_do() -> None:
    for entry in TABLE:
        assert 1 <= entry.policy.max_attempts <= 100
        assert 0 <= entry.policy.delay_s <= 60
        if entry.policy.reaction in {Reaction.RUN, Reaction.ITEM, Reaction.QUOTA}:
            assert entry.policy.advice


def test_unknown_codes_are_given_up_sooner_for_a_submission() -> None:
    assert policy("Brand.New", CREATE).max_attempts == 2
    assert policy("Brand.New", RESULT).max_attempts == 5


def test_transport_is_what_a_submission_gets() -> None:
    assert TRANSPORT["timeout"] == policy("timeout", CREATE)
    assert {"connect-failed", "connection-lost", "bad-reply", "http-3xx", "tls-failed"} <= TRANSPORT.keys()
    assert "InternalError" not in TRANSPORT


def test_run_policy_keeps_the_advice() -> None:
    final = run_policy("AuthFailure.TokenFailure", CREATE)
    assert final.reaction is Reaction.RUN
    assert final.advice == policy("AuthFailure.TokenFailure", CREATE).advice != ""
