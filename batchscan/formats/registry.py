"""The formats there are, by the name that ``--format`` takes. A format is imported when it is asked for."""

from importlib import import_module

import msgspec

from batchscan.errors import UsageError
from batchscan.formats.entry import Opener


class Format(msgspec.Struct, frozen=True):
    """A format: the module that writes it, the suffix of its files, what for, and the extra it needs.

    ``looks_back``: it also tells of the runs before, see ``Context.run``.
    """

    module: str
    suffix: str
    purpose: str
    extra: str | None = None
    looks_back: bool = False

    def opener(self) -> Opener:
        """Load the format.

        Raises:
            UsageError: it needs a package that is not installed.
        """
        try:
            opener: Opener = import_module(f"batchscan.formats.{self.module}").open_writer
        except ModuleNotFoundError as error:
            if self.extra is None:
                raise
            raise UsageError(
                f"--format {self.module}: needs {error.name}, which is not installed; install it with"
                f" `pip install 'batchscan[{self.extra}]'`"
            ) from error
        return opener


FORMATS = {
    "csv": Format("csv_table", ".csv", "spreadsheets"),
    "defectdojo": Format("defectdojo", ".defectdojo.json", "DefectDojo's generic findings import"),
    "html": Format("html_page", ".html", "a page that a person opens", looks_back=True),
    "junit": Format("junit", ".junit.xml", "whatever shows test results"),
    "markdown": Format("markdown", ".md", "a comment in a pull request or a chat"),
    "ocsf": Format("ocsf", ".ocsf.jsonl", "a SIEM or data lake"),
    "parquet": Format("parquet", ".parquet", "warehouses and data frames", extra="parquet"),
    "sarif": Format("sarif", ".sarif", "code scanning"),
}


def find_format(name: str) -> Format:
    """Look a format up.

    Raises:
        UsageError: there is none of this name.
    """
    found = FORMATS.get(name)
    if found is None:
        raise UsageError(f"--format: {name!r} is none of {', '.join(sorted(FORMATS))}")
    return found
