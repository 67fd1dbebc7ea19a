"""The part of a summary that is about money and second judgements: budget, flips, new engines."""

from collections.abc import Iterator

import msgspec

from batchscan.models import RiskLevel


class BudgetUse(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run's budget was used, in files; a ZIP's files are what is billed.

    Attributes:
        allowance: what the run may bill; None when only the day is limited.
        spent: billed.
        reserved: sent, and not judged yet.
        left: what may still be sent.
        unaffordable_inputs: distinct contents that were not sent for it.
        unaffordable_files: files inside them.
    """

    allowance: int | None
    spent: int
    reserved: int
    left: int
    unaffordable_inputs: int = 0
    unaffordable_files: int = 0


class Flip(msgspec.Struct, frozen=True, kw_only=True):
    """How many contents had one verdict and were given another, or the same; None: there was none."""

    before: RiskLevel | None
    after: RiskLevel
    count: int


class Rescan(msgspec.Struct, frozen=True, kw_only=True):
    """What became of contents that were submitted again.

    Attributes:
        selection: what was asked for.
        judged: contents with a new verdict.
        flipped: of those, the ones whose verdict is another than before.
        verdicts: all of them by both verdicts.
        held: contents that wait until the sample was looked at.
    """

    selection: str
    judged: int
    flipped: int
    verdicts: tuple[Flip, ...]
    held: int = 0


def spending_lines(
    budget: BudgetUse | None, rescan: Rescan | None, engines: tuple[int, ...]
) -> Iterator[str]:
    """Say it for a person, a line each; what there is nothing to say of has none."""
    if budget is not None:
        yield _budget(budget)
    if rescan is not None:
        yield _flips(rescan)
    if engines:
        named = ", ".join(str(version) for version in engines)
        yield f"new engine: {named}; `batchscan rescan --engine-before` submits older verdicts again"


def _budget(use: BudgetUse) -> str:
    of = "the day's" if use.allowance is None else f"{use.allowance:,}"
    text = f"budget: {use.spent:,} of {of} spent, {use.reserved:,} reserved, {use.left:,} left"
    if use.unaffordable_inputs:
        text += f"; not sent for it: {use.unaffordable_inputs:,} skills with {use.unaffordable_files:,} files"
    return text


def _flips(rescan: Rescan) -> str:
    changes = [
        f"{flip.before or 'none'} to {flip.after} {flip.count:,}"
        for flip in rescan.verdicts
        if flip.before is not flip.after
    ]
    text = f"judged again: {rescan.judged:,}; verdicts that changed: {rescan.flipped:,}"
    text += f" ({', '.join(changes)})" if changes else ""
    return text + (f"; held back until the sample was looked at: {rescan.held:,}" if rescan.held else "")
