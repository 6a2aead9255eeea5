"""The attacks of the paper's Table 1 that train an encoder per feature (Gupta et al. 2021, appendix C).

Features are standardised on the leaked scans, a fifth of the leaked participants choose the epoch, and a
scan is called a member where its logit is above 0: the classes weigh the same, so the paper decides so.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
import numpy.typing as npt

from privoxel.arrays import BoolArray, Float32Array
from privoxel.attacks.architecture import Branch, Encoder, Schedule
from privoxel.attacks.base import Knowledge, Scored, ThreatModel, leaked_table
from privoxel.attacks.folds import leaked_folds
from privoxel.attacks.standardise import fit_standardiser
from privoxel.errors import SignalError
from privoxel.signals.table import ACTIVATION, GRADIENT, GRADIENT_NORMS, PREDICTION, SignalTable

if TYPE_CHECKING:
    from privoxel.attacks.encoders import Tail

CONV1, CONV6, OUTPUT, HIDDEN = (f"{GRADIENT}{layer}" for layer in ("conv1", "conv6", "output", "hidden"))
CONV5_ACTIVATION = f"{ACTIVATION}conv5"
ADAPTED = "encoder=adapted"
GENERIC = "encoder=generic"
PAPER = "Gupta et al. 2021, table 1"


class Features(NamedTuple):
    """One standardised feature, ready for its encoder, and what was dropped from it."""

    branch: Branch
    notes: tuple[str, ...]


@final
@dataclass(frozen=True)
class EncoderAttack:
    """One encoder for each of ``signals``, concatenated → dropout → linear → logit.

    ``prediction`` stands for prediction and label (age) together. With ``gradient:output`` the gradient of
    the slice-mean net's hidden layer is read too, where the table has it: the paper counts both as output.
    """

    name: str
    title: str
    threat_model: ThreatModel
    signals: tuple[str, ...]
    source: str
    epochs: int = 100
    patience: int = 20
    dropout: float = 0.5

    needs_leaked = True

    @property
    def requires(self) -> frozenset[str]:
        """Signals that target and leaked table must hold."""
        return frozenset(self.signals)

    @property
    def uses(self) -> frozenset[str]:
        """The gradient of the hidden layer, which belongs to that of the output."""
        return frozenset({HIDDEN} if OUTPUT in self.signals else ())

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return the logit of each scan of ``target``; the threshold is 0.

        Raises:
            SignalError: if a signal or leaked participants are missing, or a value is not finite.
        """
        from privoxel.attacks import encoders  # noqa: PLC0415 - listing attacks must not import torch

        leaked = leaked_table(self, target, knowledge)
        validation = validation_fifth(leaked, rng)
        features = [_features(name, leaked, target) for name in self._signals_of(leaked, target)]
        fitted = encoders.encoder_logits(
            [feature.branch for feature in features],
            leaked.is_member(),
            validation=validation,
            schedule=_schedule(self),
            seed=int(rng.integers(2**62)),
        )
        return Scored(fitted.logits, 0.0, _notes(features))

    def _signals_of(self, leaked: SignalTable, target: SignalTable) -> tuple[str, ...]:
        there = (n for n in self.uses if n in leaked.values and n in target.values)
        return (*self.signals, *there)


@final
@dataclass(frozen=True)
class ActivationAttack:
    """A copy of the target's later layers as the encoder of conv 5's activations, fine-tuned.

    ``tail`` maps those activations to an embedding and is never changed; without it a generic encoder is
    used.
    """

    tail: "Tail | None" = None
    epochs: int = 100
    patience: int = 20
    dropout: float = 0.5

    name = "activation"
    title = "activation (conv 5)"
    threat_model = ThreatModel.WHITE_BOX
    requires = frozenset({CONV5_ACTIVATION})
    needs_leaked = True
    source = f"{PAPER} (activation) and appendix C"

    def score(self, target: SignalTable, knowledge: Knowledge, rng: np.random.Generator) -> Scored:
        """Return the logit of each scan of ``target``; the threshold is 0.

        Raises:
            SignalError: if a signal or leaked participants are missing, or a value is not finite.
        """
        from privoxel.attacks import encoders  # noqa: PLC0415 - listing attacks must not import torch

        leaked = leaked_table(self, target, knowledge)
        validation, seed = validation_fifth(leaked, rng), int(rng.integers(2**62))
        members, schedule = leaked.is_member(), _schedule(self)
        if self.tail is None:
            feature = _features(CONV5_ACTIVATION, leaked, target)
            fitted = encoders.encoder_logits(
                [feature.branch], members, validation=validation, schedule=schedule, seed=seed
            )
            return Scored(fitted.logits, 0.0, (GENERIC, *feature.notes))
        arrays = _finite(CONV5_ACTIVATION, leaked), _finite(CONV5_ACTIVATION, target)
        fitted = encoders.tail_logits(
            self.tail,
            Branch(Encoder.FLAT, *arrays),
            members,
            validation=validation,
            schedule=schedule,
            seed=seed,
        )
        return Scored(fitted.logits, 0.0)


