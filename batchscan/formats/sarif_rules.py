"""The rules of a SARIF file: those that hit in the report, once for each level, and two of our own.

GitHub takes a rule's severity for each alert of that rule, and the same rule makes one skill malicious and
another suspicious. So a rule has two ids there: ``90005`` and ``90005/suspicious``. That also reopens an
alert that somebody dismissed while it was suspicious when the skill becomes malicious.
"""

from typing import Any, Final

from batchscan.formats.finding import shown
from batchscan.models import RiskLevel, Row
from batchscan.report.survey import Survey

UNNAMED: Final = "unnamed"
"""The rule of a finding for which the engine named none, or none that could be listed."""

INCOMPLETE: Final = "incomplete"
"""The rule of the one result that says that inputs have no verdict."""

SUSPICIOUS_SUFFIX: Final = "/suspicious"

_ID_LIMIT, _NAME_LIMIT = 200, 200
_SEVERITY = {RiskLevel.MALICIOUS: "9.5", RiskLevel.SUSPICIOUS: "5.5"}  # critical, medium
_LEVEL = {RiskLevel.MALICIOUS: "error", RiskLevel.SUSPICIOUS: "warning"}
_MEANING = {
    RiskLevel.MALICIOUS: "The service judged skills malicious, and this rule hit in them.",
    RiskLevel.SUSPICIOUS: "The service judged skills suspicious, and this rule hit in them. It did not call"
    " them malicious: somebody has to look.",
}
_HELP = (
    "{meaning} An alert stands for a whole skill archive and shows the rule that weighed most; its message"
    " says what was found, and `batchscan explain FILE` all that is known of the file. Keep the skill from"
    " being installed until somebody has looked at it, in a machine that may be lost. If it is accepted, add"
    " a suppression with a reason and an end: it holds for this content only. The alert closes when the file"
    " is gone, is changed, or gets another verdict."
)
_INCOMPLETE_HELP = (
    "Inputs of the scan have no verdict: they were rejected before submission, they failed, or the service"
    " has not answered yet. Nothing is known of them, so an alert that closed with this upload may be one of"
    " them. `batchscan resume` goes on with the run; the report says why for each input."
)


class RuleTable:
    """Knows the SARIF id of each rule and its place in the list."""

    def __init__(self, survey: Survey) -> None:
        self._descriptors: list[dict[str, Any]] = []
        self._places: dict[str, int] = {}
        self._ids: dict[str, str] = {}
        self._add(INCOMPLETE, describe(INCOMPLETE, "Scan incomplete", _INCOMPLETE_HELP, "error"))
        for level in _LEVEL:
            if level is RiskLevel.MALICIOUS or survey.tally.verdicts[level]:
                self._add_rule(UNNAMED, "Finding without a named rule", level)
        for rule in sorted(survey.rules):
            rule_id = shown(rule, _ID_LIMIT)
            if not rule_id.strip() or rule_id in self._places:
                continue  # its findings are listed as unnamed
            self._ids[rule] = rule_id
            name = shown(survey.rule_names.get(rule) or f"Rule {rule_id}", _NAME_LIMIT)
            for level in _LEVEL:
                if level is RiskLevel.MALICIOUS or survey.tally.verdicts[level]:
                    self._add_rule(rule_id, name, level)

    def find(self, row: Row) -> tuple[str, int]:
        """Give id and place of the rule of a finding."""
        rule_id = self._ids.get(row.primary_rule or "", UNNAMED)
        return self.place(rule_id + SUSPICIOUS_SUFFIX if row.verdict is RiskLevel.SUSPICIOUS else rule_id)

    def place(self, rule_id: str) -> tuple[str, int]:
        """Give id and place of a rule that is in the list."""
        return rule_id, self._places[rule_id]

    def descriptors(self) -> list[dict[str, Any]]:
        """List the rules as SARIF has them."""
        return self._descriptors

    def _add_rule(self, rule_id: str, name: str, level: RiskLevel) -> None:
        full_id = rule_id + SUSPICIOUS_SUFFIX if level is RiskLevel.SUSPICIOUS else rule_id
        title = f"{name} (suspicious)" if level is RiskLevel.SUSPICIOUS else name
        descriptor = describe(full_id, title, _HELP.format(meaning=_MEANING[level]), _LEVEL[level])
        descriptor["fullDescription"] = {"text": f"{title}. {_MEANING[level]}"}
        descriptor["properties"] = {
            "tags": ["security", "agent-skill", level.value],
            "security-severity": _SEVERITY[level],
        }
        self._add(full_id, descriptor)

    def _add(self, rule_id: str, descriptor: dict[str, Any]) -> None:
        self._places[rule_id] = len(self._descriptors)
        self._descriptors.append(descriptor)


def describe(rule_id: str, title: str, text: str, level: str) -> dict[str, Any]:
    """Describe a rule, or a kind of notification, with all that GitHub asks for."""
    return {
        "id": rule_id,
        "shortDescription": {"text": title},
        "fullDescription": {"text": title},
        "help": {"text": text},
        "defaultConfiguration": {"level": level},
    }
