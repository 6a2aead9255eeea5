"""An audit that looks into a brought network: its gradients and activations beside its predictions.

The network's layers play the roles whose names attacks know (``models/adapted.py``); signals are extracted as
from any trained target, and everything after that is the recipe of all brought models.
"""

import hashlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from privoxel.arrays import FloatArray
from privoxel.attacks import ATTACKS, ON_COPIES, ON_TRAINING, WITH_STATED_SD, projected
from privoxel.attacks.base import Attack, ThreatModel, needs_models
from privoxel.cohort.base import Cohort, Covariates
from privoxel.cohort.memberships import Grouped
from privoxel.cohort.splits import membership_of
from privoxel.config import SignalConfig
from privoxel.errors import CohortError, ConfigError, ModelError, ModelProblemsError, Problem
from privoxel.models.adapted import HEAD, NET, READ_BY_LAST, READS, AdaptedModel, WhiteBox, adapt
from privoxel.models.factories import Known, build_from
from privoxel.models.heads import Head, Scalar
from privoxel.models.monai_nets import bundle_box
from privoxel.models.several import Several, needed_columns, stated_spread
from privoxel.models.validation import find_problems
from privoxel.models.weights import load_into, read_weights
from privoxel.recipes.brought_settings import Brought
from privoxel.recipes.checkpoints import Deeper, as_snapshots
from privoxel.recipes.course import needs, reads_course, with_courses
from privoxel.recipes.further_targets import missing_notes, target_problems
from privoxel.recipes.queried import states_of
from privoxel.recipes.target import Observed, TargetPlan, Workplace
from privoxel.signals.extract import Extraction, extract, open_table
from privoxel.signals.table import (
    ACTIVATION,
    GRADIENT,
    GRADIENT_NORMS,
    PREDICTION,
    PROJECTION,
    STATED_SD,
    STEP,
    SignalTable,
)
from privoxel.signals.truths import true_values
from privoxel.training.runtime import Runtime

logger = logging.getLogger(__name__)

KIND = "model"
PRIMARY = "default"
EXAMPLES = 3
"""Scans that a network is tried on."""
OF_SQUARED_ERROR = frozenset({"self-influence", "inverse-hessian"})
"""Attacks whose formulas hold for a squared error and a linear layer of one output (attacks/curvature.py)."""
WIDEST_CURVATURE = 4096
"""Weights of a head beyond which their curvature, a square matrix, is not formed."""


class Scans(NamedTuple):
    """A few scans to try a network on: volumes (scans, 1, x, y, z), and true values that its loss needs."""

    volumes: Tensor
    ages: Tensor


def brought_white_box(
    box: WhiteBox,
    grouped: Grouped,
    name: str,
    *,
    signals: SignalConfig,
    runtime: Runtime,
    deeper: Deeper | None = None,
) -> Brought:
    """Return what a network with its weights gives an audit.

    Args:
        box: the network, loaded, and how it is used; it is put in evaluation mode on the runtime's device.
        grouped: the scans, on the grid and with the intensities that ``box`` expects, and who is a member.
        name: how files and report call the model.
        signals: what is extracted besides what the attacks read; ``gradient:NAME`` names a further layer.
        runtime: where it is computed.
        deeper: what else is looked at: copies of the scans, earlier weights.

    Raises:
        ModelProblemsError: listing everything that keeps the network from being audited.
    """
    further = tuple(n.removeprefix(GRADIENT) for n in signals.extra if n.startswith(GRADIENT))
    box = replace(box, layers=(*box.layers, *further))
    columns = needed_columns(box.head)
    model = checked_model(box, grouped.cohort, runtime, known=target_problems(grouped, columns))
    deeper = deeper or Deeper()
    attacks = {**white_box_attacks(model), **_deeper_attacks(deeper)}
    places = model.located

    def observe(plan: TargetPlan, wanted: Sequence[Attack], workplace: Workplace) -> Observed:
        observed = observe_model(model, plan, workplace, wanted)
        if reads_course(wanted):
            observed = observed._replace(snapshots=as_snapshots(model, deeper, plan.name, workplace))
        return with_courses(observed, wanted, workplace, network=model)

    logger.info("Layers: %s", ", ".join(f"{role} = {name}" for role, name in places.described.items()))
    return Brought(
        kind=KIND,
        name=name,
        cohort=grouped.cohort,
        states=states_of(grouped),
        attacks=attacks,
        when_named={attack.name: attack for attack in projected.ATTACKS},
        observe=observe,
        primary=PRIMARY,
        facts={
            "network": type(box.net).__name__,
            **deeper.facts,
            "parameters": sum(parameter.numel() for parameter in box.net.parameters()),
            "weights": weights_digest(box.net),
            "head": described_head(box.head),
            "layers": {**places.described, **{extra: extra for extra in places.extra}},
        },
        notes=(*grouped.notes, *missing_notes(grouped, columns)),
    )


