"""White-box signals: the one-pass extractor beside inference, training and other ways.

Every variant is checked against the float64 loop before it is timed; variants run in turn, the table holds
medians. Baselines are taken in their fastest memory format and chunking. ``PYTHONPATH`` may point at an
Opacus installation (``pip install --no-deps --target DIR opacus==1.6.0 opt-einsum``) to time it as well.

    python benchmarks/signals.py table [--cells 6q 4f 2f] [--threads 2] [--repeats 7]
    python benchmarks/signals.py roofline|memory|flat|loader|precision|compile [--threads 2]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from anonymous_memory import anonymous_bytes, peak_while
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from privoxel.cohort.base import Cohort, Covariates, Grid, ScanId
from privoxel.cohort.cache import cache_volumes
from privoxel.cohort.simulated import SimulatorConfig, simulate_cohort
from privoxel.config import TrainingConfig
from privoxel.evaluation.metrics import auc
from privoxel.evaluation.scored import Evaluated
from privoxel.gradients.one_pass import Extractor
from privoxel.gradients.request import Request
from privoxel.models import AuditableModel, ModelSpec, build_model
from privoxel.models.base import to_memory_format
from privoxel.progress import Silent
from privoxel.seeding import Streams
from privoxel.signals.extract import Extraction, extract
from privoxel.training.allocator import keep_freed_memory
from privoxel.training.job import TrainingFolders, TrainingJob, TrainingSet
from privoxel.training.loop import save_weights, train
from privoxel.training.runtime import Runtime

FORMATS = ("channels_last", "contiguous")
KEPT = ("conv1.weight", "conv6.weight", "output.weight")
SMALL, FULL = Request(KEPT[1:]), Request(KEPT, norms=True)
TOLERANCE = 5e-3  # float32 against float64: a rounding may flip a max-pool
Run = Callable[[], object]


class Cell(NamedTuple):
    """One size of the table."""

    label: str
    grid: tuple[int, int, int]
    width: float
    batch: int
    limit: float


CELLS = {
    "6q": Cell("6 mm, width 1/4", (27, 32, 27), 0.25, 32, 1.30),
    "4f": Cell("4 mm, full width", (40, 48, 40), 1.0, 8, 1.15),
    "2f": Cell("2 mm, full width", (91, 109, 91), 1.0, 2, 1.15),
}


def new_model(name: str, cell: Cell, memory_format: str = "channels_last") -> AuditableModel:
    """Return the same untrained network each time."""
    model = build_model(
        ModelSpec(name, width=cell.width, head="scaled", dropout=0), cell.grid, 62.6, 0
    ).eval()
    to_memory_format(model, None, memory_format)
    return model


def data(cell: Cell, batch: int | None = None) -> tuple[Tensor, Tensor]:
    """Return random volumes and ages."""
    generator = torch.Generator().manual_seed(7)
    count = batch or cell.batch
    volumes = torch.randn(count, 1, *cell.grid, generator=generator)
    return volumes, 62.6 + 7.4 * torch.randn(count, generator=generator)


def loss_of(model: nn.Module, volumes: Tensor, ages: Tensor) -> Tensor:
    """Return the summed squared error of a batch."""
    return (model(volumes).flatten() - ages).square().sum()


def plain_loop(model: nn.Module, volumes: Tensor, ages: Tensor) -> list[dict[str, Tensor]]:
    """Return every scan's gradients by one backward pass each."""
    found = []
    for row in range(len(ages)):
        model.zero_grad(set_to_none=True)
        loss_of(model, volumes[row : row + 1], ages[row : row + 1]).backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    return found


def by_vmap(model: nn.Module, volumes: Tensor, ages: Tensor) -> dict[str, Tensor]:
    """Return per-scan gradients by ``torch.func``."""
    weights = {name: p.detach() for name, p in model.named_parameters()}

    def loss(weights: dict[str, Tensor], volume: Tensor, age: Tensor) -> Tensor:
        return (functional_call(model, weights, (volume[None],)).squeeze() - age).square()

    return vmap(grad(loss), in_dims=(None, 0, 0))(weights, volumes, ages)


