"""Members among the non-members, looked for in the volumes before anything is judged."""

import logging

from privoxel.cohort.base import Cohort
from privoxel.cohort.overlap import Overlap, find_overlap
from privoxel.progress import Progress

logger = logging.getLogger(__name__)
SHOWN = 50


def screen_people(cohort: Cohort, states: dict[str, int], *, workers: int, progress: Progress) -> Overlap:
    """Return who is in a cached cohort under two names, and name them to whoever reads the terminal.

    Call it while no log is being written to a run folder: names do not belong on disk.
    """
    with progress.task("people", len(cohort)) as task:
        overlap = find_overlap(cohort, states, workers=workers, progress=task.advance)
    for line in overlap.named[:SHOWN]:
        logger.warning("%s.", line)
    if len(overlap.named) > SHOWN:
        logger.warning("%d more pairs of names stand for one person.", len(overlap.named) - SHOWN)
    if overlap.left_out:
        logger.warning("Left out as no non-members: sub-%s.", ", sub-".join(overlap.left_out[:SHOWN]))
    return overlap
