"""An audit of a model of a table of features: which columns it reads, and what is missing in them."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np

from privoxel.arrays import BoolArray
from privoxel.cohort.base import Cohort
from privoxel.cohort.features import FeatureTable, choose_columns, load_features
from privoxel.cohort.memberships import Grouped
from privoxel.cohort.splits import EXCLUDED, MEMBER
from privoxel.errors import ConfigError, ModelError
from privoxel.evaluation.balance import NOTABLE, categorical_difference
from privoxel.models.predictor import Predictor
from privoxel.recipes.brought_settings import Brought
from privoxel.recipes.predictions import black_box_attacks
from privoxel.recipes.queried import Asking, states_of
from privoxel.signals.answers import Inputs

logger = logging.getLogger(__name__)


def columns_read(
    predictor: Predictor, table: FeatureTable, name: str, features: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return the columns of ``table`` that a model reads, in its order; ``features`` are those asked for.

    Raises:
        ConfigError: if they are not in the table, or cannot be told.
        ModelError: if the model does not read a table.
    """
    shape = predictor.input_shape
    if shape is not None and len(shape) != 2:
        raise ModelError(
            f"{name} needs inputs of {len(shape)} axes, got a table of features (2 axes). Give it scans."
        )
    named = getattr(predictor, "columns", None)
    columns = choose_columns(table, features, named, None if shape is None else shape[1])
    if shape is None:
        _try(predictor, len(columns), name)
    return columns


def _try(predictor: Predictor, columns: int, name: str) -> None:
    """Ask about one made-up line, so that a model of scans fails before anybody's line is read.

    Raises:
        ConfigError: if the model has no answer.
    """
    try:
        predictor.predict(np.zeros((1, columns)))
    except ModelError as error:
        raise ConfigError(
            f"{name} needs to run on a line of {columns} features, got an error. If it reads scans, --cohort "
            f"needs a BIDS folder, or a table whose column 'path' names their files. It said: {error}"
        ) from error


@final
class FeatureReader:
    """Reads a table of features for one model, as cohorts are read: faults are the cohort's problems."""

    def __init__(self, predictor: Predictor, name: str, asked: Sequence[str] = ()) -> None:
        self.predictor, self.name, self.asked = predictor, name, asked
        self.columns: tuple[str, ...] = ()

    def __call__(self, path: Path, /, *, skip_bad: bool) -> Cohort:
        """Return the people of the table whose cells the model can read."""
        return self.keep(load_features(path, skip_bad=skip_bad)).cohort

    def keep(self, table: FeatureTable) -> FeatureTable:
        """Return what the model reads of a table that is loaded already."""
        self.columns = columns_read(self.predictor, table, self.name, self.asked)
        self.table = table.without_texts(self.columns)
        return self.table


def brought_tabular(
    predictor: Predictor, table: FeatureTable, grouped: Grouped, name: str, columns: Sequence[str]
) -> Brought:
    """Return what a model of a table of features gives an audit; ``columns`` are those that it reads."""
    values = table.read(columns)
    row_of = {scan: row for row, scan in enumerate(table.cohort.covariates.scans)}

    def inputs_of(cohort: Cohort) -> tuple[Inputs, int]:
        own = values[[row_of[scan] for scan in cohort.covariates.scans]]
        return (lambda rows: own[rows]), 0

    judged = grouped.cohort.select(grouped.scan_states != EXCLUDED)
    members = grouped.scan_states[grouped.scan_states != EXCLUDED] == MEMBER
    missing = note_on_missing(np.isnan(inputs_of(judged)[0](np.arange(len(judged)))), members)
    return Brought(
        kind="model",
        name=name,
        cohort=grouped.cohort,
        states=states_of(grouped),
        attacks=black_box_attacks(),
        observe=Asking(predictor, inputs_of),
        facts={**predictor.facts, "features": len(columns), "columns": list(columns[:20])},
        notes=(*grouped.notes, *missing),
    )


def note_on_missing(missing: BoolArray, members: BoolArray) -> tuple[str, ...]:
    """Return a sentence on missing cells by group, which warns where the groups differ; none where none is.

    Args:
        missing: scans × columns that the model reads.
        members: which of the scans are members'.

    What is missing more often in one group tells that group, whatever the model learnt. The difference is
    that of scans with a missing cell, or of the column that differs most, standardised.
    """
    if not missing.any():
        return ()
    said = " and ".join(
        f"{np.count_nonzero(missing[rows]):,} of {missing[rows].size:,} cells of {who} "
        f"({100 * missing[rows].mean():.1f} %, in {np.count_nonzero(missing[rows].any(axis=1)):,} of "
        f"{np.count_nonzero(rows):,} scans)"
        for rows, who in ((members, "members"), (~members, "non-members"))
    )
    note = f"Among the features that the model reads, {said} are missing."
    ever = missing[:, missing.any(axis=0)]
    gaps = [_gap(column, members) for column in (missing.any(axis=1), *ever.T)]
    if max(gaps) > NOTABLE:
        note += (
            " Warning: the two groups differ in what is missing (standardised difference "
            f"{_shown(max(gaps))}), and an attack may live on that alone. Fill such cells "
            "in both groups alike, or leave the columns out."
        )
        logger.warning("%s", note)
    return (note,)


def _gap(flags: BoolArray, members: BoolArray) -> float:
    """Return the standardised difference of two shares, infinite where all differ."""
    found = categorical_difference(flags.astype(np.str_), members)
    return float("inf") if found is None else found


def _shown(gap: float) -> str:
    return f"{gap:.2f}" if np.isfinite(gap) else "beyond measure"