def by_opacus(
    name: str, cell: Cell, mode: str, memory_format: str
) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
    """Return a function to per-scan gradients by one of Opacus' modes (raises ImportError without it)."""
    from opacus.grad_sample import (  # noqa: PLC0415 - not a dependency
        GradSampleModule,
        GradSampleModuleExpandedWeights,
    )

    model = new_model(name, cell, memory_format).train()
    if mode == "ew":
        wrapped = GradSampleModuleExpandedWeights(model, loss_reduction="sum")
    else:
        wrapped = GradSampleModule(model, loss_reduction="sum", force_functorch=mode == "functorch")

    def run(volumes: Tensor, ages: Tensor) -> dict[str, Tensor]:
        wrapped.zero_grad(set_to_none=True)
        loss_of(wrapped, volumes, ages).backward()
        return {n.removeprefix("_module."): p.grad_sample for n, p in wrapped.named_parameters()}

    return run


def true_norms(name: str, cell: Cell) -> Tensor:
    """Return the gradient norms (2 scans, tensors) of the float64 loop."""
    volumes, ages = (values[:2] for values in data(cell))
    model = new_model(name, cell).double()
    loop = plain_loop(model, volumes.double(), ages.double())
    return torch.stack([torch.stack([scan[n].norm() for n, _ in model.named_parameters()]) for scan in loop])


def is_right(norms: Tensor, truth: Tensor) -> bool:
    """Return whether norms agree with the float64 loop within the tolerance of each scan's largest."""
    return bool(((norms.double() - truth).abs() <= TOLERANCE * truth.amax(1, keepdim=True)).all())


def stacked_norms(gradients: dict[str, Tensor], names: list[str]) -> Tensor:
    """Return norms (scans, tensors)."""
    return torch.stack([gradients[n].flatten(1).norm(dim=1) for n in names], dim=1).detach()


def chunked(run: Callable[[Tensor, Tensor], object], volumes: Tensor, ages: Tensor, size: int) -> Run:
    """Return ``run`` over a batch in chunks."""

    def all_chunks() -> None:
        for v, a in zip(volumes.split(size), ages.split(size), strict=True):
            run(v, a)

    return all_chunks


def variants(name: str, cell: Cell) -> Iterator[tuple[str, str, Run | str]]:
    """Yield (group, variant, what to time, or why it is not timed)."""
    volumes, ages = data(cell)
    truth = true_norms(name, cell)
    names = [n for n, _ in new_model(name, cell).named_parameters()]
    sizes = sorted({1, 2, 4, cell.batch} & set(range(1, cell.batch + 1)))
    for memory_format in FORMATS:
        model = new_model(name, cell, memory_format)

        def infer(v: Tensor, _: Tensor, model: nn.Module = model) -> None:
            with torch.no_grad():
                model(v)

        def step(v: Tensor, a: Tensor, model: nn.Module = model) -> None:
            model.zero_grad(set_to_none=True)
            loss_of(model, v, a).backward()

        for size in sizes:
            yield "inference", f"{memory_format}, {size}", chunked(infer, volumes, ages, size)
            yield "forward+backward", f"{memory_format}, {size}", chunked(step, volumes, ages, size)
    model = new_model(name, cell)
    small, full = (Extractor(model, r, volumes=volumes, ages=ages) for r in (SMALL, FULL))
    norms = full(volumes[:2], ages[:2]).norms
    if norms is None or not is_right(norms, truth) or full.fallbacks:
        raise SystemExit(f"The extractor's gradients of {name} at {cell.label} are wrong.")
    for size in sizes:
        yield "small set", f"{size}", chunked(small, volumes, ages, size)
        yield "full set", f"{size}", chunked(full, volumes, ages, size)
    loop = new_model(name, cell)
    yield "batch-1 loop", "", lambda: plain_loop(loop, volumes, ages)
    mapped = new_model(name, cell)
    right = is_right(stacked_norms(by_vmap(mapped, volumes[:2], ages[:2]), names), truth)
    size = min(4, cell.batch)
    run = chunked(lambda v, a: by_vmap(mapped, v, a), volumes, ages, size)
    yield "vmap(grad)", f"{size}", run if right else "wrong gradients"
    for mode in ("hooks", "ew", "functorch"):
        for memory_format in FORMATS:
            yield f"Opacus {mode}", memory_format, opacus_variant(name, cell, mode, memory_format, truth)


