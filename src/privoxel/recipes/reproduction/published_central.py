"""Numbers that Gupta et al., MIDL 2021, published of centrally trained models; fractions and years.

Table 1 is in ``recipes.published``. Tables as printed (means ± SD of five runs); the values of figures 1, 3,
7 and 8 as read off the paper's vector graphics.
"""

import csv
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import NamedTuple

TABLE_1_SD: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "cnn3d": {
            "error-forest": 0.0001,
            "gradient-magnitude": 0.0045,
            "gradient-conv1": 0.0064,
            "gradient-output": 0.0044,
            "gradient-conv6": 0.0057,
            "prediction-label": 0.0020,
            "combined": 0.0047,
        },
        "slice-mean": {
            "error-forest": 0.0000,
            "gradient-magnitude": 0.0017,
            "gradient-conv1": 0.0040,
            "gradient-output": 0.0029,
            "gradient-conv6": 0.0083,
            "prediction-label": 0.0029,
            "combined": 0.0050,
        },
    }
)
"""SD over five attacks that Table 1 prints; none for activations."""

THRESHOLDS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "cnn3d": {"abs-error": 0.690, "gradient-norm": 0.718},
        "slice-mean": {"abs-error": 0.787, "gradient-norm": 0.779},
    }
)
"""Balanced accuracy of the best threshold on the histograms of figure 1 (the gradient's is conv 1's)."""


class Errors(NamedTuple):
    """Mean absolute errors in years."""

    train: float
    test: float
    validation: float


TABLE_3: Mapping[str, Errors] = MappingProxyType(
    {"cnn3d": Errors(1.39, 3.13, 3.09), "slice-mean": Errors(0.77, 2.88, 2.92)}
)


class Spread(NamedTuple):
    """A distribution of signed errors (years): mean, SD and mean of the absolute values."""

    mean: float
    sd: float
    mean_abs: float


FIGURE_1: Mapping[str, tuple[Spread, Spread]] = MappingProxyType(
    {
        "cnn3d": (Spread(0.53, 1.84, 1.39), Spread(0.82, 3.87, 3.13)),
        "slice-mean": (Spread(-0.58, 0.76, 0.77), Spread(-0.48, 3.60, 2.89)),
    }
)
"""Errors of training and test scans."""

FIGURE_1_GRADIENTS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"cnn3d": (51.0, 202.0), "slice-mean": (110.0, 449.0)}
)
"""Median norm of the gradient of conv 1, training and test scans."""


class Shadow(NamedTuple):
    """Appendix E: accuracy and its SD on the target, and on held-out scans of the shadow."""

    target: float
    target_sd: float
    validation: float
    validation_sd: float


APPENDIX_E: Mapping[str, Shadow] = MappingProxyType(
    {"cnn3d": Shadow(0.7174, 0.0182, 0.7522, 0.0022), "slice-mean": Shadow(0.7439, 0.0214, 0.8546, 0.0024)}
)


class PrivatePoint(NamedTuple):
    """One private model; ``noise_multiplier`` is inferred from ε (δ = 1e-6), None where no round one fits."""

    log10_epsilon: float
    noise_multiplier: float | None
    test_mae: float
    gap: float
    accuracy: float
    r2: float


def published_private(model: str) -> tuple[PrivatePoint, ...]:
    """Return the private models of figures 3, 7 and 8, least noise first.

    >>> len(published_private("slice-mean")), len(published_private("cnn3d"))
    (15, 11)
    """
    text = files(__package__).joinpath("gupta2021_private.tsv").read_text(encoding="utf-8")
    return tuple(
        PrivatePoint(
            float(row["log10_epsilon"]),
            float(row["noise_multiplier"]) if row["noise_multiplier"] else None,
            float(row["test_mae"]),
            float(row["gap"]),
            round(float(row["accuracy"]) / 100, 4),
            float(row["r2"]),
        )
        for row in csv.DictReader(text.splitlines(), delimiter="\t")
        if row["model"] == model
    )
