"""The privacy card: what a release says of its audit, for machines (JSON) and for model cards (Markdown).

It holds the verdict and the numbers behind it, never anything about a participant: who is exposed is said
of groups of at least ``smallest_group`` people, in bands of age. The JSON schema is
``privacy_card_schema()``, installed beside this module for other languages' readers.
"""

import json
import math
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from privoxel.evaluation.results import (
    AttackResult,
    GroupLine,
    Metric,
    PrivacyLoss,
    Results,
    RiskSummary,
    Target,
)
from privoxel.evaluation.verdict import DISCLAIMER
from privoxel.report.wording import group_name, limits

CARD_VERSION = "1.3"
SPENT = "privacy_"
"""What the names of facts about a private training begin with in a design."""
PUBLISHED = ("auc", "balanced_accuracy", "tpr_at_fpr_0.01", "tpr_at_fpr_0.05")
TITLES = {
    "auc": "AUC",
    "balanced_accuracy": "Balanced accuracy",
    "tpr_at_fpr_0.01": "Members found at 1 % false alarms",
    "tpr_at_fpr_0.05": "Members found at 5 % false alarms",
}


class Part(BaseModel):
    """A part of a card: frozen, unknown fields refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Interval(Part):
    """A number with its interval, all fractions; null where the audit could not support one."""

    value: float | None
    low: float | None
    high: float | None
    level: float = 0.95


class Privacy(Part):
    """What a differentially private training guarantees to each participant, as its accountant has it."""

    epsilon: float | None = Field(
        description="upper bound; null where it is infinite. With seeded randomness only what secret noise "
        "would give"
    )
    delta: float
    accountant: str
    unit: str = Field(description="who is protected: participant, with all of their scans")
    guarantee: str = Field(description="the same in words, and to whom there is none")
    randomness: Literal["secret", "secure", "seeded"] = Field(
        description="of noise and sampling: generators seeded by the operating system, a cipher, or the "
        "run's seed, which gives no guarantee to anybody who knows it"
    )
    secure_noise: bool = Field(description="whether the noise comes from a cryptographic generator")
    noise: str = Field(description="where the noise comes from, in a sentence")


class ShownLoss(Part):
    """What the primary attack shows of ε, without any word of an accountant; 0 where it shows nothing."""

    on: Literal["participants", "canaries"]
    epsilon: float = Field(
        description="lower bound; 95 % sure of all bounds of the audit together, never evidence of privacy"
    )
    delta: float
    members: int
    non_members: int


class Subject(Part):
    """One audited model under one membership design; errors in years."""

    name: str
    model: str
    members: int = Field(description="participants whose data trained the model")
    non_members: int
    mae_members: float
    mae_non_members: float | None
    mae_of_predicting_the_mean: float
    primary_attack: dict[str, Interval]
    covariates_only_auc: Interval | None = Field(
        None,
        description="what age, sex and site reach without the model, to one told of as few people as the "
        "attacker; above 0.5 the groups differ as people",
    )
    covariates_best_auc: Interval | None = Field(
        None,
        description="the most that age, sex and site could reach; a little above 0.5 even where nothing "
        "differs; the excess of an attack is counted over it",
    )
    privacy: Privacy | None = Field(
        None,
        description="null for a model that was not trained with differential privacy, or not by privoxel",
    )
    epsilon_shown: list[ShownLoss] = Field(
        [], description="empty where too few people were judged for it, or members are others as people"
    )


class Group(Part):
    """Members alike in age, sex and site, and the mean probability that the adversary assigns them."""

    people: str = Field(description="band of age in years, sex, site; groups that are too small are merged")
    participants: int
    probability: Interval


class Exposure(Part):
    """Who is exposed by one model, in groups none of which is smaller than ``smallest_group``."""

    model: str
    attack: str
    smallest_group: int
    mean_members: float = Field(description="mean membership probability of members, at even prior odds")
    mean_non_members: float
    groups: list[Group]


class PrivacyCard(Part):
    """What a release may say of its membership-inference audit."""

    schema_version: str = CARD_VERSION
    tool: str
    created: str
    title: str
    outcome: Literal["leak shown", "no leak above the limit", "inconclusive", "refused"]
    statement: str
    reasons: list[str]
    primary_attack: str
    access: str
    auc: Interval | None = Field(description="of the verdict, over all subjects of the gravest model")
    tolerated_auc: float
    minimal_detectable_auc: float | None
    attacks_run: list[str]
    subjects: list[Subject]
    exposure: list[Exposure] = Field(
        [], description="one a model; empty where no probability could be given to groups of that size"
    )
    limits: list[str]
    disclaimer: str = DISCLAIMER


def privacy_card(results: Results) -> PrivacyCard:
    """Return the card of a finished audit."""
    verdict = results.verdict
    attacks = [attack for target in results.targets for attack in target.attacks]
    primary = next((attack for attack in attacks if attack.name == verdict.primary_attack), None)
    return PrivacyCard(
        tool=f"privoxel {results.versions.get('privoxel', '')}".strip(),
        created=results.created,
        title=results.title,
        outcome=verdict.outcome,
        statement=verdict.sentence,
        reasons=verdict.reasons,
        primary_attack=verdict.primary_attack,
        access="" if primary is None else primary.threat_model,
        auc=_interval(verdict.auc),
        tolerated_auc=verdict.tolerated_auc,
        minimal_detectable_auc=verdict.minimal_detectable_auc,
        attacks_run=list(dict.fromkeys(attack.name for attack in attacks)),
        subjects=[_subject(target, verdict.primary_attack) for target in results.targets],
        exposure=[found for found in map(_exposure, results.risk) if found is not None],
        limits=[line for line in limits(results) if "this file" not in line],
    )


def _subject(target: Target, primary: str) -> Subject:
    attack = _named(target.attacks, primary)
    few, best = (_named(target.controls, f"covariates_{kind}") for kind in ("only", "best"))
    metrics = {} if attack is None else attack.metrics
    found = {name: _interval(metrics.get(name)) for name in PUBLISHED}
    return Subject(
        name=target.name,
        model=target.model,
        members=target.n_members,
        non_members=target.n_non_members,
        mae_members=target.utility.members,
        mae_non_members=target.utility.non_members,
        mae_of_predicting_the_mean=target.utility.null,
        primary_attack={name: interval for name, interval in found.items() if interval is not None},
        covariates_only_auc=None if few is None else _interval(few.metrics.get("auc")),
        covariates_best_auc=None if best is None else _interval(best.metrics.get("auc")),
        privacy=_privacy(target.design.get("defence", {})),
        epsilon_shown=[_shown(loss, loss.lower) for loss in target.epsilon if loss.lower is not None],
    )


def _shown(loss: PrivacyLoss, lower: float) -> ShownLoss:
    return ShownLoss(
        on=loss.on,
        epsilon=lower,
        delta=loss.delta,
        members=loss.n_members,
        non_members=loss.n_non_members,
    )


def _exposure(risk: RiskSummary) -> Exposure | None:
    """Return what may be published of the participants' risk, the most exposed group first."""
    if risk.mean_members is None or risk.mean_non_members is None or not risk.groups:
        return None
    return Exposure(
        model=risk.model,
        attack=risk.attack,
        smallest_group=risk.smallest_group,
        mean_members=risk.mean_members,
        mean_non_members=risk.mean_non_members,
        groups=[_group(line) for line in sorted(risk.groups, key=lambda line: -line.probability)],
    )


