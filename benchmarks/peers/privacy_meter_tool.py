"""ML Privacy Meter: ``run_rmia`` on Gaussian likelihoods exp(−r²/2s²), with its default a = 0.3.

Its own likelihood is a softmax, which a regressor has not; everything else is its code.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

Given = Mapping[str, NDArray[np.float64]]


def _its_code() -> ModuleType:
    place = Path(sys.prefix) / "privacy_meter_rmia.py"
    spec = importlib.util.spec_from_file_location("privacy_meter_rmia", place)
    if spec is None or spec.loader is None:
        raise ImportError(f"Privacy Meter's rmia.py is needed at {place}. Run environment.py.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rmia(count: int, given: Given) -> NDArray[np.float64]:
    """Return its RMIA score with ``count`` references, all of them outside."""

    def likelihood(name: str) -> NDArray[np.float64]:
        return np.exp(-np.square(given[name] / given["scale"]) / 2.0)

    models = likelihood("reference_residual")[:count].T
    return np.asarray(
        _its_code().run_rmia(
            likelihood("residual"),
            models,
            np.zeros(models.shape, dtype=bool),
            likelihood("unseen_residual"),
            likelihood("reference_unseen_residual")[:count].T,
            0.3,
            count,
        )
    )


ATTACKS: dict[str, Callable[[Given], NDArray[np.float64]]] = {
    "privacy-meter:rmia": partial(rmia, 4),
    "privacy-meter:rmia-2": partial(rmia, 2),
}
