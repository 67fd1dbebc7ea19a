"""`batchscan report` and its machine formats, by the real program; and that the help names them all."""

from typing import get_type_hints

from batchscan import cli_reports
from batchscan.formats.registry import FORMATS


def test_the_help_names_the_formats_that_there_are() -> None:
    option = get_type_hints(cli_reports.report, include_extras=True)["formats"].__metadata__[0]
    *some, last = sorted(FORMATS)
    assert f"What to write: {', '.join(some)} or {last}." in option.help
