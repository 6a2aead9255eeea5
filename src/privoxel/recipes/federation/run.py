"""``run_federated``: partition → training → signals → every learner attacks every other → report."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, final

from privoxel.config import TrainingConfig
from privoxel.evaluation.federation_results import FederationResults
from privoxel.progress import Progress, Silent
from privoxel.recipes.cohorts import read_cohort, summarise_cohort
from privoxel.recipes.environment import machine_facts, version_facts
from privoxel.recipes.federation.attacking import Attackers, attack_federation
from privoxel.recipes.federation.concluding import conclude
from privoxel.recipes.federation.observing import Site, watch_federation
from privoxel.recipes.federation.preparing import (
    check_shared_images,
    describe_cohorts,
    partition_of,
    victims_of,
)
from privoxel.recipes.federation.settings import FederateConfig
from privoxel.recipes.runs import Clock, announce, cohort_content, log_file, now, write_config
from privoxel.report.ages import ages_by_learner_chart
from privoxel.report.federation import write_federation_report
from privoxel.report.figures import Picture
from privoxel.store import open_run, write_json
from privoxel.training.federated import require_flower
from privoxel.training.runtime import choose_runtime
from privoxel.version import __version__

logger = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class FederateOptions:
    """How a run is carried out: data sets, the folder a table may point into, processes that attack."""

    cohorts: tuple[Path, ...] = ()
    root: Path | None = None
    resume: bool = False
    skip_bad: bool = False
    workers: int = 1
    progress: Progress = field(default_factory=Silent)


class FederationOutcome(NamedTuple):
    """What a run leaves: its results, and where its report is."""

    results: FederationResults
    report: Path


def run_federated(config: FederateConfig, output: Path, options: FederateOptions) -> FederationOutcome:
    """Run the federation of ``config`` in the folder ``output`` and return its results.

    Raises:
        PrivoxelError: for bad settings, cohorts or folders; finished rounds and stages are kept.
    """
    require_flower()
    cohort = describe_cohorts(config, options.cohorts, skip_bad=options.skip_bad, root=options.root)
    partition = partition_of(config, cohort.covariates)
    runtime = choose_runtime(TrainingConfig(device=config.device, threads=config.threads))
    facts = {"versions": version_facts(), "machine": machine_facts() | runtime.to_dict()}
    settings = {
        "config": config.to_dict(),
        "cohort": cohort.name,
        "cohort_content": cohort_content(cohort),
        "privoxel": __version__,
    }
    folder = open_run(output, settings, resume=options.resume, facts=facts)
    report = folder.path / "report.html"
    if folder.is_complete:
        return FederationOutcome(read_federation(folder.path), report)
    with log_file(folder):
        clock = Clock()
        write_config(folder, config.to_dict())
        cohort = read_cohort(cohort, skip_bad=options.skip_bad, progress=options.progress)
        check_shared_images(cohort, partition)
        clock.lap("volumes")
        site = Site(config, cohort, partition, folder, runtime, options.progress, options.workers)
        announce(f"Federation of {len(partition.learners)} learners", options.progress, logger)
        watched = watch_federation(site)
        clock.lap("federation and signals")
        attackers = attack_federation(site, watched)
        clock.lap("attacks")
        controls = [(victim, _without(site, victim, clock)) for victim in victims_of(config, partition)]
        made = {**facts, "created": now(), "seconds": clock.laps}
        summary = summarise_cohort(cohort, folder)
        results = conclude(site, watched, attackers, controls, cohort=summary, facts=made)
        write_json(folder.path / "results.json", results.model_dump(mode="json"))
        write_federation_report(results, report, _ages_picture(site))
        folder.record(complete=True)
    return FederationOutcome(results, report)


def _without(site: Site, victim: str, clock: Clock) -> Attackers:
    """Return the attacks on the federation that ``victim`` took no part in."""
    announce(f"The same federation without {victim}", site.progress, logger)
    watched = watch_federation(site, left_out=victim)
    attackers = attack_federation(site, watched)
    clock.lap(f"without {victim}")
    return attackers


def _ages_picture(site: Site) -> list[Picture]:
    ages = site.cohort.covariates.age
    of_learners = {name: ages[site.rows(name)] for name in site.partition.learners}
    return [ages_by_learner_chart(of_learners, ages[site.unseen], key="ages")]


def plan_federated(config: FederateConfig, options: FederateOptions) -> dict[str, Any]:
    """Return what ``run_federated`` would do: learners, sizes, rounds, controls. Nothing is written."""
    cohort = describe_cohorts(config, options.cohorts, skip_bad=options.skip_bad, root=options.root)
    partition = partition_of(config, cohort.covariates)
    sizes = zip(partition.learners, partition.groups, strict=True)
    return {
        "cohort": repr(cohort),
        "environment": partition.environment,
        "learners": [f"{name}: {len(group)} participants" for name, group in sizes],
        "unseen": f"{len(partition.unseen)} participants",
        "rounds": config.federation.rounds,
        "federations": 1 + len(victims_of(config, partition)),
    }


def read_federation(folder: Path) -> FederationResults:
    """Return the results of the finished federation in ``folder``."""
    return FederationResults.model_validate_json((folder / "results.json").read_text(encoding="utf-8"))
