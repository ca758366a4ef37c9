"""What the stand-alone scripts print: a progress bar, a table, a verdict."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from e2e.client.chaos import Verdict

__all__ = ["Step", "bar", "show_table", "show_verdict"]

console = Console(highlight=False)
Step = Callable[[int], None]


@contextmanager
def bar(what: str, total: int) -> Iterator[Step]:
    """A progress bar; plain lines where nobody watches."""
    if not console.is_terminal:

        def plain(done: int) -> None:
            if done == total or done % max(total // 10, 1) == 0:
                console.print(f"{what}: {done}/{total}")

        yield plain
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


def show_table(title: str, rows: list[tuple[str, str]]) -> None:
    """Two columns."""
    table = Table(title=title, show_header=False)
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)


def rows_of(verdict: Verdict) -> list[tuple[str, str]]:
    """The count as rows."""
    injected = ", ".join(f"{count}× {name}" for name, count in sorted(verdict.injected.items()))
    return [
        ("faults injected", injected or "none"),
        ("events published", str(verdict.published)),
        ("calls of the plain handler", f"{verdict.plain_calls} ({verdict.repeats} repeats)"),
        ("effects of the transactional handler", "each exactly once" if not verdict.faults else "see below"),
    ]


def show_verdict(faults: list[str]) -> int:
    """The last line; the exit status."""
    for fault in faults:
        console.print(f"[red]FAULT[/] {fault}")
    console.print(
        "[red]FAILED[/]" if faults else "[green]PASSED[/]: nothing lost, nothing doubled, nothing out of order"
    )
    return 1 if faults else 0