def opacus_variant(name: str, cell: Cell, mode: str, memory_format: str, truth: Tensor) -> Run | str:
    """Return a mode of Opacus to time, or why it cannot be."""
    volumes, ages = data(cell)
    try:
        run = by_opacus(name, cell, mode, memory_format)
        found = run(volumes[:2], ages[:2])
        names = [n for n, _ in new_model(name, cell).named_parameters()]
        right = is_right(stacked_norms(found, names), truth)
    except ImportError:
        return "not installed"
    except Exception as error:
        return f"raises {type(error).__name__}"
    return chunked(run, volumes, ages, min(4, cell.batch)) if right else "wrong gradients"


def table(cells: list[str], repeats: int) -> None:
    """Print medians of every variant and the ratios."""
    lines, ratios = [], []
    for cell in (CELLS[c] for c in cells):
        for name in ("cnn3d", "slice-mean"):
            timed = [(g, v, r) for g, v, r in variants(name, cell)]
            times: dict[tuple[str, str], list[float]] = {(g, v): [] for g, v, r in timed if callable(r)}
            for repeat in range(repeats + 1):
                for group, variant, run in timed:
                    if callable(run):
                        started = time.perf_counter()
                        run()
                        if repeat:
                            times[group, variant].append(1e3 * (time.perf_counter() - started) / cell.batch)
            best: dict[str, tuple[float, str]] = {}
            for (group, variant), values in times.items():
                found = (statistics.median(values), variant)
                best[group] = min(best.get(group, found), found)
            told = {g: f"{ms:.2f}" + (f" ({v})" if v else "") for g, (ms, v) in best.items()}
            told = {g: r for g, _, r in timed if isinstance(r, str)} | told
            lines += [f"| {name} | {cell.label} | {group} | {text} |" for group, text in told.items()]
            ratios += ratio_rows(name, cell, {g: ms for g, (ms, _) in best.items()})
            print("\n".join(lines[-len(told) :]), flush=True)
    print("\n| network | cell | ratio | measured | limit | |\n|---|---|---|---|---|---|")
    print("\n".join(ratios))


def ratio_rows(name: str, cell: Cell, best: dict[str, float]) -> list[str]:
    """Return the rows of the ratio table."""
    small = best["small set"] / best["inference"]
    full = best["full set"] / best["forward+backward"]
    rows = [("small set / inference", small, 1.10), ("full set / forward+backward", full, cell.limit)]
    rows += [
        (f"full set / {peer}", best["full set"] / best[peer], 1.0)
        for peer in best
        if peer in {"batch-1 loop", "vmap(grad)"} or peer.startswith("Opacus")
    ]
    return [
        f"| {name} | {cell.label} | {what} | {value:.2f} | {limit:.2f} "
        f"| {'met' if value <= limit else 'not met'} |"
        for what, value, limit in rows
    ]


def peak_rates() -> tuple[float, float]:
    """Return the best multiply-adds a second of a convolution and bytes a second of a copy."""
    layer = nn.Conv3d(64, 128, 3, padding=1, bias=False).to(memory_format=torch.channels_last_3d)
    x = torch.randn(4, 64, 20, 24, 20).to(memory_format=torch.channels_last_3d)
    big = torch.randn(64 * 2**20)
    target = torch.empty_like(big)
    with torch.no_grad():
        convolution = min(seconds(lambda: layer(x)) for _ in range(7))
    copy = min(seconds(lambda: target.copy_(big)) for _ in range(7))
    return 27 * 64 * 128 * 4 * 20 * 24 * 20 / convolution, 2 * big.nbytes / copy


