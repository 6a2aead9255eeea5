"""The doors of an audit: what somebody brings, told apart, and the audit that it can have.

Predictions alone; a model that is asked about scans or about a table of features; a network that is looked
into. ``audit`` is the same from Python.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from privoxel.cohort.base import Cohort, Grid
from privoxel.cohort.features import FeatureTable, is_feature_table, load_features
from privoxel.cohort.memberships import Grouped, Loaded, Sources, group_by_ids, load_grouped
from privoxel.cohort.preprocess import Normalise
from privoxel.errors import ConfigError, ModelError
from privoxel.executor import usable_cores
from privoxel.models.callables import is_reference, load_reference, predictor_of
from privoxel.models.predictor import FileFormat, Predictor, file_format
from privoxel.recipes.audit import Outcome
from privoxel.recipes.brought import Brought, BroughtAudit, audit_brought
from privoxel.recipes.predictions import audit_predictions
from privoxel.recipes.queried import brought_predictor, brought_tabular
from privoxel.recipes.runs import new_folder

if TYPE_CHECKING:
    from privoxel.models.adapted import WhiteBox

TABLES = (".tsv", ".csv", ".txt")
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
    ``stability``: ask about moved copies too. ``black_box``: do not look inside. ``trust_pickle``: load a
    pickle, which can run any code. ``weights``: of a network that is looked into.
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

    @property
    def is_predictions(self) -> bool:
        """Whether a table of predictions was given."""
        return Path(self.model).suffix.lower() in TABLES


def audit_given(given: Given, output: Path, options: BroughtAudit) -> Outcome:
    """Audit what was given in the run folder ``output`` and return the results.

    Raises:
        PrivoxelError: for anything that cannot be used.
    """
    if given.is_predictions:
        _refuse_beside_predictions(given)
        return audit_predictions(
            Path(given.model), output, options, members=given.members, non_members=given.non_members
        )
    if is_white_box(given):
        options = _with_runtime(options)
    return audit_brought(open_door(given, options), output, options)


def _with_runtime(options: BroughtAudit) -> BroughtAudit:
    """Return ``options`` with the device, layout and threads that are fastest here, unless chosen."""
    from privoxel.config import TrainingConfig  # noqa: PLC0415 - for this alone
    from privoxel.training.runtime import Runtime, choose_runtime  # noqa: PLC0415 - imports torch

    if options.runtime != Runtime():
        return options
    return replace(options, runtime=choose_runtime(TrainingConfig(threads=options.workers)))


def _refuse_beside_predictions(given: Given) -> None:
    """Raise ``ConfigError`` for options that a table of predictions has no use for."""
    named = {
        "--cohort": given.cohort,
        "--weights": given.weights,
        "--features": given.features,
    }
    idle = [option for option, value in named.items() if value]
    if idle:
        raise ConfigError(
            f"A table of predictions says by itself who there is and what the model said, got "
            f"{', '.join(idle)}. Drop that, or give the model instead of the table."
        )


def open_door(given: Given, options: BroughtAudit) -> Brought:
    """Return what the model and the people of ``given`` give an audit.

    Raises:
        PrivoxelError: for a model or cohort that cannot be used.
    """
    name = name_of(given.model)
    if given.cohort is None and not (given.members and given.non_members):
        raise ConfigError(
            f"An audit of {name} needs people, got no --cohort. Give --cohort DIR (BIDS) or TABLE, with a "
            "column 'member' or with --members and --non-members."
        )
    if is_white_box(given):
        return _white_box_door(given, options, name)
    if given.weights is not None:
        raise ConfigError(
            f"--weights needs a network to look into (package.module:factory, or a bundle), got {name}. "
            "Drop it, or give the factory."
        )
    predictor = open_predictor(given)
    if given.cohort is not None and is_feature_table(given.cohort):
        table = load_features(given.cohort, skip_bad=options.skip_bad)
        sources = Sources(given.cohort, given.members, given.non_members)
        grouped = load_grouped(sources, Loaded(table.cohort), skip_bad=options.skip_bad)
        return brought_tabular(predictor, table, grouped, name, features=given.features)
    grouped = load_scans(given, grid_for(predictor.input_shape, given.resolution), options)
    return brought_predictor(predictor, grouped, name, stability=given.stability)


def is_white_box(given: Given) -> bool:
    """Return whether a network was given that is looked into: a factory, or a bundle's folder."""
    is_inside = is_reference(given.model) or Path(given.model).is_dir()
    return is_inside and not given.black_box


