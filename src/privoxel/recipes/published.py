"""Numbers published by Gupta et al., MIDL 2021, that a report prints beside its own.

Table 1: accuracy of attacks on centrally trained models, 1,500 + 1,500 leaked and 694 + 694
evaluated UK Biobank participants, mean over five attacks; fractions here.
"""

from collections.abc import Mapping

TABLE_1: Mapping[str, Mapping[str, float]] = {
    "cnn3d": {
        "activation": 0.5663,
        "error-forest": 0.5990,
        "gradient-magnitude": 0.7260,
        "gradient-conv1": 0.7101,
        "gradient-output": 0.7665,
        "gradient-conv6": 0.7696,
        "prediction-label": 0.7645,
        "combined": 0.7805,
    },
    "slice-mean": {
        "error-forest": 0.7406,
        "gradient-magnitude": 0.7834,
        "gradient-conv1": 0.8052,
        "gradient-output": 0.8216,
        "gradient-conv6": 0.8289,
        "prediction-label": 0.8170,
        "combined": 0.8304,
    },
}


def published_accuracy(model: str, attack: str) -> float | None:
    """Return the paper's accuracy of ``attack`` on ``model``, or None where it printed none."""
    return TABLE_1.get(model, {}).get(attack)
