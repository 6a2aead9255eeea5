"""What can be known to fail before a folder is made or a volume read: protocol sizes, models, signals."""

from collections.abc import Mapping, Sequence

import numpy as np

from privoxel.attacks.base import Attack, needs_models
from privoxel.cohort.base import Cohort
from privoxel.cohort.splits import EXCLUDED, Design, membership_of, training_scans, without_training_scans
from privoxel.config import RunConfig
from privoxel.errors import ConfigError, PrivoxelError
from privoxel.models import build_model, spec_of
from privoxel.recipes.adversaries import attack_streams, protocol_draws
from privoxel.recipes.canaries import unfit_for_canaries
from privoxel.recipes.course import course_faults
from privoxel.recipes.plan import attacks_on, plan_targets
from privoxel.recipes.shadow_plans import unsupported
from privoxel.recipes.target import TargetPlan, needed_signals
from privoxel.signals.extract import Extraction, check_signals
from privoxel.training.composing import check_privacy

FEWEST_LEAKED = 2
FEWEST_WITH_OTHER_SCANS = 2


def check_feasible(
    config: RunConfig, designs: Sequence[Design], attacks: Mapping[str, Attack], cohort: Cohort
) -> None:
    """Raise ``ConfigError`` with everything that would stop the run of ``config`` later."""
    faults = [
        fault
        for number, design in enumerate(designs, start=1)
        for fault in _protocol_faults(config, design, number, cohort)
    ]
    for plan in plan_targets(config, designs[:1]):
        faults += _model_faults(plan, attacks, config, cohort)
    if config.canaries is not None:
        unfit = unfit_for_canaries(attacks[config.attacks.primary])
        faults += [unfit] if unfit else []
    faults += _privacy_faults(plan_targets(config, designs), config)
    if faults:
        listed = "\n".join(f"  - {fault}" for fault in dict.fromkeys(faults))
        raise ConfigError(
            f"The run cannot work:\n{listed}\nCorrect the configuration, or give more participants."
        )


def _protocol_faults(config: RunConfig, design: Design, number: int, cohort: Cohort) -> list[str]:
    membership = membership_of(design, cohort.covariates)
    try:
        lacking = without_training_scans(cohort.covariates, config.split.train_sessions)
    except ConfigError as error:
        return [str(error)]
    if lacking:
        return [
            f"[split] train_sessions needs a scan of the sessions it names of everybody, got none of "
            f"{len(lacking)} participants ({lacking[0]} first). Leave them out, or give a number of sessions."
        ]
    trained = training_scans(cohort.covariates, config.split.train_sessions)
    judged = (membership != EXCLUDED) & trained
    people = cohort.covariates.participant_index[judged]
    try:
        streams, coin = attack_streams(config, number), config.split.coin
        draws = protocol_draws(membership[judged], people, config.attacks, streams, coin=coin)
    except PrivoxelError as error:
        return [str(error)]
    if config.split.train_sessions is not None:
        other = np.unique(cohort.covariates.participant_index[(membership == 1) & ~trained])
        if len(other) < FEWEST_WITH_OTHER_SCANS:
            return [
                f"[split] train_sessions = {config.split.train_sessions} needs members with other sessions "
                f"besides, got {len(other)} with any."
            ]
    members = membership[judged] == 1
    fewest = min(len(set(people[draw.leaked & group])) for draw in draws for group in (members, ~members))
    if fewest < FEWEST_LEAKED:
        return [
            f"The protocol {config.attacks.protocol} leaks {fewest} participant per class, attacks need 2."
        ]
    return []


def _model_faults(
    plan: TargetPlan, attacks: Mapping[str, Attack], config: RunConfig, cohort: Cohort
) -> list[str]:
    try:
        model = build_model(spec_of(plan.model), cohort.grid.shape, 60.0, 0)
        mine = attacks_on(plan, attacks, config)
        check_signals(model, Extraction(needed_signals(model, mine, config.signals.extra)))
        faults = course_faults(mine, plan, config)
        if any(map(needs_models, mine)):
            faults += unsupported(mine, plan, config).values()
    except PrivoxelError as error:
        return [str(error)]
    return faults


def _privacy_faults(plans: Sequence[TargetPlan], config: RunConfig) -> list[str]:
    """Return why targets cannot be trained privately; those of one size and length are looked at once."""
    if config.privacy is None:
        return []
    faults = []
    sizes = {(len(plan.trained_on), plan.model.epochs or config.training.epochs) for plan in plans}
    for participants, epochs in sorted(sizes):
        training = config.training.model_copy(update={"epochs": epochs})
        try:
            check_privacy(participants, training, config.privacy)
        except ConfigError as error:
            faults.append(str(error))
    return faults
