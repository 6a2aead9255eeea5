"""How long jobs that run beside each other will still take."""

import math


def seconds_left(
    done: int, jobs: int, at_once: int, elapsed: float, expected: float | None = None
) -> float | None:
    """Return the seconds until ``jobs`` equal jobs have ended, ``at_once`` at a time, ``done`` of them now.

    They end in waves: with w waves over after t seconds each takes t/w. Before the first has ended a job is
    taken to last as long as ``expected`` (seconds); None if nobody knows.

    >>> seconds_left(1, 8, 8, 60.0)  # the other seven are about to end too
    0.0
    >>> seconds_left(1, 8, 2, 60.0)
    180.0
    """
    waves = math.ceil(jobs / at_once)
    a_job = elapsed / math.ceil(done / at_once) if done else expected
    return None if a_job is None else max(a_job * waves - elapsed, 0.0)
