"""What a person sees while clips are written: a bar on a terminal, elsewhere a line now and then."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

PLAIN_LINES = 10

Tell = Callable[[int, int], None]
"""Called with the clips done and all clips to do."""


@contextmanager
def clip_progress(console: Console) -> Iterator[Tell]:
    """Yield what shows how far a preparation or a generation is; nothing is shown before it is called.

    Args:
        console: where to show it.
    """
    if not console.is_interactive:  # a terminal without a cursor to move is none
        yield _lines(console)
        return
    columns = (TextColumn("clips"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        yield _bar(bar)


def _bar(progress: Progress) -> Tell:
    tasks: list[TaskID] = []

    def tell(done: int, total: int) -> None:
        if not tasks:
            tasks.append(progress.add_task("", total=total))
        progress.update(tasks[0], completed=done)

    return tell


def _lines(console: Console) -> Tell:
    """Return what prints a line at every tenth, but none at the end: what was done is said there."""
    started, shown = time.monotonic(), 0

    def tell(done: int, total: int) -> None:
        nonlocal shown
        tenth = done * PLAIN_LINES // max(total, 1)
        if shown < tenth and done < total:
            shown = tenth
            gone = time.monotonic() - started
            left = timedelta(seconds=int(gone / done * (total - done)))
            line = f"{done} of {total} clips, {timedelta(seconds=int(gone))} gone, about {left} left"
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    return tell
