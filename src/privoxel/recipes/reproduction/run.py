"""``privoxel reproduce gupta2021 WHAT``: run what the table needs, and set measured beside published.

Every federation is a run folder of its own; one that is finished is read, so that tables share them.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from privoxel.arrays import FloatArray
from privoxel.evaluation.federation_results import FederationResults
from privoxel.evaluation.reproduction_results import Comparison
from privoxel.recipes.federation.run import FederateOptions, run_federated
from privoxel.recipes.partitioning import partition_simulated
from privoxel.recipes.reproduction.comparing import compare
from privoxel.recipes.reproduction.published import ENVIRONMENTS
from privoxel.recipes.reproduction.tables import Cell, cells_of, config_of
from privoxel.report.ages import ages_by_learner_chart
from privoxel.report.figures import Picture
from privoxel.report.reproduction import write_reproduction
from privoxel.store import write_json

AGES_OF = frozenset({"fig4", "all"})


class Reproduction(NamedTuple):
    """A table's comparison with the paper, and the page that shows it."""

    comparison: Comparison
    page: Path


def reproduce(
    what: str, scale: str, output: Path, options: FederateOptions, *, seed: int | None = None
) -> Reproduction:
    """Run (or read) the federations of ``what`` at ``scale`` in folders under ``output``, and write its page.

    Raises:
        ConfigError: for an unknown table or scale.
        PrivoxelError: what ``run_federated`` raises; finished federations are kept.
    """
    cells = cells_of(what)
    configs = {cell: config_of(scale, cell, seed=seed) for cell in cells}
    found: dict[Cell, FederationResults] = {}
    for cell, config in configs.items():
        folder = output / cell.name
        options.progress.say(f"{cell.name} in {folder}")
        found[cell] = run_federated(config, folder, replace(options, resume=True)).results
    output.mkdir(parents=True, exist_ok=True)
    comparison = compare(what, scale, found)
    page = output / f"{what}.html"
    write_reproduction(comparison, page, _ages(scale, seed) if what in AGES_OF else [])
    write_json(output / f"{what}.json", comparison.model_dump(mode="json"))
    return Reproduction(comparison, page)


def _ages(scale: str, seed: int | None) -> list[Picture]:
    """Return the ages of the learners in each environment at ``scale``: figure 4."""
    return [_ages_in(environment, scale, seed) for environment in ENVIRONMENTS]


def _ages_in(environment: str, scale: str, seed: int | None) -> Picture:
    config = config_of(scale, Cell("cnn3d", environment), seed=seed)
    drawn = partition_simulated(config.cohort.participants, config.partition, config.seed)
    covariates, partition = drawn.covariates, drawn.partition
    of: Mapping[str, FloatArray] = {
        name: covariates.age[partition.rows(covariates, name)] for name in (*partition.learners, "unseen")
    }
    learners = {name: ages for name, ages in of.items() if name != "unseen"}
    picture = ages_by_learner_chart(learners, of["unseen"], key=f"ages-{environment}")
    return picture._replace(title=f"{picture.title}: {environment}")
