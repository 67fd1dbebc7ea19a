"""The file of a policy: TOML, checked whole, so that all that is wrong with it is told at once."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from batchscan.decisions.policy import PERILOUS, Action, Policy
from batchscan.errors import UsageError
from batchscan.toml_document import Purpose, read_toml, unknown_key

_PURPOSE: Final = Purpose("a policy", "--policy")
_HIGHEST_SCORE: Final = 100
_LONGEST_GRACE_DAYS: Final = 90
_LARGEST_ENGINE: Final = 2**63
_NO_TABLE: Final = "not a table; write [{}]"

TABLES: Final[Mapping[str, Mapping[str, str]]] = {
    "verdicts": {
        name: name
        for name in ("malicious", "suspicious", "benign", "unknown", "pending", "suppressed", "may_allow")
    },
    "score": {"block_below": "block_below", "warn_below": "warn_below"},
    "rules": {"block": "rules_block", "warn": "rules_warn", "allow": "rules_allow"},
    "judges": {name: name for name in ("endpoints", "embedded_may_allow", "minimum_engine")},
    "grace": {"days": "grace_days"},
}
"""Tables and keys of the file, and the fields of the policy that they set."""


def read_policy(path: Path | None) -> Policy:
    """Read a policy; None is the default one.

    Raises:
        UsageError: it cannot be read, or something in it is wrong; all of that is told.
    """
    if path is None:
        return Policy()
    document = read_toml(path, _PURPOSE)
    problems = list(_wrong(document))
    if not problems:
        policy = Policy(**_fields(document))
        problems = list(_contradictions(policy))
    if problems:
        raise UsageError("\n".join(f"{path}: {problem}" for problem in problems))
    return policy


def show_policy(policy: Policy) -> str:
    """Write a policy as a file that says all of it; reading it gives the same policy."""
    lines = [f"# fingerprint {policy.fingerprint()}"]
    for table, keys in TABLES.items():
        lines += ["", f"[{table}]"]
        lines += [f"{key} = {_toml(getattr(policy, field))}" for key, field in keys.items()]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        pairs = ", ".join(f"{_toml(key)} = {number}" for key, number in sorted(value.items()))
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, frozenset):
        return f"[{', '.join(map(_toml, sorted(value)))}]"
    # numbers, truth and texts are written alike, but for what JSON puts into pairs, or does not escape
    text = json.dumps(value, ensure_ascii=False)
    plain = (char if char.isascii() and char.isprintable() else f"\\U{ord(char):08x}" for char in text)
    return "".join(plain)


def _wrong(document: Mapping[str, Any]) -> Iterator[str]:
    """All that is wrong with the values by themselves."""
    for name, table in document.items():
        if name not in TABLES:
            yield f"{name}: {unknown_key(name, TABLES).replace('key', 'table', 1)}"
        elif not isinstance(table, dict):
            yield f"{name}: {_NO_TABLE.format(name)}"
        else:
            for key, value in table.items():
                known = key in TABLES[name]
                fault = _fault(TABLES[name][key], value) if known else unknown_key(key, TABLES[name])
                if fault is not None:
                    yield f"{name}.{key}: {fault}"


def _fault(field: str, value: object) -> str | None:
    """What is wrong with the value of a field; its default tells of which kind it must be."""
    default = getattr(Policy(), field)
    if isinstance(default, Action):
        allowed = [action.value for action in Action if field != "suppressed" or action is not Action.BLOCK]
        return None if value in allowed else f"must be one of {', '.join(allowed)}"
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "must be true or false"
    if isinstance(default, int):
        return _number_fault(value, _LONGEST_GRACE_DAYS if field == "grace_days" else _HIGHEST_SCORE)
    if isinstance(default, dict):
        return _engine_fault(value)
    return _list_fault(value, PERILOUS if field == "may_allow" else None)


def _number_fault(value: object, most: int) -> str | None:
    sound = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most
    return None if sound else f"must be a whole number from 0 to {most}"


def _list_fault(value: object, known: tuple[str, ...] | None) -> str | None:
    if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
        return "must be a list of texts"
    if known is not None and not set(value) <= set(known):
        return f"can hold only {', '.join(known)}"
    return None


def _engine_fault(value: object) -> str | None:
    sound = isinstance(value, dict) and all(
        isinstance(number, int) and not isinstance(number, bool) and abs(number) < _LARGEST_ENGINE
        for number in value.values()
    )
    return None if sound else "must be a table of engine versions, as { intl = 20260501 }"


def _fields(document: Mapping[str, Any]) -> dict[str, Any]:
    fields = {TABLES[name][key]: value for name, table in document.items() for key, value in table.items()}
    return {name: _frozen(value) for name, value in fields.items()}


def _frozen(value: object) -> object:
    if isinstance(value, str):  # the only texts by themselves are actions
        return Action(value)
    return frozenset(value) if isinstance(value, list) else value


def _contradictions(policy: Policy) -> Iterator[str]:
    """What is wrong with the values taken together."""
    for name in PERILOUS:
        if getattr(policy, name) is Action.ALLOW and name not in policy.may_allow:
            yield (
                f'verdicts.{name}: would allow what is {name}; if that is meant, add "{name}" to'
                " verdicts.may_allow"
            )
    if 0 < policy.warn_below <= policy.block_below:
        yield "score.warn_below: has no effect, since what is below it is blocked; make it larger, or 0"
    for one, other in (("block", "warn"), ("block", "allow"), ("warn", "allow")):
        for rule in sorted(getattr(policy, f"rules_{one}") & getattr(policy, f"rules_{other}")):
            yield f"rules.{other}: {rule!r} is in rules.{one}, too; keep it in one of them"