def _deeper_attacks(deeper: Deeper) -> dict[str, Attack]:
    """Return the attacks on what else is looked at; none on steps of SGD, of which nobody told the size."""
    along = {name: attack for name, attack in ON_TRAINING.items() if not needs(attack, STEP)}
    return {**(ON_COPIES if deeper.stability else {}), **(along if deeper.checkpoints else {})}


def open_network(
    place: str,
    *,
    weights: Path | None = None,
    trust_pickle: bool = False,
    target: int | None = None,
    grid: Sequence[int] | None = None,
) -> WhiteBox:
    """Return the network at ``place``: a MONAI bundle's folder, or what ``package.module:factory`` makes.

    Args:
        place: which of them.
        weights: of a factory's network, unless it has them already; of a bundle, instead of its own.
        trust_pickle: open weights that are a pickle of more than tensors.
        target: which of several outputs is the age, where the factory does not say it.
        grid: voxels along x, y and z, for factories that need them.

    Raises:
        ModelError: if it cannot be made, or the weights do not fit.
    """
    if Path(place).is_dir():
        box = bundle_box(Path(place), weights=weights, trust_pickle=trust_pickle)
    else:
        tensors = None if weights is None else read_weights(weights, trust_pickle=trust_pickle)
        box = build_from(place, Known(tensors, grid))
        if weights is not None and tensors is not None:
            load_into(box.net, tensors, source=weights.name)
    return with_age_at(box, target)


def with_age_at(box: WhiteBox, target: int | None) -> WhiteBox:
    """Return ``box`` with the age at another position among the outputs; None changes nothing.

    Raises:
        ModelError: if its head takes no position.
    """
    if target is None:
        return box
    return replace(box, head=_with_age_at(box.head, target))


def _with_age_at(head: Head, target: int) -> Head:
    """Return a head of one value, or of several targets, that finds the age at another position."""
    if isinstance(head, Several):
        return replace(head, age=_with_age_at(head.age, target))
    if not isinstance(head, Scalar):
        raise ModelError(
            f"A target needs the head Scalar, which reads one output, got {type(head).__name__}. Leave "
            "--target out, or let the head itself say where the age is."
        )
    return replace(head, target=target)


def checked_model(
    box: WhiteBox, cohort: Cohort, runtime: Runtime, *, known: Sequence[Problem] = ()
) -> AdaptedModel:
    """Return the network of ``box`` ready for extraction, after trying it on a few scans of ``cohort``.

    Raises:
        ModelProblemsError: listing everything that keeps it from being audited, ``known`` problems first.
    """
    scans = _examples(cohort, needed_columns(box.head), runtime)
    bare = AdaptedModel(box).eval()
    if not any(tensor.is_meta for tensor in (*bare.parameters(), *bare.buffers())):
        runtime.place(bare)
    problems = (*known, *find_problems(bare, *scans))
    if problems:
        raise ModelProblemsError(f"{type(box.net).__name__} cannot be audited", problems)
    return adapt(box, scans.volumes[:1])


def _examples(cohort: Cohort, columns: Sequence[str], runtime: Runtime) -> Scans:
    """Return the first few scans that can be read and differ in age from nobody in particular.

    True values of theirs that are missing are the cohort's median, so that every term of the loss is tried.

    Raises:
        CohortError: if none can be read.
    """
    rows: list[int] = []
    volumes = []
    fault: CohortError | None = None
    for row in range(len(cohort)):
        try:
            volumes.append(cohort.batch([row]))
        except CohortError as error:
            fault = error
            continue
        rows.append(row)
        if len(rows) == EXAMPLES:
            break
    if fault is not None and not rows:
        raise fault
    people = cohort.with_columns({name: _filled(cohort.covariates, name) for name in columns}).covariates
    truths = true_values(people, columns, rows)
    ages = torch.as_tensor(truths, dtype=torch.float32, device=runtime.device)
    return Scans(runtime.volumes(np.concatenate(volumes)), ages)


def _filled(people: Covariates, column: str) -> FloatArray:
    """Return a column with its median where a value is missing, NaN where all are."""
    values = people.columns.get(column, np.full(len(people), np.nan))
    known = np.isfinite(values)
    return np.where(known, values, np.median(values[known])) if known.any() else values


def white_box_attacks(model: AdaptedModel) -> dict[str, Attack]:
    """Return every attack that needs this network alone: signals that it has, and no reference models."""
    held = {PREDICTION, GRADIENT_NORMS, *(f"{GRADIENT}{role}" for role in model.located.roles)}
    held |= {f"{ACTIVATION}{READ_BY_LAST}"} if model.located.reads else set()
    held |= set() if stated_spread(model.head) is None else {STATED_SD}
    allowed = {ThreatModel.BLACK_BOX, ThreatModel.WHITE_BOX}
    return {
        name: attack
        for name, attack in {**ATTACKS, **WITH_STATED_SD}.items()
        if attack.threat_model in allowed
        and attack.requires <= held
        and not needs_models(attack)
        and (name not in OF_SQUARED_ERROR or _is_linear_regression(model))
    }


