"""The doors of an audit: what somebody brings, told apart, and the audit that it can have.

Predictions alone; a model that is asked about scans or about a table of features; a network that is looked
into. ``audit`` is the same from Python.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from privoxel.cohort.base import Cohort, Grid
from privoxel.cohort.features import FeatureTable, is_feature_table, load_features
from privoxel.cohort.memberships import CohortLoader, Grouped, Loaded, Sources, group_by_ids, load_grouped
from privoxel.cohort.preprocess import Normalise
from privoxel.errors import ConfigError
from privoxel.executor import usable_cores
from privoxel.models.callables import is_reference, predictor_of
from privoxel.models.predictor import Predictor
from privoxel.recipes.audit import Outcome
from privoxel.recipes.brought import audit_brought
from privoxel.recipes.brought_settings import Brought, BroughtAudit
from privoxel.recipes.given import (
    RESOLUTIONS,
    Given,
    fit_for_files,
    grid_for,
    name_of,
    open_predictor,
    refuse_beside_predictions,
    refuse_checkpoints,
    refuse_copies,
    refuse_packed,
)
from privoxel.recipes.members_only import MembersChecked, check_members
from privoxel.recipes.predictions import open_predictions
from privoxel.recipes.queried import brought_predictor
from privoxel.recipes.runs import new_folder
from privoxel.recipes.tabular import FeatureReader, brought_tabular

if TYPE_CHECKING:
    from privoxel.models.adapted import WhiteBox
    from privoxel.recipes.checkpoints import Deeper

logger = logging.getLogger(__name__)

OWN_WEIGHTS = "No weights were given: the network was audited with those that its factory gave it."


def audit_given(given: Given, output: Path, options: BroughtAudit) -> Outcome:
    """Audit what was given in the run folder ``output`` and return the results.

    Raises:
        PrivoxelError: for anything that cannot be used.
    """
    if is_white_box(given):
        options = _with_runtime(options)
    return audit_brought(open_door(given, options), output, options)


def check_given(given: Given, output: Path, options: BroughtAudit) -> MembersChecked:
    """Check the members of what was given, without non-members, in the folder ``output``.

    Raises:
        PrivoxelError: for anything that cannot be used.
    """
    if is_white_box(given):
        options = _with_runtime(options)
    return check_members(open_door(given, options), output, options)


def _with_runtime(options: BroughtAudit) -> BroughtAudit:
    """Return ``options`` with the device, layout and threads that are fastest here, unless chosen."""
    from privoxel.config import TrainingConfig  # noqa: PLC0415 - for this alone
    from privoxel.training.runtime import Runtime, choose_runtime  # noqa: PLC0415 - imports torch

    if options.runtime != Runtime():
        return options
    return replace(options, runtime=choose_runtime(TrainingConfig(threads=options.workers)))


def open_door(given: Given, options: BroughtAudit) -> Brought:
    """Return what the model and the people of ``given`` give an audit.

    Raises:
        PrivoxelError: for a model or cohort that cannot be used.
    """
    refuse_packed(given.model)
    if given.is_predictions:
        refuse_beside_predictions(given)
        return open_predictions(
            Path(given.model), options, given.members, given.non_members, members_only=given.members_only
        )
    name = name_of(given.model)
    if given.cohort is None and not (given.members and given.non_members):
        raise ConfigError(
            f"An audit of {name} needs people, got no --cohort. Give --cohort DIR (BIDS) or TABLE, with a "
            "column 'member' or with --members and --non-members."
        )
    if is_white_box(given):
        return _white_box_door(given, options, name)
    refuse_checkpoints(given, name)
    if given.weights is not None:
        raise ConfigError(
            f"--weights needs a network to look into (package.module:factory, or a bundle), got {name}. "
            "Drop it, or give the factory."
        )
    predictor = open_predictor(given)
    if given.cohort is not None and is_feature_table(given.cohort):
        refuse_copies(given)
        reader = FeatureReader(predictor, name, given.features)
        grouped = load_grouped(_sources(given), reader, skip_bad=options.skip_bad)
        return brought_tabular(predictor, reader.table, grouped, name, reader.columns)
    grouped = load_scans(given, grid_for(predictor.input_shape, given.resolution), options)
    return brought_predictor(predictor, grouped, name, stability=given.stability)


def is_white_box(given: Given) -> bool:
    """Return whether a network was given that is looked into: a factory, or a bundle's folder."""
    is_inside = is_reference(given.model) or Path(given.model).is_dir()
    return is_inside and not given.black_box


