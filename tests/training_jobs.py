"""Jobs that train or look at how a process is set up for it; importable by worker processes."""

import ctypes
from pathlib import Path

import numpy as np
import torch

from privoxel.config import TrainingConfig
from privoxel.models import ModelSpec, build_model
from privoxel.progress import Silent
from privoxel.recipes.shadow_training import ShadowTraining, train_shadow
from privoxel.seeding import Streams
from privoxel.training.job import TrainingFolders, TrainingJob, TrainingSet
from privoxel.training.loop import train
from privoxel.training.runtime import Runtime
from tests.conftest import make_cohort


def train_tiny(name: str, folder: Path) -> list[float]:
    """Train a tiny model and return its curve and a digest of its weights."""
    cohort, streams = make_cohort(14), Streams(3).child(name)
    model = build_model(
        ModelSpec("cnn3d", width=0.125, head="scaled"),
        cohort.grid.shape,
        62.0,
        streams.seed("initialisation"),
    )
    folders = TrainingFolders(folder / name / "snapshots", folder / name / "state")
    job = TrainingJob(TrainingConfig(epochs=3, batch_size=4), streams, folders, Runtime(), Silent())
    rows = streams.generator("rows").permutation(14)
    trained = train(model, TrainingSet(cohort, rows[:10], rows[10:], loss_scale=50.0), job)
    weights = torch.cat([p.detach().flatten() for p in model.parameters()]).double()
    return [point.train_mae for point in trained.curve] + weights[:5].tolist() + [float(weights.sum())]


def threads() -> int:
    np.ones((3, 3)) @ np.ones((3, 3))
    return torch.get_num_threads()


def set_up(shadow: ShadowTraining | None = None) -> list[bool]:
    """Train a shadow, if one is given, and return whether TF32 is off and large blocks are kept here."""
    if shadow is not None:
        train_shadow(shadow)
    return [not torch.backends.cudnn.allow_tf32, not maps_large_blocks()]


def maps_large_blocks() -> bool:
    """Return whether the C library takes a large block from the system for itself (glibc 2.33 and newer)."""
    library = ctypes.CDLL("libc.so.6")
    library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    fields = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks")
    shape = type(
        "mallinfo2", (ctypes.Structure,), {"_fields_": [(f, ctypes.c_size_t) for f in (*fields, "keep")]}
    )
    library.mallinfo2.restype = shape
    before = library.mallinfo2().hblks
    block = library.malloc(64 * 2**20)
    mapped = library.mallinfo2().hblks - before
    library.free(block)
    return mapped > 0
