"""Faults to inject, for tests and runbook exercises, from one line of text.

``RULE,RULE,...[,seed=N]`` where ``RULE`` is ``TARGET:FAULT[=VALUE][*COUNT][@PROBABILITY]``, for example
``Create:InternalError@0.2,Result:http-503@0.1,*:delay=2.5@0.1,Judge:failed*2,seed=7``.

Targets: ``Create``, ``Result``, ``PayInfo``, ``TaskList``, ``*`` (every request) and ``Judge`` (the scan
itself). ``*COUNT`` lets a rule fire that many times at most; for ``Judge`` it means the first COUNT
attempts of each scan. Without ``@`` a rule always fires. Each rule draws from its own random numbers,
seeded by ``seed`` and the rule, so the same order of requests meets the same faults.

| fault | effect |
|---|---|
| ``InternalError`` or any other code | refused with this code, not processed |
| ``http-503``, ``http-503-json`` | this status with an HTML page or the error envelope, not processed |
| ``delay=SECONDS`` | waits first; with ``Judge``: the scan takes longer |
| ``skew=SECONDS`` | the server's clock is off by this, also in ``Date`` |
| ``reset-before``, ``reset-after`` | connection reset before or after processing |
| ``truncate`` | processed, half of the answer, then closed |
| ``content-type=TYPE`` | processed, answered with this type (default ``text/html``) |
| ``bad-json``, ``no-response`` | processed, answered with broken JSON or without ``Response`` |
| ``huge=MIB`` | processed, answered with a body of this size (default 64) |
| ``wrong-hash`` | Create: another ``ContentHash`` in the answer |
| ``failed``, ``not-found`` | Result: this state in the answer only; ``Judge:failed``: the scan fails |
"""

import random
import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import TypeVar

import msgspec

N = TypeVar("N", int, float)


class Target(StrEnum):
    """What a rule applies to."""

    CREATE = "Create"
    RESULT = "Result"
    PAY_INFO = "PayInfo"
    TASK_LIST = "TaskList"
    JUDGE = "Judge"
    ANY = "*"


class Kind(StrEnum):
    """What goes wrong. ``code`` and ``http`` carry their detail in the fault."""

    CODE = "code"
    HTTP = "http"
    HTTP_JSON = "http-json"
    DELAY = "delay"
    SKEW = "skew"
    RESET_BEFORE = "reset-before"
    RESET_AFTER = "reset-after"
    TRUNCATE = "truncate"
    CONTENT_TYPE = "content-type"
    BAD_JSON = "bad-json"
    NO_RESPONSE = "no-response"
    HUGE = "huge"
    WRONG_HASH = "wrong-hash"
    FAILED = "failed"
    NOT_FOUND = "not-found"


_RULE = re.compile(
    r"(?P<target>[A-Za-z]+|\*):(?P<name>[A-Za-z][A-Za-z0-9.-]*)(?:=(?P<value>[^@*]+))?"
    r"(?:\*(?P<count>\d+))?(?:@(?P<probability>[0-9.]+))?"
)
_CODE = re.compile(r"[A-Z][A-Za-z]*(?:\.[A-Z][A-Za-z]*)*")
_HTTP = re.compile(r"http-(?P<status>[1-9]\d\d)(?P<json>-json)?")
_NUMERIC = {Kind.DELAY: None, Kind.SKEW: None, Kind.HUGE: 64.0}  # default; None: a value is required
_TEXTUAL = {Kind.CONTENT_TYPE: "text/html"}
_DETAILED = {Kind.CODE, Kind.HTTP, Kind.HTTP_JSON}
_ONLY = {
    Kind.WRONG_HASH: {Target.CREATE},
    Kind.NOT_FOUND: {Target.RESULT},
    Kind.FAILED: {Target.RESULT, Target.JUDGE},
}
_JUDGE_KINDS = {Kind.FAILED, Kind.DELAY}
_MIN_STATUS, _MAX_STATUS = 300, 599  # 200 is no fault, and 1xx is no answer
_MAX_SECONDS = 86_400.0
_MAX_MIB = 1024.0


class Fault(msgspec.Struct, frozen=True):
    """One thing to do wrong.

    Attributes:
        kind: what.
        text: the code, or the content type.
        number: seconds, MiB, or the HTTP status.
    """

    kind: Kind
    text: str = ""
    number: float = 0.0


class DrillRule(msgspec.Struct, frozen=True):
    """When to do it. ``count`` None: no limit."""

    target: Target
    fault: Fault
    probability: float = 1.0
    count: int | None = None


class Drill(msgspec.Struct, frozen=True):
    """All rules, in the order given."""

    rules: tuple[DrillRule, ...]
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> "Drill":
        """Read the text form.

        Raises:
            ValueError: names the rule that is wrong and what would be right.
        """
        rules, seed = [], 0
        for part in (part.strip() for part in text.split(",")):
            if not part:
                raise ValueError(
                    f"drill {text!r}: empty rule; write TARGET:FAULT, separated by single commas"
                )
            if part.startswith("seed="):
                seed = _number(part, part.removeprefix("seed="), int)
            else:
                rules.append(_rule(part))
        return cls(tuple(rules), seed)