def _white_box_door(given: Given, options: BroughtAudit, name: str) -> Brought:
    from privoxel.models.several import needed_columns  # noqa: PLC0415 - imports torch
    from privoxel.recipes.white_box import brought_white_box  # noqa: PLC0415 - imports torch

    grid = grid_of(given)
    box = open_box(given, grid)
    grouped = _told_of_weights(load_scans(given, grid, options, needed_columns(box.head)), given)
    return brought_white_box(
        box,
        grouped,
        name,
        signals=options.signals,
        runtime=options.runtime,
        deeper=_deeper(given),
    )


def _deeper(given: Given) -> "Deeper":
    from privoxel.recipes.checkpoints import Deeper  # noqa: PLC0415 - imports torch

    return Deeper(given.stability, given.checkpoints, given.trust_pickle)


def open_box(given: Given, grid: Grid) -> "WhiteBox":
    """Return the network of ``given`` that is looked into, for scans on ``grid``.

    Raises:
        PrivoxelError: if it cannot be made, or the weights do not fit.
    """
    from privoxel.recipes.white_box import open_network  # noqa: PLC0415 - imports torch

    return open_network(
        given.model,
        weights=given.weights,
        trust_pickle=given.trust_pickle,
        target=given.target,
        grid=grid.shape,
    )


def grid_of(given: Given, cohort: Any = None) -> Grid:
    """Return the grid that a network reads: that of a loaded cohort, else the one asked for, or of 2 mm."""
    if isinstance(cohort, Cohort):
        return cohort.grid
    return Grid.mni(RESOLUTIONS[0] if given.resolution is None else given.resolution)


def _told_of_weights(grouped: Grouped, given: Given) -> Grouped:
    """Return ``grouped`` with a note where nobody said which weights a factory's network has."""
    if not is_reference(given.model) or given.weights is not None:
        return grouped
    logger.warning(OWN_WEIGHTS)
    return replace(grouped, notes=(*grouped.notes, OWN_WEIGHTS))


def load_scans(given: Given, grid: Grid, options: BroughtAudit, columns: Sequence[str] = ()) -> Grouped:
    """Return the scans of ``given`` on ``grid`` with further ``columns``, and who of them is a member."""
    return load_grouped(_sources(given), scan_loader(given, grid, columns), skip_bad=options.skip_bad)


def _sources(given: Given) -> Sources:
    return Sources(given.cohort, given.members, given.non_members, given.members_only)


def scan_loader(given: Given, grid: Grid, columns: Sequence[str] = ()) -> CohortLoader:
    """Return what loads scans onto ``grid`` as ``given`` says, with further ``columns`` of numbers."""
    from privoxel.cohort.bids import load_cohort  # noqa: PLC0415 - imports nibabel

    return partial(load_cohort, grid=grid, normalise=given.normalise, root=given.root, columns=columns)


