"""Numbers that Gupta et al., MIDL 2021, published of their federations; fractions and years.

Tables 2, 4, 5, 6 and 7 as printed (means of five runs); the curves of figures 2 and 5 as read off the
paper's vector graphics. Environments carry privoxel's names, models the registry's.
"""

import csv
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import NamedTuple

IID, NON_IID, SKEWED = "uniform-iid", "uniform-non-iid", "skewed-non-iid"
ENVIRONMENTS = (IID, NON_IID, SKEWED)


class Successes(NamedTuple):
    """Mean accuracy of the pairs above one half, their number of 56, and the SD over five runs."""

    accuracy: float
    pairs: int
    sd: float


TABLE_5: Mapping[tuple[str, str, int], Successes] = MappingProxyType(
    {
        ("cnn3d", IID, 1): Successes(0.6008, 56, 0.0006),
        ("cnn3d", NON_IID, 1): Successes(0.5775, 30, 0.0015),
        ("cnn3d", SKEWED, 1): Successes(0.5901, 29, 0.0034),
        ("slice-mean", IID, 1): Successes(0.5815, 56, 0.0007),
        ("slice-mean", NON_IID, 1): Successes(0.5527, 37, 0.0003),
        ("slice-mean", SKEWED, 1): Successes(0.5855, 24, 0.0034),
        ("cnn3d", IID, 2): Successes(0.6009, 56, 0.0006),
        ("cnn3d", NON_IID, 2): Successes(0.5997, 30, 0.0029),
        ("cnn3d", SKEWED, 2): Successes(0.6359, 26, 0.0035),
        ("slice-mean", IID, 2): Successes(0.5804, 56, 0.0023),
        ("slice-mean", NON_IID, 2): Successes(0.6041, 29, 0.0022),
        ("slice-mean", SKEWED, 2): Successes(0.6373, 25, 0.0027),
        ("cnn3d", IID, 3): Successes(0.6006, 56, 0.0004),
        ("cnn3d", NON_IID, 3): Successes(0.6100, 28, 0.0047),
        ("cnn3d", SKEWED, 3): Successes(0.6412, 25, 0.0052),
        ("slice-mean", IID, 3): Successes(0.5811, 56, 0.0022),
        ("slice-mean", NON_IID, 3): Successes(0.6028, 29, 0.0073),
        ("slice-mean", SKEWED, 3): Successes(0.6381, 24, 0.0055),
    }
)
"""By model, environment and feature set; set 3 is Table 2."""

TABLE_4: Mapping[tuple[str, str], tuple[float, float]] = MappingProxyType(
    {
        ("cnn3d", IID): (2.16, 3.01),
        ("cnn3d", NON_IID): (3.41, 3.81),
        ("cnn3d", SKEWED): (2.83, 3.47),
        ("slice-mean", IID): (1.81, 2.76),
        ("slice-mean", NON_IID): (2.40, 2.98),
        ("slice-mean", SKEWED): (2.42, 3.10),
    }
)
"""MAE on the learners' scans and on the test set, years."""

_FIGURE_2_CNN3D = (
    "50.4 50.4 50.2 50.4 50.4 50.6 50.6 51.0 51.1 52.0 52.0 53.3 54.4 54.9 55.8 56.2 57.0 57.6 58.0 58.6 "
    "59.2 59.7 60.0 60.5 61.35"
)
_FIGURE_2_SLICES = (
    "50.6 50.5 50.4 50.6 50.7 50.9 50.9 51.0 50.7 51.3 51.0 51.1 50.9 50.9 51.4 51.4 51.6 51.9 51.6 52.6 "
    "53.0 53.0 53.0 53.0 53.7 54.6 54.6 54.8 55.3 55.8 56.4 56.4 56.1 57.1 57.5 57.6 57.5 58.7 58.0 58.5"
)
FIGURE_2: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        name: tuple(round(float(value) / 100, 4) for value in text.split())
        for name, text in (("cnn3d", _FIGURE_2_CNN3D), ("slice-mean", _FIGURE_2_SLICES))
    }
)
"""Accuracy by round, uniform & IID, set 3; the first value is the paper's round 0."""

FIGURE_5_ROUNDS = (1, 5, 10, 15, 20, 25, 30, 35, 40)
FIGURE_5: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        IID: (6.23, 5.30, 3.78, 3.15, 2.91, 2.84, 2.80, 2.78, 2.76),
        NON_IID: (6.23, 5.83, 4.66, 3.90, 3.47, 3.16, 3.03, 3.00, 2.99),
        SKEWED: (6.22, 5.89, 4.51, 3.84, 3.42, 3.20, 3.13, 3.11, 3.10),
    }
)
"""2D-slice-mean: test MAE (years) at the rounds of ``FIGURE_5_ROUNDS``."""

FIGURE_4: Mapping[str, tuple[tuple[int, float, float], ...]] = MappingProxyType(
    {
        IID: (
            (1097, 62.63, 7.57),
            (1037, 62.64, 7.42),
            (1037, 62.62, 7.39),
            (1037, 62.63, 7.39),
            (1037, 62.65, 7.40),
            (1037, 62.65, 7.39),
            (1037, 62.65, 7.39),
            (1037, 62.63, 7.39),
        ),
        NON_IID: (
            (1045, 68.79, 5.19),
            (1045, 65.76, 5.31),
            (1045, 60.48, 5.60),
            (1045, 55.37, 5.17),
            (1044, 68.81, 4.95),
            (1044, 66.00, 5.36),
            (1044, 60.54, 5.87),
            (1044, 55.36, 5.23),
        ),
        SKEWED: (
            (2401, 66.46, 4.87),
            (1765, 64.50, 5.25),
            (1303, 58.37, 5.37),
            (964, 53.45, 3.66),
            (714, 70.82, 4.11),
            (528, 65.91, 6.73),
            (391, 56.54, 6.10),
            (290, 51.57, 3.40),
        ),
    }
)
"""Participants, mean age and SD (years) of L1 to L8."""


def published_pairs(model: str, environment: str) -> Mapping[tuple[str, str], float]:
    """Return the paper's accuracy by (attacker, victim): 56 cells of Table 6 or 7, or none.

    >>> len(published_pairs("cnn3d", "uniform-iid"))
    56
    """
    text = files(__package__).joinpath("gupta2021_pairs.tsv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    return {
        (row["attacker"], row["victim"]): round(float(row["accuracy"]) / 100, 4)
        for row in rows
        if (row["model"], row["environment"]) == (model, environment)
    }
