"""What a person sees while a command works: stages, bars and small tables on stderr; stdout is the result's."""
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (BarColumn, DownloadColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn,
                           TimeElapsedColumn, TimeRemainingColumn, TransferSpeedColumn)
from rich.table import Table

if TYPE_CHECKING:
    from .driver import Totals

__all__ = ["Screen", "result", "speed_table", "write"]


class Screen:
    """The person's side of a command. Where stderr is no terminal: one line for each stage, and no bars."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

    def warn(self, text: str) -> None:
        """What a person should know, and the command goes on."""
        self.say(f"warning: {text}")

    def echo(self, text: str) -> None:
        """What the result continues; for a person only."""
        if self.console.is_terminal:
            self.console.print(text, style="dim", end="", markup=False)

    @contextlib.contextmanager
    def stage(self, text: str) -> Iterator[None]:
        """Something that takes a while and cannot say how far it is."""
        if self.console.is_terminal:
            with Progress(SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn(),
                          console=self.console, transient=True) as progress:
                progress.add_task(text, total=None)
                start = time.monotonic()
                yield
            if time.monotonic() - start >= 2:
                self.say(f"{text}: {time.monotonic() - start:.0f} s")
        else:
            self.say(text)
            yield

    @contextlib.contextmanager
    def bar(self, text: str) -> Iterator[Callable[[int, int], None]]:
        """Yields a function of (done, all)."""
        if self.console.is_terminal:
            with Progress(TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
                          TimeElapsedColumn(), console=self.console, transient=True) as progress:
                task = progress.add_task(text, total=None)
                yield lambda done, total: progress.update(task, completed=done, total=total)
        else:
            self.say(text)
            yield lambda done, total: None

    @contextlib.contextmanager
    def transfer(self, text: str) -> Iterator[Callable[[int, int], None]]:
        """Yields a function of (bytes done, bytes of all): how fast, and how long yet. Where there is no terminal a
        line for each tenth."""
        if self.console.is_terminal:
            with Progress(TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(),
                          TransferSpeedColumn(), TimeRemainingColumn(), console=self.console,
                          transient=True) as progress:
                task = progress.add_task(text, total=None)
                yield lambda done, total: progress.update(task, completed=done, total=total)
            return
        began, said = time.monotonic(), 0

        def tell(done, total):
            nonlocal said
            if 10 * done // total > said:
                said = 10 * done // total
                seconds = max(1e-3, time.monotonic() - began)
                self.say(f"{text}: {10 * said} % of {total:,} bytes, {done / seconds:,.0f} bytes/s, "
                         f"{seconds * (total - done) / done:,.0f} s left")
        yield tell

    def table(self, table: Table) -> None:
        _print(self.console, table)


def write(text: str) -> None:
    """A piece of the result, at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def result(table: Table) -> None:
    """A table that is a command's result."""
    _print(Console(highlight=False, soft_wrap=True), table)


def _print(console, table):
    """As wide as the table is: what does not fit into $COLUMNS would be left out."""
    wide = Console(stderr=console.stderr, quiet=console.quiet, highlight=False, soft_wrap=True)
    wide.width = max(console.width, wide.measure(table, options=wide.options.update(width=1000)).maximum)
    wide.print(table)


def speed_table(columns: Mapping[str, "Totals"], clock: float) -> Table:
    """Counters of a run (label -> `Totals`) as a table; ``clock`` in MHz."""
    table = Table("", *columns, box=None, header_style="bold", padding=(0, 2))
    for column in table.columns[1:]:
        column.justify = "right"

    def row(label, value, form):
        table.add_row(label, *(form(value(t)) if t.tokens and t.counters.get("cycles") else "-"
                               for t in columns.values()))

    table.add_row("tokens", *(f"{t.tokens:,}" for t in columns.values()))
    row("passes", lambda t: t.passes, "{:,}".format)
    row("cycles per token", lambda t: t.counters["cycles"] / t.tokens, "{:,.0f}".format)
    row("MAC utilization", lambda t: t.counters["mac_busy"] / t.counters["cycles"], "{:.1%}".format)
    row(f"tokens/s at {clock:g} MHz, projected", lambda t: clock * 1e6 * t.tokens / t.counters["cycles"],
        "{:,.0f}".format)
    return table
