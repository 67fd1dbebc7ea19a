"""What a run's budget did not reach, and how that is said in rows and at the end."""

from collections.abc import Callable

from batchscan.ledger.budget import Budget, Leftover
from batchscan.ledger.standing import FINISHED, Waiting
from batchscan.models import Problem, ScanState

NOT_SENT = (ScanState.ADMITTED, *FINISHED)
HELD_BACK = Problem(
    "sample", "it is to be submitted again, but not before the sample was looked at; resume the run for that"
)


async def unaffordable_in(budget: Budget | None) -> Leftover | None:
    """Count what the budget did not reach; None when it reached all there was."""
    found = None if budget is None else await budget.leftover()
    return found if found is not None and found.digests else None


async def why_unsent(budget: Budget | None) -> Callable[[Waiting], Problem | None]:
    """Tell, once a run is over, why an input of it was not sent; None where its standing says it."""
    spending = None if budget is None else await budget.spending()
    left = None if spending is None else spending.left

    def why(waited: Waiting) -> Problem | None:
        files = max(1, waited.artifact.file_count)
        if waited.standing.state in NOT_SENT and left is not None and files > left:
            return Problem("budget", f"not sent: it holds {files} files, and the budget has {left} left")
        held = budget is not None and budget.again and waited.standing.state in FINISHED
        return HELD_BACK if held else None

    return why
