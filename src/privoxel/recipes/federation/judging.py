"""Who is judged in a federation, and the resampling that all of its matrices share."""

from typing import NamedTuple

import numpy as np

from privoxel.arrays import FloatArray, IntArray
from privoxel.cohort.matching import age_matched
from privoxel.evaluation.pairs import DRAWS, Groups, PairDraws, pair_accuracies, pair_aucs
from privoxel.recipes.federation.attacking import Scores
from privoxel.recipes.federation.observing import Site


class Judge(NamedTuple):
    """Members and non-members of every victim, and how often each scan is drawn."""

    groups: Groups
    weights: FloatArray

    def accuracies(self, scores: Scores) -> PairDraws:
        """Return the balanced accuracy of every attacker on every victim."""
        return pair_accuracies(scores.values, scores.thresholds, self.groups, self.weights)

    def aucs(self, scores: FloatArray) -> PairDraws:
        """Return the AUC of every attacker on every victim; ``scores`` are attackers × scans."""
        return pair_aucs(scores, self.groups, self.weights)

    def own_aucs(self, scores: FloatArray) -> PairDraws:
        """Return the AUC of row v of ``scores`` on victim v, the only pairs there are."""
        values = self.aucs(scores).values
        is_own = np.eye(values.shape[1], dtype=np.bool_)
        return PairDraws(np.where(is_own, values, np.nan), self.groups)


def judge_of(site: Site, judged: IntArray) -> Judge:
    """Return the judge of all learners against the ``judged`` unseen scans."""
    victims = tuple(site.rows(name) for name in site.partition.learners)
    return _judge(site, Groups(victims, (judged,) * len(victims), _people(site)), "bootstrap")


def matched_judge_of(site: Site, judged: IntArray) -> Judge:
    """Return the judge under which every victim meets only unseen participants of its members' ages."""
    ages, rng = site.cohort.covariates.age, site.streams.generator("federation/matched")
    members, unseen = [], []
    for name in site.partition.learners:
        rows = site.rows(name)
        match = age_matched(ages[judged], ages[rows], rng, caliper=site.config.attack.caliper)
        members.append(np.sort(rows[match.reference]))
        unseen.append(np.sort(judged[match.unseen]))
    return _judge(site, Groups(tuple(members), tuple(unseen), _people(site)), "bootstrap-matched")


def _judge(site: Site, groups: Groups, stream: str) -> Judge:
    return Judge(groups, groups.weights(site.streams.generator(f"federation/{stream}"), DRAWS))


def _people(site: Site) -> IntArray:
    return site.cohort.covariates.participant_index
