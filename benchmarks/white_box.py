"""Time and memory of looking into a network: every signal of an audit, for a few simulated volumes.

python benchmarks/white_box.py [NETWORK] [MM] [SCANS]

NETWORK is a factory of ``privoxel.models.zoo``. Memory is the process's largest anonymous part, sampled,
beside that before extraction began; the signals' own size on disk does not count.
"""

import sys
import tempfile
import threading
import time
from pathlib import Path

import torch

from privoxel import SimulatorConfig, simulate_cohort
from privoxel.models import zoo
from privoxel.models.factories import white_box
from privoxel.progress import Silent
from privoxel.recipes.white_box import checked_model, wanted_signals
from privoxel.signals.extract import Extraction, extract
from privoxel.training.runtime import Runtime


def anonymous_mib() -> float:
    """Return the anonymous resident memory of this process, MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


class Peak:
    """Samples memory in a thread until it is stopped."""

    def __init__(self) -> None:
        self.mib, self._on = anonymous_mib(), True
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while self._on:
            self.mib = max(self.mib, anonymous_mib())
            time.sleep(0.02)

    def stop(self) -> float:
        """Return the largest sample, MiB."""
        self._on = False
        self._thread.join()
        return self.mib


def main(name: str, mm: float, scans: int) -> None:
    """Print what one network needs."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cohort = simulate_cohort(SimulatorConfig(seed=1, resolution_mm=mm), scans)
    runtime = Runtime(memory_format="channels_last")
    started = time.perf_counter()
    model = checked_model(white_box(getattr(zoo, name)(), name), cohort, runtime)
    print(
        f"{name} at {mm:g} mm {cohort.grid.shape}: tried on 3 scans in {time.perf_counter() - started:.1f} s"
    )
    print(f"layers: {model.located.described}")
    wanted = wanted_signals(model, ())
    before, peak = anonymous_mib(), Peak()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = extract(
            model, (), cohort, Extraction(wanted, 0, runtime), folder=Path(folder), progress=Silent()
        )
        seconds = time.perf_counter() - started
        stored = sum(path.stat().st_size for path in found.files.values()) / scans / 2**20
    print(
        f"{seconds:.1f} s, {seconds / scans:.2f} s a scan with planning and self-check; batch of "
        f"{found.batch_size}, {found.bytes_per_scan / 2**20:.0f} MiB a scan; anonymous memory "
        f"{before:.0f} -> {peak.stop():.0f} MiB; {stored:.2f} MiB on disk a scan; slower ways: "
        f"{found.fallbacks or 'none'}"
    )
    started = time.perf_counter()
    with torch.no_grad():
        for row in range(min(4, scans)):
            model(torch.from_numpy(cohort.batch([row])))
    print(f"forward pass alone: {(time.perf_counter() - started) / min(4, scans):.2f} s a scan")


if __name__ == "__main__":
    main(
        sys.argv[1] if len(sys.argv) > 1 else "densenet121",
        float(sys.argv[2]) if len(sys.argv) > 2 else 4.0,
        int(sys.argv[3]) if len(sys.argv) > 3 else 16,
    )
