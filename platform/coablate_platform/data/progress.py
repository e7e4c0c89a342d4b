"""Shows the progress of writing clips: a bar on a terminal, else at most nine lines."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

PLAIN_LINES = 10

ProgressCallback = Callable[[int, int], None]
"""Called with the number of clips done and of clips to do."""


@contextmanager
def clip_progress(console: Console) -> Iterator[ProgressCallback]:
    """Yield a callback that shows progress; nothing is shown before its first call.

    Args:
        console: where to show it.
    """
    if not console.is_interactive:  # also a terminal whose cursor cannot move, which cannot show a bar
        yield _show_lines(console)
        return
    columns = (TextColumn("clips"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        yield _show_bar(bar)


def _show_bar(progress: Progress) -> ProgressCallback:
    """Return a callback that updates a bar, and adds it at the first call."""
    tasks: list[TaskID] = []

    def show(done: int, total: int) -> None:
        if not tasks:
            tasks.append(progress.add_task("", total=total))
        progress.update(tasks[0], completed=done)

    return show


def _show_lines(console: Console) -> ProgressCallback:
    """Return a callback that prints a line at every tenth, but none at the end: the caller prints a summary there."""
    started, last_tenth = time.monotonic(), 0

    def show(done: int, total: int) -> None:
        nonlocal last_tenth
        tenth = done * PLAIN_LINES // max(total, 1)
        if last_tenth < tenth and done < total:
            last_tenth = tenth
            elapsed = time.monotonic() - started
            left = timedelta(seconds=int(elapsed / done * (total - done)))
            line = f"{done} of {total} clips, {timedelta(seconds=int(elapsed))} gone, about {left} left"
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    return show
