"""What each defence costs and how far the plainest black-box attack still gets, on simulated brains at 6 mm.

Every defence trains the same eighth-width 3D-CNN on the same members with the same seeds; the attack is
−|error| on the answers that are released. Settings were fixed before the first run, none was tuned.

    python benchmarks/defences.py [--members 100] [--others 200] [--epochs 30] [--seeds 4] [--only NAME …]
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from privoxel.cohort.base import Cohort
from privoxel.cohort.cache import cache_volumes
from privoxel.cohort.simulated import SimulatorConfig, simulate_cohort
from privoxel.config import ModelConfig, TrainingConfig
from privoxel.defence_config import DefenceConfig
from privoxel.models import AuditableModel, build_model, spec_of
from privoxel.progress import Silent
from privoxel.seeding import Streams
from privoxel.signals.release import Release, noise_of, released
from privoxel.training.job import TrainingFolders, TrainingJob, TrainingSet
from privoxel.training.loop import load_weights, predict_ages, train
from privoxel.training.released import train_released
from privoxel.training.runtime import Runtime

PLAIN = "none"
DEFENCES: dict[str, dict[str, object]] = {
    PLAIN: {},
    "fewer epochs (half)": {"epochs": 0.5},
    "weight decay 0.1": {"weight_decay": 0.1},
    "dropout 0.5": {"dropout": 0.5},
    "width / 2": {"width": 0.5},
    "early stopping, 0.5 years": {"defence": {"stop_gap": 0.5}},
    "augmentation, pose": {"defence": {"augmentation": {"degrees": 5.0, "mm": 6.0}}},
    "augmentation, intensity": {"defence": {"augmentation": {"gain": 0.1, "gamma": 0.1, "noise": 0.2}}},
    "mixup 1.0": {"defence": {"mixup": 1.0}},
    "label noise, 3 years": {"defence": {"label_noise": 3.0}},
    "projection": {"defence": {"keep_unique": 0.0}},
    "pruning, 90 %": {"defence": {"sparsity": 0.9}},
    "averaging, last third": {"defence": {"average_last": 10}},
    "pretraining": {"defence": {"pretraining": {"epochs": 10}}},
    "distillation": {"defence": {"distillation": {}}},
    "answers rounded to 5 years": {"defence": {"release": {"round_years": 5.0}}},
    "answers with noise, 3 years": {"defence": {"release": {"noise_years": 3.0}}},
}


def auc(errors: np.ndarray, others: np.ndarray) -> float:
    """Return how often a member has the smaller |error|."""
    less = errors[:, None] < others[None, :]
    return float((less + 0.5 * (errors[:, None] == others[None, :])).mean())


def trained(
    name: str, seed: int, cohort: Cohort, public: Cohort, options: argparse.Namespace, folder: Path
) -> tuple[float, float, float]:
    """Return AUC and the MAE of the answers for members and for others, of one seed."""
    chosen = DEFENCES[name]
    defence = DefenceConfig.model_validate(chosen.get("defence", {}))
    epochs = round(options.epochs * float(chosen.get("epochs", 1)))
    config = TrainingConfig(
        epochs=epochs,
        learning_rate=1e-3,
        weight_decay=float(chosen.get("weight_decay", 1e-4)),
        snapshot_every=epochs,
    )
    model_config = ModelConfig(
        width=0.125 * float(chosen.get("width", 1)), head="scaled", dropout=float(chosen.get("dropout", 0.0))
    )
    streams, runtime = Streams(seed), Runtime(memory_format="channels_last")
    order, ages = streams.generator("design").permutation(len(cohort)), cohort.covariates.age
    members, validation, others = np.split(order, [options.members, options.members + 50])
    folders = TrainingFolders(folder / "snapshots", folder / "state")

    def build(mean_age: float, number: int) -> AuditableModel:
        return build_model(spec_of(model_config), cohort.grid.shape, mean_age, number)

    model = build(float(ages[members].mean()), streams.seed("initialisation"))
    if defence.pretraining is not None:
        hidden = TrainingFolders(folder / "public", folder / "public")
        everyone = np.arange(len(public))
        early = config.model_copy(update={"epochs": defence.pretraining.epochs})
        job = TrainingJob(early, streams.child("public"), hidden, runtime, Silent())
        scale = float(public.covariates.age.var())
        load_weights(
            model, train(model, TrainingSet(public, everyone, everyone[:0], scale), job).snapshots[-1]
        )
    job = TrainingJob(config, streams, folders, runtime, Silent(), None, defence)
    scale = float(ages[members].var())
    train_released(model, TrainingSet(cohort, members, validation, scale), job, public=public, build=build)
    rows = np.concatenate([members, others])
    answers = predict_ages(model, cohort, rows, batch_size=8, runtime=runtime)
    noise = np.zeros(len(rows))
    if defence.release.noise_years:
        contents = Release.over(cohort, defence.release, seed).contents
        noise = np.array([noise_of(contents[cohort.covariates.scans[r]], str(seed).encode()) for r in rows])
    error = np.abs(released(answers, noise, defence.release) - ages[rows])
    inside, outside = error[: len(members)], error[len(members) :]
    return auc(inside, outside), float(inside.mean()), float(outside.mean())


def main() -> None:
    """Print one line a defence: mean and SD over seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("members", 100), ("others", 200), ("epochs", 30), ("seeds", 4), ("public", 200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", nargs="*", default=list(DEFENCES))
    options = parser.parse_args()
    simulate = SimulatorConfig(seed=101, resolution_mm=6.0)
    cohort = cache_volumes(simulate_cohort(simulate, options.members + options.others + 50), workers=1)
    other = SimulatorConfig(seed=102, resolution_mm=6.0)
    public = cache_volumes(simulate_cohort(other, options.public), workers=1)
    print("| defence | AUC of −|error| | MAE members | MAE others | seconds a model |")
    print("|---|---|---|---|---|")
    for name in options.only:
        started, found = time.perf_counter(), []
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as folder:
                found.append(trained(name, seed, cohort, public, options, Path(folder)))
        values = np.array(found)
        cells = [f"{m:.2f} ± {s:.2f}" for m, s in zip(values.mean(0), values.std(0, ddof=1), strict=True)]
        seconds = (time.perf_counter() - started) / options.seeds
        print(f"| {name} | {' | '.join(cells)} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