def _group(line: GroupLine) -> Group:
    probability = Interval(value=line.probability, low=line.low, high=line.high)
    return Group(people=group_name(line), participants=line.participants, probability=probability)


def _privacy(facts: Mapping[str, str]) -> Privacy | None:
    """Return what a training spent, from the facts that its target's design holds."""
    said = {name.removeprefix(SPENT): value for name, value in facts.items() if name.startswith(SPENT)}
    if not said:
        return None
    epsilon = float(said["epsilon"])
    secure = said["randomness"] == "secure"
    kept = {name: said[name] for name in Privacy.model_fields if name in said}
    return Privacy.model_validate(
        {"noise": "", **kept, "epsilon": epsilon if math.isfinite(epsilon) else None, "secure_noise": secure}
    )


def _named(attacks: list[AttackResult], name: str) -> AttackResult | None:
    return next((attack for attack in attacks if attack.name == name), None)


def _interval(metric: Metric | None) -> Interval | None:
    if metric is None:
        return None
    return Interval(value=metric.value, low=metric.low, high=metric.high, level=metric.level)


def card_markdown(card: PrivacyCard) -> str:
    """Return the card as a section for a model card (Hugging Face, MONAI Model Zoo)."""
    lines = [
        "## Privacy: membership-inference audit",
        "",
        f"**{card.outcome.capitalize()}.** {card.statement} *{card.disclaimer}*",
        "",
        f"| {card.primary_attack} ({card.access}) | " + " | ".join(s.name for s in card.subjects) + " |",
        "|---" * (len(card.subjects) + 1) + "|",
        *(_row(title, [s.primary_attack.get(key) for s in card.subjects]) for key, title in TITLES.items()),
        _row("AUC of age, sex and site, told of as few", [s.covariates_only_auc for s in card.subjects]),
        _row("AUC of age, sex and site at their best", [s.covariates_best_auc for s in card.subjects]),
        "| Members, non-members | "
        + " | ".join(f"{s.members}, {s.non_members}" for s in card.subjects)
        + " |",
        "| MAE of members, others, the mean (years) | "
        + " | ".join(_errors(subject) for subject in card.subjects)
        + " |",
        "",
        *(f"- {reason}" for reason in card.reasons),
        *_private_lines(card.subjects),
        *_shown_lines(card.subjects),
        *(line for exposure in card.exposure for line in _exposure_lines(exposure)),
        f"- Tolerated AUC: {card.tolerated_auc:g}. {len(card.attacks_run)} attacks were run; the verdict "
        f"rests on `{card.primary_attack}`, chosen beforehand.",
        *(f"- {line}" for line in card.limits),
        "",
        f"Audited with {card.tool}, {card.created[:10]}. Intervals are 95 % over participants.",
    ]
    return "\n".join(lines) + "\n"


