"""Anonymous resident memory of this process, and its peak while something runs; for the other benchmarks."""

import threading
from collections.abc import Callable
from pathlib import Path


def peak_while(run: Callable[[], object]) -> int:
    """Return the peak of anonymous memory while ``run`` runs, beyond what was there before."""
    before, peak, done = anonymous_bytes(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    return peak[0] - before


def anonymous_bytes() -> int:
    """Return the anonymous resident memory of this process."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("RssAnon"))
    return 1024 * int(line.split()[1])
