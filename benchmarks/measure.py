"""What the benchmarks share: measuring alternatives in turns, and the row of a table that each result becomes."""

import time
from collections.abc import Callable, Sequence


def in_turns(
    works: Sequence[Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Return the fewest seconds that each work took.

    The works take turns, round by round, after one round that warms them up: what else the machine does meets all of
    them alike, and the fastest round is the one it disturbed least.

    Args:
        works: the alternatives.
        rounds: turns that each gets.
        clock: ``time.process_time`` where every work uses one thread of this process, else wall time.
    """
    fewest = [float("inf")] * len(works)
    for number in range(rounds + 1):
        for place, work in enumerate(works):
            begin = clock()
            work()
            spent = clock() - begin
            if number:
                fewest[place] = min(fewest[place], spent)
    return fewest


def row(what: str, here: str, reference: str, ratio: float) -> None:
    """Print a row of the table ``what is measured | here | reference | how many times better``."""
    print(f"| {what} | {here} | {reference} | {ratio:.3g}× |", flush=True)