def _private_lines(subjects: list[Subject]) -> list[str]:
    """Return a line for each guarantee, with the models it is of."""
    names: dict[tuple[str, str, str], list[str]] = {}
    for one in subjects:
        if one.privacy is not None:
            said = (one.privacy.unit, one.privacy.guarantee, one.privacy.noise)
            names.setdefault(said, []).append(one.name)
    return [
        f"- Differentially private training of {', '.join(of)}, for each {unit}: {guarantee}. {noise}"
        for (unit, guarantee, noise), of in names.items()
    ]


def _shown_lines(subjects: list[Subject]) -> list[str]:
    """Return a line for each bound above 0: that nothing was shown is no news of a release."""
    return [
        f"- The training of {one.name} loses more privacy than ε = {loss.epsilon:.2f} at δ = {loss.delta:g}, "
        f"as the attack shows on its {loss.on} (95 % confidence; the truth may be far above)."
        for one in subjects
        for loss in one.epsilon_shown
        if loss.epsilon > 0.0
    ]


def _exposure_lines(exposure: Exposure) -> list[str]:
    """Return the exposed groups as a nested list."""
    head = (
        f"- Mean membership probability that `{exposure.attack}` assigns on {exposure.model}: "
        f"{exposure.mean_members:.2f} to members, {exposure.mean_non_members:.2f} to others (0.50 without a "
        f"leak). Members in groups of at least {exposure.smallest_group} people:"
    )
    return [
        head,
        *(
            f"  - {group.people}: {_cell(group.probability)}, {group.participants} people"
            for group in exposure.groups
        ),
    ]


def _row(title: str, intervals: list[Interval | None]) -> str:
    return f"| {title} | " + " | ".join(map(_cell, intervals)) + " |"


def _cell(interval: Interval | None) -> str:
    if interval is None or interval.value is None:
        return "not supported"
    if interval.low is None or interval.high is None:
        return f"{interval.value:.2f}"
    return f"{interval.value:.2f} ({interval.low:.2f}-{interval.high:.2f})"


def _errors(subject: Subject) -> str:
    shown = (subject.mae_members, subject.mae_non_members, subject.mae_of_predicting_the_mean)
    return ", ".join("n/a" if value is None else f"{value:.1f}" for value in shown)


def privacy_card_schema() -> dict[str, Any]:
    """Return the JSON schema of ``privacy_card.json``."""
    dialect, own = "https://json-schema.org/draft/2020-12/schema", "urn:privoxel:privacy-card:1"
    return {"$schema": dialect, "$id": own, **PrivacyCard.model_json_schema()}


def shipped_card_schema() -> dict[str, Any]:
    """Return the schema that is installed beside this module."""
    text = files(__package__).joinpath("privacy_card.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