def validation_fifth(leaked: SignalTable, rng: np.random.Generator) -> BoolArray:
    """Return which leaked scans choose the epoch: a fifth of the participants of each class.

    Raises:
        SignalError: if there are fewer than two leaked participants of a class.
    """
    return np.asarray(leaked_folds(leaked, rng) == 0)


def _schedule(attack: EncoderAttack | ActivationAttack) -> Schedule:
    return Schedule(epochs=attack.epochs, patience=attack.patience, dropout=attack.dropout)


def _features(signal: str, leaked: SignalTable, target: SignalTable) -> Features:
    """Return ``signal`` scaled by the leaked scans, in the shape its encoder reads."""
    known, unknown = _finite(signal, leaked), _finite(signal, target)
    scaling = fit_standardiser(known)
    kind = _encoder(signal, known.shape[1:])
    notes = scaling.notes(signal)
    if kind is Encoder.FLAT:
        branch = Branch(kind, scaling.vectors(known), scaling.vectors(unknown))
        return Features(branch, (ADAPTED, *notes) if signal == CONV6 else notes)
    branch = Branch(kind, *(_as_map(kind, scaling.maps(values)) for values in (known, unknown)))
    return Features(branch, (ADAPTED, *notes) if branch.is_adapted else notes)


def _finite(signal: str, table: SignalTable) -> Float32Array:
    """Return the values of ``signal``; prediction comes with the label as its second column."""
    values = table.read(signal)
    if signal == PREDICTION:
        values = np.column_stack([values, table.age]).astype(np.float32)
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if bad.any():
        raise SignalError(
            f"An encoder attack needs finite {signal}, got {int(bad.sum())} scans with other values (first: "
            f"row {int(bad.argmax())}). Extract the signal again or drop these scans."
        )
    return values


def _encoder(signal: str, shape: tuple[int, ...]) -> Encoder:
    """Return the encoder the paper uses for a weight of this layer and shape."""
    is_pointwise = all(length == 1 for length in shape[2:])
    if signal == CONV6 and is_pointwise:
        return {5: Encoder.IMAGE, 4: Encoder.SEQUENCE}.get(len(shape), Encoder.FLAT)
    if signal == HIDDEN and len(shape) == 2:
        return Encoder.PADDED_SEQUENCE
    return Encoder.FLAT


def _as_map(kind: Encoder, values: npt.NDArray[Any]) -> Float32Array:
    """Return scans × channels × lengths: a 3D conv 6 of 64×256 weights is an image of 1×256×64."""
    matrix = values.reshape(len(values), values.shape[1], values.shape[2])
    return matrix.transpose(0, 2, 1)[:, None] if kind is Encoder.IMAGE else matrix


def _notes(features: list[Features]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for feature in features for note in feature.notes))


GRADIENT_MAGNITUDE = EncoderAttack(
    name="gradient-magnitude",
    title="gradient magnitude",
    threat_model=ThreatModel.WHITE_BOX,
    signals=(GRADIENT_NORMS,),
    source=f"{PAPER} (gradient magnitude) and appendix C.1",
)
GRADIENT_CONV1 = EncoderAttack(
    name="gradient-conv1",
    title="gradient (conv 1)",
    threat_model=ThreatModel.WHITE_BOX,
    signals=(CONV1,),
    source=f"{PAPER} (gradient (conv 1 layer)) and appendix C.1",
)
GRADIENT_OUTPUT = EncoderAttack(
    name="gradient-output",
    title="gradient (output)",
    threat_model=ThreatModel.WHITE_BOX,
    signals=(OUTPUT,),
    source=f"{PAPER} (gradient (output layer)) and appendix C.1",
)
GRADIENT_CONV6 = EncoderAttack(
    name="gradient-conv6",
    title="gradient (conv 6)",
    threat_model=ThreatModel.WHITE_BOX,
    signals=(CONV6,),
    source=f"{PAPER} (gradient (conv 6 layer)) and appendix C.1",
)
PREDICTION_LABEL = EncoderAttack(
    name="prediction-label",
    title="prediction + label",
    threat_model=ThreatModel.BLACK_BOX,
    signals=(PREDICTION,),
    source=f"{PAPER} (prediction + label) and appendix C.1",
)
COMBINED = EncoderAttack(
    name="combined",
    title="prediction + label + gradient (conv 6 + output)",
    threat_model=ThreatModel.WHITE_BOX,
    signals=(PREDICTION, CONV6, OUTPUT),
    source=f"{PAPER} (prediction + label + gradient (conv 6 + output)) and appendix C.1",
)

ATTACKS = (
    ActivationAttack(),
    GRADIENT_MAGNITUDE,
    GRADIENT_CONV1,
    GRADIENT_OUTPUT,
    GRADIENT_CONV6,
    PREDICTION_LABEL,
    COMBINED,
)
