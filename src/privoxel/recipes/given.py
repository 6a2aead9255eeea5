"""What somebody brings to ``privoxel audit``, and what cannot be meant."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

from privoxel.cohort.preprocess import Normalise
from privoxel.errors import ConfigError

TABLES = (".tsv", ".csv", ".txt")
PACKED = (".gz", ".bz2", ".xz", ".zip", ".7z")
SHEETS = (".xlsx", ".xls", ".ods", ".parquet", ".feather")


@final
@dataclass(frozen=True)
class Given:
    """What somebody brings to ``privoxel audit``.

    ``model``: a table of predictions, a model's file or folder, or ``package.module:name``. ``cohort``: BIDS
    folder, table of volumes or table of features. ``members``, ``non_members``: lists of ids or folders.
    ``root``: a further folder in which a table's paths may lie. ``resolution``: edge of the voxels of the
    model's grid, mm; None where the model states its input, else 2. ``normalise``: voxels of the z-score.
    ``target``: which of several outputs is the age. ``features``: columns that a tabular model reads.
    ``stability``: ask about moved copies too. ``black_box``: do not look inside. ``trust_pickle``: load a
    pickle, which can run any code. ``weights``: of a network that is looked into. ``members_only``: there are
    no non-members.
    """

    model: str
    cohort: Path | None = None
    members: Path | None = None
    non_members: Path | None = None
    root: Path | None = None
    resolution: float | None = None
    normalise: Normalise = "all"
    target: int | None = None
    features: tuple[str, ...] = ()
    stability: bool = False
    black_box: bool = False
    trust_pickle: bool = False
    weights: Path | None = None
    members_only: bool = False

    @property
    def is_predictions(self) -> bool:
        """Whether a table of predictions was given."""
        return Path(self.model).suffix.lower() in TABLES


def refuse_packed(model: str) -> None:
    """Raise ``ConfigError`` for a table in a form that is not read."""
    name = Path(model).name.lower()
    packed = next((end for end in PACKED for table in TABLES if name.endswith(f"{table}{end}")), "")
    if packed:
        plain = Path(model).name[: -len(packed)]
        raise ConfigError(f"A table of predictions needs to be text, got {packed}. Unpack it to {plain}.")
    if name.endswith(SHEETS):
        raise ConfigError(
            f"A table of predictions needs to be text, got {Path(model).suffix}. Save it as .tsv or .csv."
        )


def refuse_beside_predictions(given: Given) -> None:
    """Raise ``ConfigError`` for options that a table of predictions has no use for."""
    named = {
        "--cohort": given.cohort,
        "--members": given.members,
        "--non-members": given.non_members,
        "--weights": given.weights,
        "--features": given.features,
    }
    idle = [option for option, value in named.items() if value]
    if idle:
        raise ConfigError(
            f"A table of predictions says by itself who is a member and what the model said, got "
            f"{', '.join(idle)}. Drop that, or give the model instead of the table."
        )
