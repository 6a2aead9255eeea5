"""Figure 4: sizes and ages of the learners in each environment."""

from typing import NamedTuple

from privoxel.evaluation.reproduction_results import PaperTable, TableLine
from privoxel.recipes.partitioning import partition_simulated
from privoxel.recipes.reproduction.published import ENVIRONMENTS, FIGURE_4
from privoxel.recipes.reproduction.tables import Cell, config_of
from privoxel.report.ages import ages_by_learner_chart
from privoxel.report.figures import Picture


class Ages(NamedTuple):
    """Figure 4: a picture an environment, and its numbers beside the paper's."""

    pictures: list[Picture]
    table: PaperTable


def figure_4(scale: str, seed: int | None) -> Ages:
    """Return the ages of the simulated learners at ``scale``, as they are dealt by the paper's generators."""
    pictures, lines = [], []
    for environment in ENVIRONMENTS:
        config = config_of(scale, Cell("cnn3d", environment), seed=seed)
        drawn = partition_simulated(config.cohort.participants, config.partition, config.seed)
        covariates, partition = drawn.covariates, drawn.partition
        ages = {name: covariates.age[partition.rows(covariates, name)] for name in partition.learners}
        unseen = covariates.age[partition.rows(covariates, "unseen")]
        picture = ages_by_learner_chart(ages, unseen, key=f"ages-{environment}")
        pictures.append(picture._replace(title=f"{picture.title}: {environment}"))
        measured = [f"{len(one)}: {one.mean():.1f} ± {one.std():.1f}" for one in ages.values()]
        printed = [f"{size}: {mean:.1f} ± {sd:.1f}" for size, mean, sd in FIGURE_4[environment]]
        lines.append(TableLine(label=environment, cells=[*measured]))
        if len(printed) == len(measured):
            lines.append(TableLine(label=f"{environment}, published", cells=[*printed]))
    columns = [f"L{k}" for k in range(1, 1 + max(len(line.cells) for line in lines))]
    caption = "Participants of each learner: mean ± SD of their ages in years."
    title = "Figure 4: learners"
    return Ages(pictures, PaperTable(part="fig4", title=title, caption=caption, columns=columns, lines=lines))
