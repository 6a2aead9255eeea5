import time

import pytest

from privoxel.executor import Executor, Job
from privoxel.terminal import Bars


@pytest.fixture
def later(monkeypatch):
    """A job that takes so many seconds, of a clock that only such jobs move."""
    now = [0.0]
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def job(seconds):
        now[0] += seconds

    return job


def shown(job, seconds, capsys):
    Executor().run([Job(name, job, (seconds,)) for name in "abcd"], progress=Bars(), title="shadows")
    return capsys.readouterr().err.splitlines()


def test_where_there_is_no_terminal_a_line_says_how_far_jobs_are(later, capsys):
    *lines, bar = shown(later, 3600.0, capsys)
    left = ("about 3.0 h left", "about 2.0 h left", "about 60 min left")
    assert lines == [f"shadows: {k} of 4, {text}" for k, text in enumerate(left, 1)]
    assert "100 %" in bar


def test_where_there_is_no_terminal_short_jobs_leave_the_one_line_of_the_bar(later, capsys):
    assert len(shown(later, 1.0, capsys)) == 1


def test_on_a_terminal_nothing_stands_beside_the_bar(later, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not any(": 1 of 4" in line for line in shown(later, 3600.0, capsys))
