"""scikit-learn regressors from files: skops by default, a pickle only of the user's own.

A skops file names its types; those that scikit-learn and NumPy bring are built, any other is refused by name.
A pickle runs whatever code is in it, so that it is loaded only when the user says that the file is trusted.
"""

import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import pandas as pd

from privoxel.arrays import FloatArray
from privoxel.errors import ConfigError, ModelError
from privoxel.models.predictor import Batch, FileFormat, digest_of, foreign, one_age_each

LEFT_TO_USER = re.compile(
    r"sklearn\.(tree\._tree|neighbors\._(kd|ball)_tree|metrics\._dist_metrics|_loss\._loss|_loss\.link|_loss\.loss"
    r"|ensemble\._hist_gradient_boosting\.\w+|ensemble\._gb_losses|linear_model\._sgd_fast"
    r"|neural_network\._stochastic_optimizers)\.[A-Z]\w*"
)
"""Classes of scikit-learn that skops leaves to the user, nearly all compiled: they hold numbers."""

CONVERT = (
    "Load it where you made it and write skops.io.dump(model, 'model.skops'); or say --trust-pickle if you "
    "made this file yourself"
)


@final
@dataclass(frozen=True)
class EstimatorPredictor:
    """A fitted regressor: an object with ``predict``."""

    estimator: Any
    name: str
    facts: Mapping[str, Any]
    target: int | None = None

    @property
    def columns(self) -> Sequence[str] | None:
        """Names of the features that it was fitted on, None where it was fitted without."""
        names = getattr(self.estimator, "feature_names_in_", None)
        return None if names is None else [str(name) for name in names]

    @property
    def input_shape(self) -> tuple[int | None, ...] | None:
        """Shape of a batch: any number of people, as many features as it was fitted on."""
        count = getattr(self.estimator, "n_features_in_", None)
        return None if count is None else (None, int(count))

    def predict(self, batch: Batch) -> FloatArray:
        """Return the predicted ages, years.

        Raises:
            ModelError: if the estimator fails, as many do on missing values.
        """
        names = self.columns
        given = batch if names is None else pd.DataFrame(batch, columns=list(names))
        try:
            answer = self.estimator.predict(given)
        except Exception as error:
            raise ModelError(
                f"{self.name} needs to run on features of shape {np.shape(batch)}, got {foreign(error)}. "
                "Check that the columns are those that it was fitted on."
            ) from error
        return one_age_each(answer, len(batch), self.target, self.name)


def predictor_of_estimator(
    estimator: Any, name: str, facts: Mapping[str, Any], *, target: int | None = None
) -> EstimatorPredictor:
    """Return a predictor that asks a fitted regressor.

    Raises:
        ModelError: if it is none.
    """
    if not callable(getattr(estimator, "predict", None)):
        raise ModelError(
            f"{name} needs a regressor with predict(), got {type(estimator).__name__}. Save the regressor "
            "itself."
        )
    if callable(getattr(estimator, "predict_proba", None)) and not hasattr(estimator, "regressor_"):
        raise ModelError(
            f"{name} needs a regressor of age, got the classifier {type(estimator).__name__}. Give another."
        )
    return EstimatorPredictor(estimator, name, facts, target)


def load_estimator(
    path: Path, form: FileFormat, *, trust_pickle: bool = False, target: int | None = None
) -> EstimatorPredictor:
    """Return the regressor in a skops file, or in a pickle that is trusted.

    Raises:
        ModelError: if the file cannot be loaded safely, saying how to convert it.
    """
    facts = {"format": str(form), "sha256": digest_of(path)}
    estimator = _unpickled(path, trust_pickle) if form is FileFormat.PICKLE else _skops(path, trust_pickle)
    return predictor_of_estimator(estimator, path.name, facts, target=target)


def _skops(path: Path, trust: bool) -> Any:
    try:
        import skops.io  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError("skops files need skops, got none installed. Install privoxel[tabular].") from error
    try:
        listed = sorted(skops.io.get_untrusted_types(file=path))
        unknown = [name for name in listed if not LEFT_TO_USER.fullmatch(name)]
        if unknown and not trust:
            raise ModelError(
                f"{path.name} needs types of scikit-learn alone, got {', '.join(unknown[:5])}. Say "
                "--trust-pickle if you made this file yourself."
            )
        return skops.io.load(path, trusted=listed)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"{path.name} needs to be a whole skops file, got {foreign(error)}. Write it again."
        ) from error


def _unpickled(path: Path, trust: bool) -> Any:
    if not trust:
        raise ModelError(
            f"{path.name} needs to load without running code, got a pickle, which can run any. {CONVERT}."
        )
    try:
        if path.suffix.lower() == ".joblib":
            import joblib  # noqa: PLC0415 - only here

            return joblib.load(path)
        with path.open("rb") as stream:
            return pickle.load(stream)  # noqa: S301 - the user says that the file is trusted
    except Exception as error:
        raise ModelError(
            f"{path.name} needs to be a whole pickle, got {foreign(error)}. Write it again."
        ) from error
