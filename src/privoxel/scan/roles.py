"""What a name says of the values under it: a column about people, records of training, optimiser state."""

import re
from collections.abc import Sequence
from enum import StrEnum

FEWEST_VALUES = 8
OLDEST = 120.0


class Role(StrEnum):
    """What a column of a table of people holds."""

    AGE = "age"
    SEX = "sex"
    PARTICIPANT = "participant"
    SITE = "site"
    CLINICAL = "clinical"


_ROLES = {
    Role.AGE: (
        r"(?:chron(?:ological)?|true|real|subject|participant|patient|train(?:ing)?)?ages?"
        r"(?:atscan|atvisit|atmri|atbaseline|inyears|years|yrs|scan|mri|train|labels?)?|interviewage"
        r"|f?21003\d{2}|dateofbirth|birthdate|dob|yearofbirth"
    ),
    Role.SEX: r"sex|gender|isfemale|ismale|f?3100",
    Role.PARTICIPANT: (
        r"(?:participant|subject|subj|patient)(?:s|ids?|codes?|names?|keys?)?|subids?|f?eid|ptid|rid|mrn"
        r"|(?:train|training)(?:ids|subjects|participants)"
    ),
    Role.SITE: r"(?:site|center|centre|scanner|hospital)(?:id|name)?|f?5420",
    Role.CLINICAL: r"diagnosis|dx(?:group)?|mmse|moca|cdr|apoe4?|education|handedness|bmi|updrs|icd10?",
}
_WHOLE = {role: re.compile(pattern) for role, pattern in _ROLES.items()}
_PLAIN = re.compile(r"[^a-z0-9]")

RECORD_HOLDERS = {
    "_fit_X": "training rows of a nearest-neighbour model",
    "_fit_x": "training rows of a nearest-neighbour model",
    "_y": "training labels of a nearest-neighbour model",
    "X_train_": "training rows of a Gaussian process",
    "y_train_": "training labels of a Gaussian process",
    "X_fit_": "training rows of a kernel model",
    "support_vectors_": "support vectors: rows of the training table",
    "support_vectors": "support vectors: rows of the training table",
    "oob_prediction_": "out-of-bag predictions of the training set",
    "oob_decision_function_": "out-of-bag predictions of the training set",
    "X_train": "training rows",
    "x_train": "training rows",
    "y_train": "training labels",
    "train_data": "training rows",
    "training_data": "training rows",
    "train_ages": "training labels",
    "trainingData": "training table of an R model",
    "model.frame": "training table of an R model",
    "xmatrix": "training rows of a kernel model",
    "ymatrix": "training labels of a kernel model",
    "SV": "support vectors: rows of the training table",
    "residuals": "training residuals of an R model",
    "fitted.values": "fitted values of the training set",
    "linear.predictors": "fitted values of the training set",
    "oob.times": "out-of-bag record of the training set",
}
"""Names under which libraries keep rows of the training set."""

_OPTIMISER = re.compile(
    r"(?:.{0,80}[/._])?(?:optimi[sz]er_(?:state(?:s|_dict)?|weights)|exp_avg(?:_sq)?|max_exp_avg_sq"
    r"|momentum_buffer|square_avg|adam/[mv]|param_groups)"
)


def role_of(name: str) -> Role | None:
    """Return what a column of this name holds, None where it says nothing of people.

    >>> role_of("Age_at_scan"), role_of("language")
    (<Role.AGE: 'age'>, None)
    """
    if len(name) > 40:
        return None
    plain = _PLAIN.sub("", name.lower())
    return next((role for role, pattern in _WHOLE.items() if pattern.fullmatch(plain)), None)


def is_optimiser(name: str) -> bool:
    """Return whether a key of this name belongs to an optimiser's state, and not to its settings.

    >>> is_optimiser("optimizer_state_dict"), is_optimiser("0.exp_avg"), is_optimiser("optimizer")
    (True, True, False)
    """
    return len(name) <= 120 and _OPTIMISER.fullmatch(name) is not None


def look_like_ages(sample: Sequence[float]) -> bool:
    """Return whether some values of a column could be ages in years: spread, and all between 0 and 120."""
    if len(sample) < FEWEST_VALUES or not all(0.0 <= value <= OLDEST for value in sample):
        return False
    return len(set(sample)) >= 4 and max(sample) > 5.0