def _is_linear_regression(model: AdaptedModel) -> bool:
    """Return whether the curvature of the loss at the head is that of a squared error, and small enough."""
    head = model.located.roles.get(HEAD)
    if head is None or not isinstance(model.head, Scalar) or model.head.loss != "mse":
        return False
    layer = model.net.get_submodule(head)
    weight = layer.get_parameter("weight")
    return weight.shape[0] == 1 and weight.numel() <= WIDEST_CURVATURE


def observe_model(
    model: AdaptedModel, plan: TargetPlan, workplace: Workplace, attacks: Sequence[Attack] = ()
) -> Observed:
    """Return the signals of ``model`` on every scan of the workplace's cohort, in its order.

    Projections are among them where ``attacks`` read any.

    Written to the run folder batch by batch; memory does not grow with the number of scans.
    """
    cohort, folder, settings = workplace.cohort, workplace.folder, workplace.config.signals
    place, step = folder.path / "signals" / plan.name, f"{plan.name}/signals"
    if not folder.done(step):
        shutil.rmtree(place, ignore_errors=True)
        extraction = Extraction(
            wanted_signals(model, (*settings.extra, *projections_of(attacks))),
            settings.batch_size,
            workplace.runtime,
            settings.memory_bytes,
            bfloat16=settings.precision == "bfloat16",
        )
        extracted = extract(model, (), cohort, extraction, folder=place, progress=workplace.progress)
        folder.finish(
            step,
            tensors=list(extracted.tensors),
            clipped=extracted.clipped,
            batch_size=extracted.batch_size,
            bytes_per_scan=extracted.bytes_per_scan,
            fallbacks=extracted.fallbacks,
        )
    membership = membership_of(plan.design, cohort.covariates)
    table = open_table(
        place,
        covariates=cohort.covariates,
        model=plan.model.name,
        snapshots=["given"],
        membership=membership,
        tensors=tuple(folder.manifest["steps"][step]["tensors"]),
    )
    table = by_role(table, model)
    return Observed(plan, None, (), float(table.age[table.is_member()].mean()), table)


def projections_of(attacks: Sequence[Attack]) -> tuple[str, ...]:
    """Return the projections of the whole gradient that ``attacks`` read."""
    return tuple(sorted({s for attack in attacks for s in attack.requires if s.startswith(PROJECTION)}))


def wanted_signals(model: AdaptedModel, extra: Sequence[str]) -> tuple[str, ...]:
    """Return the signals to extract: all that attacks may read, and ``extra``; by the module's own names."""
    names = [PREDICTION, GRADIENT_NORMS]
    if stated_spread(model.head) is not None:
        names.append(STATED_SD)
    for layer in model.layers:
        names.append(f"{ACTIVATION if layer.endswith(READS) else GRADIENT}{layer}")
    names += [name for name in extra if name.startswith(PROJECTION)]
    unknown = [n for n in extra if not n.startswith((PROJECTION, GRADIENT)) and n not in names]
    if unknown:
        raise ConfigError(
            f"Signals of a brought model need gradient:LAYER or projection:NUMBER, got {', '.join(unknown)}. "
            "Remove them."
        )
    return tuple(dict.fromkeys(names))


def by_role(table: SignalTable, model: AdaptedModel) -> SignalTable:
    """Return ``table`` with layers under the names of their roles, others under the network's own."""
    places = model.located
    renamed = {f"{GRADIENT}{NET}{name}": f"{GRADIENT}{role}" for role, name in places.roles.items()}
    renamed |= {f"{GRADIENT}{NET}{name}": f"{GRADIENT}{name}" for name in places.extra}
    renamed[f"{ACTIVATION}{NET}{places.reads}{READS}"] = f"{ACTIVATION}{READ_BY_LAST}"
    return replace(
        table,
        values={renamed.get(name, name): array for name, array in table.values.items()},
        tensors=tuple(name.removeprefix(NET) for name in table.tensors),
    )


def weights_digest(net: nn.Module) -> str:
    """Return a digest of all tensors of ``net`` with their names."""
    digest = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def described_head(head: Any) -> dict[str, Any]:
    """Return the kind of a head and its choices, as settings that a file can hold."""
    found: dict[str, Any] = {"kind": type(head).__name__}
    if is_dataclass(head):
        choices = {choice.name: getattr(head, choice.name) for choice in fields(head)}
        found |= {name: _plain(value) for name, value in choices.items() if value is not None}
    return found


def _plain(value: Any) -> Any:
    """Return a choice of a head as a file can hold it: heads in heads by their choices, functions by name."""
    if isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, Head):
        return described_head(value)
    return str(getattr(value, "__qualname__", type(value).__qualname__))
