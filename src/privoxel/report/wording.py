"""What the report says in words: meanings of controls, limits, settings as readable lines."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from privoxel.evaluation.results import CohortSummary, GroupLine, Metric, Results, SessionCount

_MEANINGS = (
    (
        ("covariates_best",),
        "The most that age, sex and site could tell: by one who knows everybody but those judged, or by age "
        "itself. Where the control before is above guessing, or the interval of this one, a leak is what an "
        "attack has over this one. As the best of three it lies a little above guessing even where there is "
        "nothing to find.",
    ),
    (
        ("covariat", "age_only", "age-only"),
        "Guesses membership from age, sex and site, without the model. Above guessing, members and "
        "non-members are different people to begin with, and that much of any attack's success is not the "
        "model's doing.",
    ),
    (
        ("target", "retrain", "without", "never"),
        "The same attack on a model that never saw the “members”. Above guessing, the audit itself finds "
        "differences that are not memorisation.",
    ),
    (
        ("null", "pseudo", "shuffl"),
        "Non-members split in two, one half called members. There is nothing to find: a value away from "
        "guessing would be a fault of the audit.",
    ),
)

_GENERAL_MEANING = (
    "A check that should not beat guessing. If it does, read the attacks above with that much doubt."
)

_SIMULATED = (
    "The scans are simulated. The numbers show that the method works; they do not transfer to people."
)
_REAL = (
    "Real participants: ages in the scatter are rounded to whole years, but one point is one scan. Handle "
    "this file as participant-level information."
)
_PAPER = (
    "The paper's values come from its own cohort (UK Biobank, 7,312 members) and full-size networks. They "
    "stand here for comparison, not as a target."
)

_ABBREVIATIONS = {"mae": "MAE", "auc": "AUC", "tpr": "TPR", "fpr": "FPR", "n": "number of"}
_WHOLE_KEYS = {"number": "design number", "participants.others": "left to other uses"}
_SAID_ELSEWHERE = (
    "model",
    "n_members",
    "n_non_members",
    "n_excluded",
    "repeats",
    "participants.members",
    "participants.non_members",
)
NULL_UTILITY = "null_target_mae"
"""Key of a design that holds the ``Utility`` of the model trained without the members."""


def cohort_title(cohort: CohortSummary) -> str:
    """Return the cohort's name, saying that it is simulated where the name does not."""
    if cohort.is_simulated and "simulated" not in cohort.name.lower():
        return f"{cohort.name} (simulated)"
    return cohort.name


def control_meaning(name: str) -> str:
    """Return in one or two sentences what the control ``name`` tells."""
    key = name.lower()
    return next((text for words, text in _MEANINGS if any(word in key for word in words)), _GENERAL_MEANING)


def control_meanings(names: Sequence[str]) -> list[str]:
    """Return the meaning of each control, empty where the one before says the same."""
    meanings = [control_meaning(name) for name in names]
    return [
        "" if place and meaning == meanings[place - 1] else meaning for place, meaning in enumerate(meanings)
    ]


def design_facts(design: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a membership design as (words, value), without what the page says elsewhere."""
    kept = {key: value for key, value in design.items() if key not in (NULL_UTILITY, *_SAID_ELSEWHERE)}
    return [(spoken(key), value) for key, value in flat(kept) if key not in _SAID_ELSEWHERE]


def sentence_of_auc(auc: Metric | None) -> str:
    """Return what an AUC means in words a board can use."""
    if auc is None or auc.value is None:
        return "Not measured."
    return f"Ranks a member above a non-member {100 * auc.value:.0f} % of the time. Guessing is 0.50."


def sentence_of_rates(rate: Metric | None) -> str:
    """Return a true-positive rate at 5 % false alarms as counts of people, or why there is none."""
    if rate is None or rate.value is None:
        reason = rate.reason if rate is not None else ""
        return f"Not measured: {reason}." if reason else "Not measured."
    found = round(100 * rate.value)
    return (
        f"Of 100 members about {found} are named, while 5 of 100 non-members are accused. Guessing names 5."
    )


def group_name(line: GroupLine) -> str:
    """Return a group of people in words: "60-69, women, site A"."""
    if line.age_band == line.sex == line.site == "all other":
        return "everyone else"
    sex = {"F": "women", "M": "men", "unknown": "sex unknown", "all other": "all others"}
    site = "other sites" if line.site == "all other" else f"site {line.site}"
    parts = [line.age_band.replace("-", "–"), sex.get(line.sex, line.sex)]
    return ", ".join(parts if line.sex == "all other" else [*parts, site])


def limits(results: Results) -> list[str]:
    """Return what this report cannot say, for this cohort and this many attacks."""
    rows = max((len(target.attacks) for target in results.targets), default=0)
    found = [
        "An audit shows leaks; it cannot show that there are none. Attacks not listed here, or adversaries "
        "who know more, may do better.",
        "Intervals cover the choice of the participants judged, not another training of the model nor, for "
        "attacks that learn, adversaries who know other people, unless several targets are averaged.",
        "Members and non-members must come from the same population; the covariates-only check tests it only "
        "for what was recorded (age, sex, site).",
    ]
    if rows > 1:
        found.insert(
            1,
            f"The best of {rows} rows is a selected maximum and overstates; only the interval that is said "
            "to be widened for the choice may be quoted. The verdict rests on the primary attack; where that "
            "shows no leak, on the best attack of the same access with that wider interval.",
        )
    found.append(_SIMULATED if results.cohort.is_simulated else _REAL)
    if any(m.paper is not None for t in results.targets for a in t.attacks for m in a.metrics.values()):
        found.append(_PAPER)
    return found


def flat(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return nested settings as (dotted key, value) lines in their own order; what is null is "not set"."""
    return list(_lines(settings, ""))


def spoken(key: str) -> str:
    """Return a setting's key as words: ``leaked_per_class`` is "leaked per class"."""
    if key in _WHOLE_KEYS:
        return _WHOLE_KEYS[key]
    return " ".join(_ABBREVIATIONS.get(word, word) for word in key.replace(".", ": ").split("_"))


def _lines(settings: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _lines(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _value(value)


def _value(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "not set"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value or "(empty)"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value)) or "(empty)"
    return json.dumps(value, default=str)


def trained_sessions_in_words(counts: Sequence[SessionCount]) -> str:
    """Return which sessions counted as trained on, and of how many people each.

    >>> trained_sessions_in_words([SessionCount(label="1", participants=80)])
    'Counted as trained on: session 1 (80 people).'
    """
    said = (f"{_session(one.label)} ({_people(one.participants)})" for one in counts)
    return f"Counted as trained on: {', '.join(said)}."


def _session(label: str | None) -> str:
    if label is None:
        return "sessions of few people each"
    return f"session {label}" if label else "scans without a session"


def _people(number: int) -> str:
    return "1 person" if number == 1 else f"{number:,} people"
