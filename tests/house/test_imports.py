"""Imports point one way: every module has a layer, and imports only from lower ones."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "batchscan"

# From low to high. A module imports only from lines above its own; "" is the package itself.
LAYERS = (
    "errors models backoff lines outlet signals ledger.schema report.text report.console",
    "api.reading api.signature",
    "ledger.migrations allowance series stats scheduler config diagnosis spool streams logs walk archive",
    "api.endpoints api.keys api.reactions file_log service_config toml_document",
    "schedules.timetable",
    "api.exchange api.protocol api.rotation suppressions_file",
    "api.keyfiles api.roles",
    "api.metadata",
    "api.credentials",
    "api.signer",
    "api.client",
    "ledger.owners ledger.padding ledger.slots ledger.standing ledger.store",
    "ledger.chosen ledger.firsts ledger.schedules ledger.verdicts",
    "ledger.budget ledger.queries ledger.runs",
    "ledger.admission ledger.ages ledger.backlog",
    "ledger.gauges ledger.history ledger.queue ledger.verify ledger.waiting",
    "ledger.aftermaths ledger.backup ledger.pruning",
    "ledger.scans metrics",
    "report.gate report.lines report.outfile report.rows report.spending report.tally",
    "report.jsonl report.progress report.replaced report.summary report.survey",
    "suppressions advice changes pages.charts report.excerpt report.gaps",
    "pages.rendering",
    "pages.judges",
    "formats.entry",
    "formats.finding",
    "formats.csv_table formats.markdown formats.parquet formats.sarif_rules formats.shortfall formats.uris",
    "formats.page_charts formats.page_headline formats.page_rows formats.page_changes",
    "formats.defectdojo formats.html_page formats.junit formats.ocsf formats.sarif",
    "formats.registry",
    "decisions.policy",
    "decisions.policy_file decisions.ruling",
    "decisions.document",
    "decisions.grace",
    "decisions.deciding",
    "decisions.making",
    "schedules.schedule",
    "schedules.arrivals schedules.turn",
    "schedules.timekeeper",
    "settings_file",
    "settings",
    "baseline previous publish",
    "gate pairing",
    "sides",
    "compare",
    "comparison_output",
    "comparison_table",
    "budget explain expiry manifest content pacing record rescan status",
    "discover admit connect outage",
    "quota settings_table loading settlement",
    "stages",
    "pipeline plan",
    "conclusion",
    "execution",
    "session",
    "gate_options local_checks notice service.health textfile",
    "notify",
    "telling",
    "doctor",
    "commands inquiries lookback",
    "schedule_list",
    "service.events service.roots service.state service.tokens service.view.pace service.workers",
    "service.sessions",
    "service.orders service.queue service.stations",
    "service.documents service.executor",
    "service.accounts service.problems service.quota_note service.recollection",
    "service.dispatcher service.stream",
    "service.guard service.keys service.operations",
    "service.lookup_api service.openapi service.probes service.runs_api",
    "service.events_api service.reports_api service.schedules_api",
    "service.view.rendering service.view.news",
    "service.view.door service.view.lines",
    "service.view.findings service.view.overview service.view.runs",
    "service.view.schedules service.view.skills",
    "service.view.routes",
    "service.aftermath service.decisions_api service.forgetting service.watching",
    "service.timed",
    "service.app",
    "service.serve",
    "reporting revisit serving",
    "comparing enforcement",
    "options",
    "cli_compare cli_decisions cli_inquiries cli_reports cli_revisit cli_schedule cli_service",
    "cli",
    "__main__",
)

# A room on its own: what its modules may import beside each other, in any layer. The service is none: it
# stands above all others.
ROOMS = {
    "api": "errors models",
    "ledger": "errors models",
    "report": "errors models outlet stats logs",
    "schedules": "errors models config api.endpoints formats.registry ledger.chosen ledger.aftermaths"
    " ledger.queue ledger.schedules ledger.store decisions.policy_file",
    "formats": "errors models advice changes suppressions suppressions_file pages.charts "
    "pages.judges pages.rendering report.lines report.rows "
    "report.gaps report.summary report.survey report.tally report.text",
    "decisions": "errors models report.lines report.replaced report.rows suppressions toml_document",
    "pages": "errors models report.text",
    "embedded": "errors models api.signature",
}

STARTERS = {"embedded": "connect", "service": "serving"}  # rooms that only one module may know
EMBEDDED_ROOMS = (
    # the same within embedded
    "detection errors drill report_link traffic analysis.scratch analysis.names",
    "wire database analysis.signals",
    "body settings store faults upload verify",
    "analysis.invisible analysis.opaque analysis.unpack analysis.mapping",
    "quota judge analysis.static",
    "actions analysis.deep analysis.examine",
    "server analysis.worker",
    "analysis.pool",
    "detector",
)


def flat(layers: tuple[str, ...], prefix: str = "") -> dict[str, int]:
    return {prefix + name: rank for rank, names in enumerate(layers) for name in names.split()}


RANKS = flat(LAYERS) | flat(EMBEDDED_ROOMS, "embedded.")


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts).removesuffix("__init__").rstrip(".")] = path
    return found


MODULES = modules()


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield what is imported of this package, without its name, wherever in the module it is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [n if n.removeprefix("batchscan.") in MODULES else str(node.module) for n in whole]
        else:
            continue
        for name in names:
            if name == "batchscan" or name.startswith("batchscan."):
                yield name.removeprefix("batchscan").removeprefix(".")


def room(module: str) -> str:
    return module.partition(".")[0] if "." in module else ""


def wrong(module: str, target: str) -> str | None:
    """Say what is wrong with one import, if anything is."""
    if target == "":
        return None  # the version
    own, starter = room(module), STARTERS.get(room(target))
    if starter is not None and own != room(target) and module != starter:
        return f"{module} imports {target}: only {starter} may know the room {room(target)}"
    if own in ROOMS and room(target) != own and target not in ROOMS[own].split():
        return f"{module} imports {target}: {own} knows only {ROOMS[own]}"
    if not {module, target} <= RANKS.keys():
        return None  # told by the test of the layers
    if (own == "embedded") == (room(target) == "embedded") and RANKS[target] >= RANKS[module]:
        return f"{module} imports {target}, which is not below it"
    return None


def test_every_module_has_a_layer_and_every_layer_its_modules() -> None:
    real = {name for name, path in MODULES.items() if path.name != "__init__.py"}
    assert sorted(real - set(RANKS)) == [], "give the new module its layer, in this file"
    assert sorted(set(RANKS) - real) == [], "no such module any more"


@pytest.mark.parametrize("module", sorted(set(MODULES) - {""}))
def test_imports_point_down(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    found = [problem for target in imported(tree) if (problem := wrong(module, target))]
    assert found == []


def test_packages_hold_no_code() -> None:
    for module, path in MODULES.items():
        if path.name == "__init__.py":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert not any(imported(tree)), f"{module or 'batchscan'}: an import here would be in all layers"


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("models", "stats"),  # upward
        ("ledger.store", "api.signature"),  # out of its room
        ("stages", "embedded.server"),  # into the embedded endpoint
        ("embedded.judge", "pipeline"),  # out of it
        ("embedded.wire", "embedded.server"),  # upward within it
        ("admit", "discover"),  # sideways
        ("commands", "service.queue"),  # into the service
        ("service.queue", "service.app"),  # upward within it
    ],
)
def test_a_wrong_import_is_seen(module: str, target: str) -> None:
    assert wrong(module, target) is not None
