"""What somebody brings to an audit: the model, the people, how each is read, and what cannot be meant."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from privoxel.cohort.base import Grid
from privoxel.cohort.preprocess import Normalise
from privoxel.errors import ConfigError, ModelError
from privoxel.executor import usable_cores
from privoxel.models.callables import is_reference, load_reference, predictor_of
from privoxel.models.predictor import FileFormat, Predictor, file_format

TABLES = (".tsv", ".csv", ".txt")
PACKED = (".gz", ".bz2", ".xz", ".zip", ".7z")
SHEETS = (".xlsx", ".xls", ".ods", ".parquet", ".feather")
RESOLUTIONS = (2.0, 4.0, 1.0, 3.0, 6.0)
"""Voxel sizes (mm) whose grids are tried against the input that a model states; the first is the default."""


@final
@dataclass(frozen=True)
class Given:
    """What somebody brings to ``privoxel audit``.

    ``model``: a table of predictions, a model's file or folder, or ``package.module:name``. ``cohort``: BIDS
    folder, table of volumes or table of features. ``members``, ``non_members``: lists of ids or folders.
    ``root``: a further folder in which a table's paths may lie. ``resolution``: edge of the voxels of the
    model's grid, mm; None where the model states its input, else 2. ``normalise``: voxels of the z-score.
    ``target``: which of several outputs is the age. ``features``: columns that a tabular model reads.
    ``stability``: ask about moved copies too. ``checkpoints``: earlier weights of a network that is looked
    into, oldest first. ``black_box``: do not look inside. ``trust_pickle``: load a pickle, which can run any
    code. ``weights``: of a network that is looked into. ``members_only``: there are no non-members.
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
    checkpoints: tuple[Path, ...] = ()
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
        "--weights": given.weights,
        "--features": given.features,
        "--stability": given.stability,
        "--checkpoint": given.checkpoints,
    }
    idle = [option for option, value in named.items() if value]
    if idle:
        raise ConfigError(
            f"A table of predictions says by itself who there is and what the model said, got "
            f"{', '.join(idle)}. Drop that, or give the model instead of the table."
        )


def refuse_checkpoints(given: Given, name: str) -> None:
    """Raise ``ConfigError`` for earlier weights of what is asked and not looked into."""
    if given.checkpoints:
        raise ConfigError(
            f"--checkpoint needs a network to look into (package.module:factory, or a bundle), got {name}. "
            "Drop it, or give the network."
        )


def refuse_copies(given: Given) -> None:
    """Raise ``ConfigError`` if copies are asked for of what is a line of features and no scan."""
    if given.stability:
        raise ConfigError(
            "--stability needs scans, of which there are moved copies, got a table of features. Drop it."
        )


def open_predictor(given: Given) -> Predictor:
    """Return the model of ``given`` as something that can be asked.

    Raises:
        ModelError: if it is none, or would have to run code to be loaded.
    """
    if is_reference(given.model):
        return predictor_of(load_reference(given.model), given.model, target=given.target)
    path = Path(given.model)
    form = file_format(path)
    if form is FileFormat.ONNX:
        from privoxel.models.onnx_files import OnnxPredictor  # noqa: PLC0415 - an extra

        return OnnxPredictor(path, given.target, usable_cores())
    if form in {FileFormat.TORCHSCRIPT, FileFormat.EXPORTED}:
        from privoxel.models.torch_files import TorchPredictor  # noqa: PLC0415 - only for such files

        return TorchPredictor(path, form, given.target, trust_pickle=given.trust_pickle)
    if form in {FileFormat.SKOPS, FileFormat.PICKLE}:
        from privoxel.models.tabular_files import load_estimator  # noqa: PLC0415 - only for such files

        return load_estimator(path, form, trust_pickle=given.trust_pickle, target=given.target)
    if form is FileFormat.WEIGHTS:
        raise ModelError(
            f"{path.name} needs the network that its weights belong to, got weights alone (or pickled). "
            f"Give package.module:factory with --weights {path.name}, or export the model to ONNX or .pt2."
        )
    raise ModelError(
        f"{path.name} needs to be ONNX, TorchScript, an exported program (.pt2), skops, or a table of "
        "predictions (.tsv, .csv), got another kind of file. Export the model to one of these."
    )


def grid_for(stated: Sequence[int | None] | None, resolution: float | None) -> Grid:
    """Return the grid that a model reads: of ``resolution`` mm, else the one whose shape the model states.

    >>> grid_for((None, 1, 40, 48, 40), None).voxel_mm
    4.0

    Raises:
        ConfigError: if a model states a shape that no grid has.
    """
    if resolution is not None:
        return Grid.mni(resolution)
    shape = None if stated is None else tuple(stated[-3:])
    if shape is None or len(shape) < 3 or None in shape:
        return Grid.mni(RESOLUTIONS[0])
    for voxel_mm in RESOLUTIONS:
        if Grid.mni(voxel_mm).shape == shape:
            return Grid.mni(voxel_mm)
    known = ", ".join(f"{'×'.join(map(str, Grid.mni(mm).shape))} ({mm:g} mm)" for mm in RESOLUTIONS)
    raise ConfigError(
        f"The model needs volumes of {'×'.join(map(str, shape))} voxels, got no grid of that shape. Wrap it "
        f"in a Python function that crops and pads one of {known}."
    )


def name_of(model: str) -> str:
    """Return how report and files call a model.

    >>> name_of("models/brain_age.onnx"), name_of("my.module:net")
    ('brain_age', 'my.module.net')
    """
    return fit_for_files(model.replace(":", ".") if is_reference(model) else Path(model).stem)


def fit_for_files(text: str) -> str:
    """Return ``text`` without signs that names of files and folders cannot have everywhere."""
    kept = "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in text)
    return kept.strip(".") or "model"