def _white_box_door(given: Given, options: BroughtAudit, name: str) -> Brought:
    from privoxel.recipes.white_box import brought_white_box, open_network  # noqa: PLC0415 - imports torch

    grid = Grid.mni(RESOLUTIONS[0] if given.resolution is None else given.resolution)
    box = open_network(
        given.model,
        weights=given.weights,
        trust_pickle=given.trust_pickle,
        target=given.target,
        grid=grid.shape,
    )
    grouped = load_scans(given, grid, options)
    return brought_white_box(box, grouped, name, signals=options.signals, runtime=options.runtime)


def load_scans(given: Given, grid: Grid, options: BroughtAudit) -> Grouped:
    """Return the scans of ``given`` on ``grid``, and who of them is a member."""
    from privoxel.cohort.bids import load_cohort  # noqa: PLC0415 - imports nibabel

    load = partial(load_cohort, grid=grid, normalise=given.normalise, root=given.root)
    sources = Sources(given.cohort, given.members, given.non_members)
    return load_grouped(sources, load, skip_bad=options.skip_bad)


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
            f"{path.name} needs the network that its weights belong to, got weights alone. Give "
            f"package.module:factory with --weights {path.name}, or export the model to ONNX or .pt2."
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
    return _fit_for_files(model.replace(":", ".") if is_reference(model) else Path(model).stem)


def _fit_for_files(text: str) -> str:
    kept = "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in text)
    return kept.strip(".") or "model"


def audit(  # noqa: PLR0913 - the face of the package: each option by its own name
    model: Any,
    cohort: Cohort | FeatureTable | str | Path,
    *,
    members: Any = None,
    non_members: Any = None,
    output: str | Path | None = None,
    options: BroughtAudit | None = None,
    name: str | None = None,
    stability: bool = False,
    black_box: bool = False,
) -> Outcome:
    """Audit ``model`` on ``cohort`` and return the results; the run folder is ``output``, else a new one.

    Args:
        model: a network (``nn.Module``, ``WhiteBox``, bundle's folder, ``package.module:factory``), which
            is looked into; a model's file, a function of a batch that returns ages in years, or a fitted
            scikit-learn regressor (with a ``FeatureTable``).
        cohort: scans or features, or where they are.
        members: who trained the model: ids, a mask over participants or scans, a cohort, or a list's file;
            None where the cohort's table has a column ``member``.
        non_members: whom it never saw, in the same ways; None takes everybody else.
        output: the run folder.
        options: how it is audited.
        name: how the report calls the model.
        stability: ask about moved copies of each scan too.
        black_box: do not look inside a network, only ask it.

    Raises:
        PrivoxelError: for anything that cannot be used.
    """
    options = options or BroughtAudit(workers=usable_cores())
    members, non_members = _as_path(members), _as_path(non_members)
    folder = new_folder() if output is None else Path(output)
    is_place = isinstance(model, str | Path)
    own = name_of(str(model)) if is_place else str(getattr(model, "__name__", type(model).__name__))
    title = _fit_for_files(name or own)
    if not black_box and (box := _network_of(model, title)) is not None:
        options = _with_runtime(options)
        title = title if is_place or name else _fit_for_files(type(box.net).__name__)
        return audit_brought(
            _brought_network(box, cohort, (members, non_members), title, options), folder, options
        )
    predictor = open_predictor(Given(str(model))) if is_place else _predictor_of(model, title)
    place: Path | None = None
    if isinstance(cohort, str | Path):
        place = Path(cohort)
        cohort = _read(place, predictor, skip_bad=options.skip_bad)
    found = cohort
    scans = found.cohort if isinstance(found, FeatureTable) else found
    grouped = _grouped(scans, members, non_members, place, skip_bad=options.skip_bad)
    if isinstance(found, FeatureTable):
        brought = brought_tabular(predictor, found, grouped, title)
    else:
        brought = brought_predictor(predictor, grouped, title, stability=stability)
    return audit_brought(brought, folder, options)


