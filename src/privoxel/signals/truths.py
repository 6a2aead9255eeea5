"""What was true of each scan: its age, and what else a network was trained to predict."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from privoxel.arrays import FloatArray
from privoxel.cohort.base import Covariates
from privoxel.errors import SignalError


def true_values(people: Covariates, columns: Sequence[str], rows: npt.ArrayLike) -> FloatArray:
    """Return the ages of ``rows`` (scans,) in years; with ``columns`` (scans, 1 + columns), the ages first.

    Raises:
        SignalError: naming every column that is not there.
    """
    absent = [name for name in columns if name not in people.columns]
    if absent:
        raise SignalError(
            f"The loss needs columns of the cohort called {', '.join(absent)}, got "
            f"{', '.join(people.columns) or 'none'}. Add them by cohort.with_columns."
        )
    chosen = np.asarray(rows, dtype=np.int64)
    if not columns:
        return people.age[chosen]
    return np.stack([people.age[chosen], *(people.columns[name][chosen] for name in columns)], axis=1)
