"""Time and memory of the simulated cohort: ``python benchmarks/simulation.py [--subjects N] [--repeats R]``.

Prints the median milliseconds a scan at 6, 4, 3 and 2 mm on one thread, then the growth of peak memory while
a 4 mm cohort of N participants is iterated. Volumes are never kept, so that it should not depend on N.
"""

import argparse
import os
import resource
import statistics
import time

import torch

from privoxel.cohort.simulated import SimulatorConfig, simulate_cohort

LIMITS_MS = {4.0: 30, 2.0: 200}
_KIB = 1024


def milliseconds(resolution_mm: float, repeats: int) -> float:
    """Return the median time of one scan in ms, maps and grid warm."""
    cohort = simulate_cohort(SimulatorConfig(seed=7, resolution_mm=resolution_mm), repeats + 1)
    cohort.volume(repeats)
    taken = []
    for row in range(repeats):
        start = time.perf_counter()
        cohort.volume(row)
        taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken)


def peak_mib() -> float:
    """Return the peak resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB


def iteration_mib(subjects: int) -> tuple[float, float]:
    """Return the peak memory in MiB after one scan and after all ``subjects`` at 4 mm."""
    cohort = simulate_cohort(SimulatorConfig(seed=7, resolution_mm=4.0), subjects)
    cohort.volume(0)
    before = peak_mib()
    for row in range(subjects):
        cohort.volume(row)
    return before, peak_mib()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=200, help="participants iterated for the memory")
    parser.add_argument("--repeats", type=int, default=25, help="scans timed at each resolution")
    options = parser.parse_args()
    torch.set_num_threads(1)
    # memory first: peaks only rise, and a 2 mm scan needs more than a 4 mm one
    before, after = iteration_mib(options.subjects)
    for resolution in (6.0, 4.0, 3.0, 2.0):
        limit = f"  (at most {LIMITS_MS[resolution]})" if resolution in LIMITS_MS else ""
        print(f"{resolution:g} mm  {milliseconds(resolution, options.repeats):6.1f} ms a scan{limit}")
    print(f"peak memory at 4 mm: {before:.0f} MiB after 1 scan, {after:.0f} MiB after {options.subjects}")
    print(f"one thread, load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