def audit(  # noqa: PLR0913 - the face of the package: each option by its own name
    model: Any,
    cohort: Cohort | FeatureTable | str | Path,
    *,
    members: Any = None,
    non_members: Any = None,
    output: str | Path | None = None,
    options: BroughtAudit | None = None,
    name: str | None = None,
    weights: str | Path | None = None,
    target: int | None = None,
    features: str | Sequence[str] = (),
    resolution: float | None = None,
    normalise: Normalise = "all",
    root: str | Path | None = None,
    stability: bool = False,
    checkpoints: Sequence[str | Path] = (),
    black_box: bool = False,
    trust_pickle: bool = False,
) -> Outcome:
    """Audit ``model`` on ``cohort`` and return the results; the run folder is ``output``, else a new one.

    Args:
        model: a network (``nn.Module``, ``WhiteBox``, bundle's folder, ``package.module:factory``), which
            is looked into; a model's file, a function of a batch that returns ages in years, or a fitted
            scikit-learn regressor (with a ``FeatureTable``).
        cohort: scans or features, or where they are.
        members: who trained the model: ids, a mask over participants or scans, a cohort, or a list's file
            or folder; None where the cohort's table has a column ``member``.
        non_members: whom it never saw, in any of these ways; None takes everybody else.
        output: the run folder.
        options: how it is audited.
        name: how the report calls the model.
        weights: file of the weights of a factory's network, or of a bundle instead of its own.
        target: which of several outputs is the age.
        features: columns that a tabular model reads: names, or patterns such as ``gm_*``.
        resolution: edge of the voxels of the model's grid, mm, where ``cohort`` is a place; None where the
            model states its input, else 2.
        normalise: voxels of the z-score, where ``cohort`` is a place.
        root: a further folder in which the paths of a cohort's table may lie.
        stability: ask about moved copies of each scan too; a network that is looked into, about turned and
            noisy ones as well.
        checkpoints: files of earlier weights of a network that is looked into, oldest first.
        black_box: do not look inside a network, only ask it.
        trust_pickle: load a pickle, which can run any code: of files that you made yourself.

    Raises:
        PrivoxelError: for anything that cannot be used.
    """
    options = options or BroughtAudit(workers=usable_cores())
    is_place = isinstance(model, str | Path)
    own = name_of(str(model)) if is_place else str(getattr(model, "__name__", type(model).__name__))
    title = fit_for_files(name or own)
    given = Given(
        str(model) if is_place else "",
        Path(cohort) if isinstance(cohort, str | Path) else None,
        root=None if root is None else Path(root),
        resolution=resolution,
        normalise=normalise,
        target=target,
        features=(features,) if isinstance(features, str) else tuple(features),
        stability=stability,
        checkpoints=tuple(Path(place) for place in checkpoints),
        black_box=black_box,
        trust_pickle=trust_pickle,
        weights=None if weights is None else Path(weights),
    )
    _refuse_idle(given, cohort)
    who = (_as_path(members), _as_path(non_members))
    folder = new_folder() if output is None else Path(output)
    if not black_box and (box := _network_of(model, given, cohort, title)) is not None:
        options = _with_runtime(options)
        title = title if is_place or name else fit_for_files(type(box.net).__name__)
        return audit_brought(_brought_network(box, given, cohort, who, title, options), folder, options)
    return audit_brought(_brought_model(model, given, cohort, who, title, options), folder, options)


def _refuse_idle(given: Given, cohort: Any) -> None:
    """Raise ``ConfigError`` for options of ``audit`` that what was given has no use for."""
    reading = {
        "resolution": given.resolution is not None,
        "root": given.root is not None,
        "normalise": given.normalise != "all",
    }
    idle = [name for name, is_given in reading.items() if is_given]
    if idle and given.cohort is None:
        raise ConfigError(
            f"privoxel.audit needs the cohort as a path where {', '.join(idle)} is given, got a "
            f"{type(cohort).__name__}, which is read already. Give these to load_cohort instead."
        )
    if given.weights is not None and not (given.model and is_white_box(given)):
        raise ConfigError(
            "privoxel.audit needs package.module:factory or a bundle's folder where weights= is given, got "
            f"{given.model or 'an object'}. Load them into the network, or give its factory."
        )


