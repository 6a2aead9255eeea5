"""What an attack reaches beyond the covariates alone: the paired difference of its AUC and the control's.

Where members and non-members differ as people, an attack is no better than what it adds to their age, sex
and site. An attack that was chosen for its large AUC was also chosen for a large difference, so its interval
must hold for every attack that could have been chosen.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from privoxel.evaluation.comparison import compare_attacks
from privoxel.evaluation.intervals import auc_contributions
from privoxel.evaluation.multipliers import largest_deviation, said_among, standard_errors
from privoxel.evaluation.scored import Estimate, Evaluated


def excess_over(
    attack: Sequence[Evaluated], control: Sequence[Evaluated], *, level: float = 0.95
) -> Estimate:
    """Return the mean over targets of the attack's AUC minus the control's, for an attack named beforehand.

    Raises:
        ValueError: if there are no targets, or the two do not hold the same scans.
    """
    return compare_attacks(attack, control, level=level).difference


def excess_of_chosen(
    name: str,
    targets: Sequence[Mapping[str, Evaluated]],
    control: Sequence[Evaluated],
    rng: np.random.Generator,
    *,
    level: float = 0.95,
) -> Estimate:
    """Return ``excess_over`` of the attack ``name``, which was chosen among all of ``targets``.

    With one target the interval is simultaneous over the attacks' differences (Gaussian multipliers, as in
    ``best_of_many``), with several it is at the level that Bonferroni leaves to each attack. It is never
    narrower than that of an attack named beforehand.

    Raises:
        ValueError: as ``excess_over``.
    """
    chosen, names = [target[name] for target in targets], list(targets[0]) if targets else []
    among = said_among(len(names), 1)
    if len(targets) > 1:
        found = excess_over(chosen, control, level=1.0 - (1.0 - level) / len(names))
        return found._replace(level=level, method=f"Bonferroni over {among}: {found.method}")
    single = excess_over(chosen, control, level=level)
    reference = auc_contributions(control[0])
    parts = [auc_contributions(one).minus(reference) for one in targets[0].values()]
    deviations = np.stack([(part.members + part.non_members) * part.widening for part in parts])
    freedom = max(min(control[0].n_members, control[0].n_non_members) - 1, 1)
    reach = largest_deviation(deviations, freedom, rng, level)
    reach *= float(standard_errors(deviations)[names.index(name)])
    method = f"paired, simultaneous over {among}, Gaussian multipliers of participants"
    return _hull(single, reach)._replace(method=method)


def _hull(single: Estimate, reach: float) -> Estimate:
    """Return ``single`` with an interval that reaches at least so far on either side, within -1 to 1."""
    if single.value is None or single.low is None or single.high is None:
        return single
    low, high = min(single.value - reach, single.low), max(single.value + reach, single.high)
    return single._replace(low=max(low, -1.0), high=min(high, 1.0))