def seconds(run: Run) -> float:
    """Return the wall-clock seconds of a call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def roofline(repeats: int) -> None:
    """Print the inference pass at full width beside operations over peak plus bytes over bandwidth."""
    macs, bandwidth = peak_rates()
    print(f"measured peaks: {2 * macs / 1e9:.0f} GFLOP/s (convolution), {bandwidth / 1e9:.1f} GB/s (copy)\n")
    print("| network | grid | multiply-adds, G | bytes, MB | predicted ms | measured ms | ratio | limit |")
    print("|---|---|---|---|---|---|---|---|")
    for cell in (CELLS["4f"], CELLS["2f"]):
        for name in ("cnn3d", "slice-mean"):
            model, (volumes, _) = new_model(name, cell), data(cell, 2)
            work = [0.0, 0.0]

            def count(
                layer: nn.Module, read: tuple[Tensor, ...], made: Tensor, work: list[float] = work
            ) -> None:
                work[0] += made.numel() * layer.weight[0].numel()
                # Its input and output; then norm and pool: its output again, the pooled map twice.
                work[1] += 4 * (read[0].numel() + 2 * made.numel() + 2 * made.numel() / 2 ** (made.dim() - 2))

            convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
            hooks = [m.register_forward_hook(count) for m in convolutions]
            with torch.no_grad():
                model(volumes)
                for hook in hooks:
                    hook.remove()
                times = [seconds(lambda m=model, v=volumes: m(v)) for _ in range(repeats + 1)][1:]
            measured = statistics.median(times) / 2
            predicted = (work[0] / macs + work[1] / bandwidth) / 2
            print(
                f"| {name} | {cell.label} | {work[0] / 2e9:.2f} | {work[1] / 2e6:.0f} "
                f"| {1e3 * predicted:.1f} | {1e3 * measured:.1f} | {measured / predicted:.2f} | 1.60 |"
            )


def one_peak(cell: Cell, name: str, what: str) -> None:
    """Print the peak of one variant, for a fresh process."""
    model, (volumes, ages) = new_model(name, cell), data(cell)
    if what == "step":
        optimiser = torch.optim.SGD(model.parameters(), lr=1e-9)

        def run() -> None:
            loss_of(model, volumes, ages).backward()
            optimiser.step()

        print(peak_while(run))
        return
    print(peak_while(lambda: Extractor(model, FULL, volumes=volumes, ages=ages)(volumes, ages)))


def memory() -> None:
    """Print the peak of the full set, planning included, over that of a training step."""
    print("| network | cell | batch | training step, MB | full set, MB | ratio | limit |")
    print("|---|---|---|---|---|---|---|")
    for key in ("4f", "2f"):
        for name in ("cnn3d", "slice-mean"):
            command = [sys.executable, __file__, "one-peak", "--cells", key, "--network", name, "--what"]
            step, full = (
                int(subprocess.run([*command, what], capture_output=True, text=True, check=True).stdout)
                for what in ("step", "full")
            )
            cell = CELLS[key]
            print(
                f"| {name} | {cell.label} | {cell.batch} | {step / 1e6:.0f} | {full / 1e6:.0f} "
                f"| {full / step:.2f} | 1.30 |",
                flush=True,
            )


class Repeated:
    """A source of any length over a few memory-mapped half-precision volumes."""

    def __init__(self, values: np.ndarray, count: int) -> None:
        self.values, self.count = values, count

    def __len__(self) -> int:
        return self.count

    def volume(self, row: int) -> np.ndarray:
        """Return one volume."""
        return self.values[row % len(self.values)].astype(np.float32)


def long_cohort(grid: Grid, count: int, folder: Path) -> Cohort:
    """Return a cohort of ``count`` scans on disk."""
    path = folder / "volumes.npy"
    if not path.exists():
        noise = np.random.default_rng(0).standard_normal((16, *grid.shape)).astype(np.float16)
        np.save(path, noise)
    people = np.arange(count)
    covariates = Covariates(
        tuple(ScanId(f"{k:05d}", "") for k in people),
        45 + people % 35.0,
        np.full(count, "F"),
        np.full(count, "x"),
    )
    return Cohort("long", covariates, grid, Repeated(np.load(path, mmap_mode="r"), count), f"long-{count}")


def flat(count: int) -> None:
    """Print the anonymous memory of an extraction after a tenth of the scans and at the end."""
    grid = Grid.mni(4)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cohort = long_cohort(grid, count, folder)
        model = build_model(ModelSpec(width=0.25, head="scaled"), grid.shape, 62.6, 0)
        save_weights(model, folder / "epoch-1.safetensors")
        wanted = Extraction(
            ("prediction", "gradient-norms", "gradient:conv6", "gradient:output"),
            runtime=Runtime(memory_format="channels_last"),
        )
        progress = Sampler(count // 10)
        extract(
            model,
            [folder / "epoch-1.safetensors"],
            cohort,
            wanted,
            folder=folder / "signals",
            progress=progress,
        )
    early, late = progress.early, anonymous_bytes()
    print(
        f"anonymous memory after {count // 10} scans {early / 1e6:.0f} MB, "
        f"after {count} {late / 1e6:.0f} MB: "
        f"ratio {late / early:.3f} (limit 0.95-1.05)"
    )


class Sampler:
    """Note the memory once a number of scans was passed."""

    def __init__(self, at: int) -> None:
        self.at, self.seen, self.early = at, 0, 0

    def task(self, *_: object) -> "Sampler":
        """Count in place of showing a bar."""
        return self

    def say(self, text: str) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def __enter__(self) -> "Sampler":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def advance(self, steps: int = 1) -> None:
        """Count scans."""
        self.seen += steps
        if self.seen >= self.at and not self.early:
            self.early = anonymous_bytes()


def loader(repeats: int) -> None:
    """Print volumes a second read at 2 mm beside those that an inference pass consumes."""
    cell, grid = CELLS["2f"], Grid.mni(2)
    with tempfile.TemporaryDirectory() as name:
        cohort = long_cohort(grid, 64, Path(name))
        rows = np.arange(2)
        read = (
            statistics.median(
                [seconds(lambda: torch.from_numpy(cohort.batch(rows))) for _ in range(4 * repeats)]
            )
            / 2
        )
        for network in ("cnn3d", "slice-mean"):
            model, (volumes, _) = new_model(network, cell), data(cell, 2)
            with torch.no_grad():
                pass_ = (
                    statistics.median([seconds(lambda m=model, v=volumes: m(v)) for _ in range(repeats)]) / 2
                )
            print(
                f"{network}: read {1 / read:.0f} volumes/s, inference {1 / pass_:.1f}: "
                f"{pass_ / read:.1f} × (limit 1.5)"
            )


def precision() -> None:
    """Print how far bfloat16 signals lie from float64 ones, and what that does to the AUC of two attacks."""
    rows = np.arange(400)
    cohort = cache_volumes(simulate_cohort(SimulatorConfig(seed=31, resolution_mm=6.0), 400), skip_bad=False)
    ages, members = cohort.covariates.age, rows < 200
    model = build_model(ModelSpec(width=0.25, head="scaled", dropout=0), cohort.grid.shape, ages.mean(), 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = TrainingJob(
            TrainingConfig(epochs=14, learning_rate=1e-3, snapshot_every=14),
            Streams(31),
            TrainingFolders(folder / "snapshots", folder / "state"),
            Runtime(memory_format="channels_last", threads=torch.get_num_threads()),
            Silent(),
        )
        train(model, TrainingSet(cohort, rows[members], rows[:0], loss_scale=float(np.var(ages))), job)
    model.eval()
    found: dict[str, list[Tensor]] = {"float64": [], "float32": [], "bfloat16": []}
    exact = build_model(
        ModelSpec(width=0.25, head="scaled", dropout=0), cohort.grid.shape, ages.mean(), 0
    ).eval()
    exact.load_state_dict(model.state_dict())
    exact.double()
    for start in range(0, 400, 20):
        volumes = torch.from_numpy(cohort.batch(rows[start : start + 20]))
        age = torch.as_tensor(ages[start : start + 20], dtype=torch.float32)
        for kind, parts in found.items():
            parts.append(norms_in(kind, model, exact, volumes, age))
    truth = torch.cat(found["float64"])
    print(
        "| precision | largest error of a norm, % of the scan's largest | AUC, gradient norm | AUC, |error| |"
    )
    print("|---|---|---|---|")
    for kind, parts in found.items():
        norms = torch.cat(parts)
        off = ((norms - truth).abs()[:, 1:] / truth[:, 1:].amax(1, keepdim=True)).max()
        scores = [-norms[:, 1:].square().sum(1).sqrt(), -norms[:, 0].abs()]
        areas = [auc(Evaluated(s.numpy()[None], np.zeros(1), members, rows)) for s in scores]
        told = " | ".join(f"{a.value:.4f} ({a.low:.3f}-{a.high:.3f})" for a in areas)
        print(f"| {kind} | {100 * float(off):.2g} | {told} |")


def norms_in(kind: str, model: AuditableModel, exact: AuditableModel, volumes: Tensor, age: Tensor) -> Tensor:
    """Return the signed error and all gradient norms (scans, 1 + tensors), float64."""
    if kind == "float64":
        loop = plain_loop(exact, volumes.double(), age.double())
        norms = torch.stack([torch.stack([g.norm() for g in scan.values()]) for scan in loop])
        with torch.no_grad():
            return torch.cat([(exact(volumes.double()) - age)[:, None], norms], dim=1)
    request = Request(norms=True)
    half = torch.autocast("cpu", torch.bfloat16, enabled=kind == "bfloat16")
    with half:
        signals = Extractor(model, request, volumes=volumes, ages=age)(volumes, age)
    if signals.norms is None:
        raise SystemExit("No norms came back.")
    error = signals.prediction.double() - age
    return torch.cat([error[:, None], signals.norms.double()], dim=1)


def compiled(repeats: int) -> None:
    """Print inference with and without ``torch.compile``, and what its first call costs."""
    print("| network | cell | eager ms | compiled ms | ratio | first call, s |\n|---|---|---|---|---|---|")
    for key in ("6q", "4f"):
        for name in ("cnn3d", "slice-mean"):
            cell = CELLS[key]
            model, (volumes, _) = new_model(name, cell), data(cell, min(CELLS[key].batch, 4))
            fast = torch.compile(model)
            with torch.no_grad():
                first = seconds(lambda f=fast, v=volumes: f(v))
                pairs = [
                    (seconds(lambda m=model, v=volumes: m(v)), seconds(lambda f=fast, v=volumes: f(v)))
                    for _ in range(2 * repeats)
                ]
            eager, quick = (1e3 * statistics.median(t) / len(volumes) for t in zip(*pairs, strict=True))
            print(
                f"| {name} | {cell.label} | {eager:.2f} | {quick:.2f} | {quick / eager:.2f} | {first:.0f} |",
                flush=True,
            )


def main() -> None:
    """Run the asked-for part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "part", choices=["table", "roofline", "memory", "flat", "loader", "precision", "compile", "one-peak"]
    )
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--scans", type=int, default=10_000)
    parser.add_argument("--network", default="cnn3d")
    parser.add_argument("--what", default="full", choices=["step", "full"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # for every variant alike
    parts = {
        "table": lambda: table(options.cells, options.repeats),
        "roofline": lambda: roofline(options.repeats),
        "memory": memory,
        "flat": lambda: flat(options.scans),
        "loader": lambda: loader(options.repeats),
        "precision": precision,
        "compile": lambda: compiled(options.repeats),
        "one-peak": lambda: one_peak(CELLS[options.cells[0]], options.network, options.what),
    }
    parts[options.part]()


if __name__ == "__main__":
    main()