def _network_of(model: Any, title: str) -> "WhiteBox | None":
    """Return ``model`` as a network to look into, None if it is something else."""
    if isinstance(model, str | Path):
        if not is_white_box(Given(str(model))):
            return None
        from privoxel.recipes.white_box import open_network  # noqa: PLC0415 - imports torch

        return open_network(str(model))
    from torch import nn  # noqa: PLC0415 - listing doors must not import it

    from privoxel.models.adapted import WhiteBox  # noqa: PLC0415 - imports torch
    from privoxel.models.factories import white_box  # noqa: PLC0415 - imports torch

    is_scripted = type(model).__module__.startswith("torch.jit")
    return white_box(model, title) if isinstance(model, nn.Module | WhiteBox) and not is_scripted else None


def _brought_network(
    box: "WhiteBox", cohort: Any, who: tuple[Any, Any], title: str, options: BroughtAudit
) -> Brought:
    from privoxel.cohort.bids import load_cohort  # noqa: PLC0415 - imports nibabel
    from privoxel.recipes.white_box import brought_white_box  # noqa: PLC0415 - imports torch

    place = Path(cohort) if isinstance(cohort, str | Path) else None
    scans = cohort
    if place is not None:
        scans = load_cohort(place, grid=Grid.mni(RESOLUTIONS[0]), skip_bad=options.skip_bad)
    if not isinstance(scans, Cohort):
        raise ConfigError(
            f"A network needs a cohort of scans, got {type(scans).__name__}. Load it by privoxel.load_cohort."
        )
    grouped = _grouped(scans, *who, place, skip_bad=options.skip_bad)
    return brought_white_box(box, grouped, title, signals=options.signals, runtime=options.runtime)


def _read(place: Path, predictor: Predictor, *, skip_bad: bool) -> Cohort | FeatureTable:
    if is_feature_table(place):
        return load_features(place, skip_bad=skip_bad)
    from privoxel.cohort.bids import load_cohort  # noqa: PLC0415 - imports nibabel

    return load_cohort(place, grid=grid_for(predictor.input_shape, None), skip_bad=skip_bad)


def _grouped(
    cohort: Cohort, members: Any, non_members: Any, place: Path | None, *, skip_bad: bool
) -> Grouped:
    """Return who is a member, as a program says or as the cohort's own table does."""
    if members is None and place is None:
        raise ConfigError(
            "privoxel.audit needs to know who trained the model, got no members. Give members= ids, a mask "
            "or a cohort, or the cohort as a path whose table has a column 'member'."
        )
    if members is None or isinstance(members, Path):
        sources = Sources(place or Path(), members, non_members)
        return load_grouped(sources, Loaded(cohort), skip_bad=skip_bad)
    return group_by_ids(cohort, members, non_members)


def _as_path(given: Any) -> Any:
    """Return a text as the path of a list; anything else as it is."""
    return Path(given) if isinstance(given, str) else given


def _predictor_of(model: Any, name: str) -> Predictor:
    if not callable(model) and hasattr(model, "predict"):
        from privoxel.models.tabular_files import predictor_of_estimator  # noqa: PLC0415 - imports pandas

        facts = {"format": "scikit-learn object", "estimator": type(model).__name__}
        return predictor_of_estimator(model, name, facts)
    return predictor_of(model, name)