def _rule(text: str) -> DrillRule:
    match = _RULE.fullmatch(text)
    if match is None:
        raise ValueError(f"drill rule {text!r}: expected TARGET:FAULT[=VALUE][*COUNT][@PROBABILITY]")
    if match["target"] not in tuple(Target):
        raise ValueError(
            f"drill rule {text!r}: unknown target {match['target']!r}; known: {', '.join(Target)}"
        )
    target = Target(match["target"])
    fault = _fault(text, match["name"], match["value"])
    if target not in _ONLY.get(fault.kind, {target}):
        raise ValueError(
            f"drill rule {text!r}: {fault.kind} fits only {', '.join(sorted(_ONLY[fault.kind]))}"
        )
    if target is Target.JUDGE and fault.kind not in _JUDGE_KINDS:
        raise ValueError(f"drill rule {text!r}: Judge knows only {', '.join(sorted(_JUDGE_KINDS))}")
    probability = 1.0 if match["probability"] is None else _number(text, match["probability"], float)
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"drill rule {text!r}: the probability must be between 0 and 1")
    return DrillRule(target, fault, probability, None if match["count"] is None else int(match["count"]))


def _fault(rule: str, name: str, value: str | None) -> Fault:
    http = _HTTP.fullmatch(name)
    if (http or _CODE.fullmatch(name)) and value is not None:
        raise ValueError(f"drill rule {rule!r}: {name} takes no value")
    if http:
        status = int(http["status"])
        if not _MIN_STATUS <= status <= _MAX_STATUS:
            raise ValueError(f"drill rule {rule!r}: the status must be {_MIN_STATUS} to {_MAX_STATUS}")
        return Fault(Kind.HTTP_JSON if http["json"] else Kind.HTTP, number=status)
    if _CODE.fullmatch(name):
        return Fault(Kind.CODE, text=name)
    known = sorted(set(Kind) - _DETAILED)
    if name not in known:
        raise ValueError(
            f"drill rule {rule!r}: unknown fault {name!r}; known: {', '.join(known)}, http-NNN, codes"
        )
    kind = Kind(name)
    if kind in _NUMERIC:
        return Fault(kind, number=_amount(rule, kind, value))
    if kind in _TEXTUAL:
        text = value or _TEXTUAL[kind]
        if not text.isprintable():
            raise ValueError(f"drill rule {rule!r}: a header cannot hold control characters")
        return Fault(kind, text=text)
    if value is not None:
        raise ValueError(f"drill rule {rule!r}: {kind} takes no value")
    return Fault(kind)


def _amount(rule: str, kind: Kind, value: str | None) -> float:
    default = _NUMERIC[kind]
    if value is None and default is None:
        raise ValueError(f"drill rule {rule!r}: {kind} needs a value, {kind}=NUMBER")
    amount = default if value is None else _number(rule, value, float)
    assert amount is not None  # noqa: S101 - tells mypy what the first check has settled
    limit = _MAX_MIB if kind is Kind.HUGE else _MAX_SECONDS
    low = -limit if kind is Kind.SKEW else 0.0
    if not low <= amount <= limit:
        raise ValueError(f"drill rule {rule!r}: the value must be between {low:g} and {limit:g}")
    return amount


def _number(rule: str, text: str, kind: Callable[[str], N]) -> N:
    try:
        return kind(text)
    except ValueError as error:
        raise ValueError(f"drill rule {rule!r}: {text!r} is not a number") from error


class DrillDice:
    """Draws the faults of one engine; not shared between engines."""

    def __init__(self, drill: Drill | None) -> None:
        self._rules = drill.rules if drill else ()
        seed = drill.seed if drill else 0
        self._random = [
            random.Random(f"{seed}/{index}/{rule}")  # noqa: S311 - repeatable on purpose, no secret
            for index, rule in enumerate(self._rules)
        ]
        self._fired = [0] * len(self._rules)

    def request(self, target: Target | None) -> tuple[Fault, ...]:
        """The faults of the next request; ``target`` None: an action that does not exist."""
        return tuple(self._draw({target, Target.ANY}))

    def judgement(self, attempt: int) -> tuple[Fault, ...]:
        """The faults of one scan's attempt, counted from 1."""
        return tuple(self._draw({Target.JUDGE}, attempt))

    def _draw(self, targets: set[Target | None], attempt: int | None = None) -> Iterator[Fault]:
        for index, rule in enumerate(self._rules):
            if rule.target not in targets:
                continue
            used = self._fired[index] if attempt is None else attempt - 1
            if rule.count is not None and used >= rule.count:
                continue
            if self._random[index].random() < rule.probability:
                self._fired[index] += 1
                yield rule.fault
