"""Rich on a stream that may go away: the one console that this package writes to."""

from typing import TextIO

from rich.console import Console


class StreamConsole(Console):
    """A console whose broken pipe is an exception like any other.

    Rich itself would end the process with 1, which here means that ``--fail-on`` was reached.
    """

    def on_broken_pipe(self) -> None:
        """Let the ``BrokenPipeError`` that is being handled go on to the caller."""
        raise  # noqa: PLE0704 - rich calls this from its except block


def open_console(stream: TextIO) -> StreamConsole:
    """Make a console on ``stream`` that marks up and highlights nothing by itself; honours ``NO_COLOR``."""
    return StreamConsole(file=stream, markup=False, emoji=False, highlight=False)
