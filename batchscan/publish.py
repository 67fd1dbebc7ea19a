"""A report in other formats: one pass counts, a second one writes all documents; no list of rows is held.

A document appears under its name when it is whole, or not at all.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from batchscan.errors import UsageError
from batchscan.formats.entry import Context, Entry, RunFacts
from batchscan.formats.registry import find_format
from batchscan.models import Row
from batchscan.report.gaps import find_gaps
from batchscan.report.lines import read_rows
from batchscan.report.replaced import refuse_overwriting, replaced
from batchscan.report.survey import Survey
from batchscan.suppressions import Audit, Suppression

Suppressor = Callable[[Row], Suppression | None]


class Document(msgspec.Struct, frozen=True):
    """A format by name, and the file it goes to; None is standard output."""

    format: str
    file: Path | None


def name_documents(formats: Sequence[str], outputs: Sequence[Path], stem: str) -> list[Document]:
    """Tell which format goes where: each to its own output, or all into one directory.

    Raises:
        UsageError: formats and outputs do not fit together.
    """
    known = [find_format(name) for name in formats]
    for form in known:
        form.opener()  # what it needs and is not installed is missed before a long report is read
    if len(set(formats)) < len(formats):
        raise UsageError("--format: one was given twice")
    if not outputs and len(formats) == 1:
        return [Document(formats[0], None)]
    if len(outputs) == 1 and (outputs[0].is_dir()):
        return [
            Document(name, outputs[0] / f"{stem}{form.suffix}")
            for name, form in zip(formats, known, strict=True)
        ]
    if len(outputs) != len(formats):
        raise UsageError(
            f"{len(formats)} formats and {len(outputs)} outputs: give --output once for each --format, in"
            " the same order, or once with a directory that exists"
        )
    if len(set(map(os.path.realpath, outputs))) < len(outputs):
        raise UsageError("--output: one file was named for two formats; give each its own")
    return [Document(name, output) for name, output in zip(formats, outputs, strict=True)]


def survey(report: Path, suppressor: Suppressor, seen: Callable[[Row], None] = lambda _: None) -> Survey:
    """Count a report; ``seen`` is shown each row.

    Raises:
        BatchscanError: it cannot be read, or is none.
    """
    found = Survey()
    for row in read_rows(report):
        found.add(row, suppressed=suppressor(row) is not None)
        seen(row)
    return found


def publish(  # noqa: PLR0913 - each is one thing that is known of the report
    report: Path,
    documents: Sequence[Document],
    found: Survey,
    suppressor: Suppressor,
    *,
    state: str | None,
    summary: str | None = None,
    audit: Audit | None = None,
    run: RunFacts | None = None,
) -> None:
    """Write the documents; ``state`` and ``summary`` are what the ledger knows of the report's run.

    Raises:
        BatchscanError: the report cannot be read, or a document not be written.
    """
    for document in documents:
        if document.file is not None:
            refuse_overwriting(document.file, report)
    context = Context(
        survey=found,
        name=report.name,
        made_at=datetime.now(UTC),
        state=state,
        gaps=find_gaps(summary, found.tally.inputs),
        audit=audit,
        run=run,
    )
    openers = [find_format(document.format).opener() for document in documents]
    with ExitStack() as stack:
        files = [stack.enter_context(_opened(document.file)) for document in documents]
        writers = [opener(file, context) for opener, file in zip(openers, files, strict=True)]
        for row in read_rows(report):
            entry = Entry(row, suppressor(row))
            for writer in writers:
                writer.add(entry)
        for writer in writers:
            writer.finish()


def write_document(
    report: Path,
    name: str,
    file: BinaryIO,
    *,
    state: str | None,
    summary: str | None = None,
    run: RunFacts | None = None,
) -> None:
    """Write one format of a report to an open file; blocks. The rest is as for ``publish``.

    Raises:
        BatchscanError: the report cannot be read, or the format not be written.
    """
    opener = find_format(name).opener()
    found = survey(report, lambda _: None)
    context = Context(
        survey=found,
        name=report.name,
        made_at=datetime.now(UTC),
        state=state,
        gaps=find_gaps(summary, found.tally.inputs),
        run=run,
    )
    writer = opener(file, context)
    for row in read_rows(report):
        writer.add(Entry(row))
    writer.finish()


@contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO]:
    """Open what takes the place of ``path`` once it is whole; None is standard output."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with replaced(path) as file:
        yield file