def _network_of(model: Any, given: Given, cohort: Any, title: str) -> "WhiteBox | None":
    """Return ``model`` as a network to look into, None if it is something else."""
    if given.model:
        return open_box(given, grid_of(given, cohort)) if is_white_box(given) else None
    from torch import nn  # noqa: PLC0415 - listing doors must not import it

    from privoxel.models.adapted import WhiteBox  # noqa: PLC0415 - imports torch
    from privoxel.models.factories import white_box  # noqa: PLC0415 - imports torch
    from privoxel.recipes.white_box import with_age_at  # noqa: PLC0415 - imports torch

    is_scripted = type(model).__module__.startswith("torch.jit")
    if not isinstance(model, nn.Module | WhiteBox) or is_scripted:
        return None
    return with_age_at(white_box(model, title), given.target)


def _brought_network(
    box: "WhiteBox", given: Given, cohort: Any, who: tuple[Any, Any], title: str, options: BroughtAudit
) -> Brought:
    from privoxel.models.several import needed_columns  # noqa: PLC0415 - imports torch
    from privoxel.recipes.white_box import brought_white_box  # noqa: PLC0415 - imports torch

    scans = cohort
    if given.cohort is not None:
        scans = scan_loader(given, grid_of(given), needed_columns(box.head))(given.cohort, skip_bad=True)
    if not isinstance(scans, Cohort):
        raise ConfigError(
            f"A network needs a cohort of scans, got {type(scans).__name__}. Load it by privoxel.load_cohort."
        )
    grouped = _told_of_weights(_grouped(scans, who, given.cohort, skip_bad=options.skip_bad), given)
    return brought_white_box(
        box,
        grouped,
        title,
        signals=options.signals,
        runtime=options.runtime,
        deeper=_deeper(given),
    )


def _brought_model(
    model: Any, given: Given, cohort: Any, who: tuple[Any, Any], title: str, options: BroughtAudit
) -> Brought:
    """Return what a model that is asked gives an audit.

    What is wrong with the cohort is judged once it is known who is a member.
    """
    refuse_checkpoints(given, title)
    predictor = open_predictor(given) if given.model else _predictor_of(model, title, given.target)
    reader = FeatureReader(predictor, title, given.features)
    found = cohort
    if given.cohort is not None and is_feature_table(given.cohort):
        found = load_features(given.cohort, skip_bad=True)
    elif given.cohort is not None:
        load = scan_loader(given, grid_for(predictor.input_shape, given.resolution))
        found = load(given.cohort, skip_bad=True)
    if isinstance(found, FeatureTable):
        refuse_copies(given)
        table = reader.keep(found)
        grouped = _grouped(table.cohort, who, given.cohort, skip_bad=options.skip_bad)
        return brought_tabular(predictor, table, grouped, title, reader.columns)
    grouped = _grouped(found, who, given.cohort, skip_bad=options.skip_bad)
    return brought_predictor(predictor, grouped, title, stability=given.stability)


def _grouped(cohort: Cohort, who: tuple[Any, Any], place: Path | None, *, skip_bad: bool) -> Grouped:
    """Return who is a member, as a program says or as the cohort's own table does."""
    members, non_members = who
    if members is None and place is None:
        raise ConfigError(
            "privoxel.audit needs to know who trained the model, got no members. Give members= ids, a mask "
            "or a cohort, or the cohort as a path whose table has a column 'member'."
        )
    if members is None or all(one is None or isinstance(one, Path) for one in who):
        sources = Sources(place or Path(cohort.name), members, non_members)
        return load_grouped(sources, Loaded(cohort), skip_bad=skip_bad)
    return group_by_ids(cohort, members, non_members, skip_bad=skip_bad)


def _as_path(given: Any) -> Any:
    """Return a text as the path of a list; anything else as it is."""
    return Path(given) if isinstance(given, str) else given


def _predictor_of(model: Any, name: str, target: int | None) -> Predictor:
    if not callable(model) and hasattr(model, "predict"):
        from privoxel.models.tabular_files import predictor_of_estimator  # noqa: PLC0415 - imports pandas

        facts = {"format": "scikit-learn object", "estimator": type(model).__name__}
        return predictor_of_estimator(model, name, facts, target=target)
    return predictor_of(model, name, target=target)
