"""The folder of a federation: snapshots, updates, and the record of rounds that a killed run resumes from.

``federation.json`` is written last in each round and is what makes the round count. Beside it lie
``snapshots/round-0000.safetensors`` (the initial model) and on, and ``updates/round-0001/NAME.safetensors``
when the server is curious. ``state/`` (the server optimiser's) is removed when the last round is done.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

from safetensors.numpy import load_file, save_file
from torch import nn

from privoxel.arrays import Float32Array
from privoxel.errors import FederationError
from privoxel.store import atomic_path, differences, write_json
from privoxel.training.federated.records import Weights, load_into, weights_of
from privoxel.training.loop import load_weights, save_weights

RECORD = "federation.json"
SERVER_STATE = "server.safetensors"


@final
@dataclass(frozen=True)
class Round:
    """What happened in one round.

    Attributes:
        number: from 1.
        took_part: learners whose updates made the community model, in their order.
        rejected: learners whose updates were not used, and why.
        failed: learners that were asked and sent no update, and why.
        absent: learners that were not there.
        train_mae: by learner, the training MAE of its last local epoch in years (dropout on).
        clipping_norm: that adaptive clipping used, or None.
    """

    number: int
    took_part: tuple[str, ...]
    rejected: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    train_mae: Mapping[str, float] = field(default_factory=dict)
    clipping_norm: float | None = None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Round":
        """Return the round that a record describes."""
        return cls(**{**stored, "took_part": tuple(stored["took_part"]), "absent": tuple(stored["absent"])})

    def left_out(self) -> str:
        """Return who did not take part and why, in words; empty if nobody."""
        parts = [f"{name} ({reason})" for name, reason in {**self.rejected, **self.failed}.items()]
        return ", ".join([*parts, *(f"{name} (absent)" for name in self.absent)])


@final
@dataclass(frozen=True)
class Federation:
    """A finished federation.

    Attributes:
        rounds: weights of the community models, the initial one first; ``rounds[k]`` ends round k.
        updates: weights of the local models by (round, learner); empty unless the server was curious.
        participation: what happened in each round, the first first.
    """

    rounds: tuple[Path, ...]
    updates: Mapping[tuple[int, str], Path]
    participation: tuple[Round, ...]


@final
@dataclass(frozen=True)
class Ledger:
    """A federation's folder. ``settings`` decide whether it is the same federation."""

    folder: Path
    settings: Mapping[str, Any]

    def snapshot(self, number: int) -> Path:
        """Return the file of the community model that ends round ``number``."""
        return self.folder / "snapshots" / f"round-{number:04d}.safetensors"

    def update(self, number: int, learner: str) -> Path:
        """Return the file of the local model that ``learner`` sent in round ``number``."""
        return self.folder / "updates" / f"round-{number:04d}" / f"{learner}.safetensors"

    def rounds(self) -> tuple[Round, ...]:
        """Return the finished rounds.

        Raises:
            FederationError: if the folder holds a federation with other settings.
        """
        path = self.folder / RECORD
        if not path.exists():
            return ()
        stored = json.loads(path.read_text(encoding="utf-8"))
        changes = list(differences(stored["settings"], json.loads(json.dumps(self.settings))))
        if changes:
            listed = "\n".join(f"  - {change}" for change in changes)
            raise FederationError(
                f"{self.folder} holds a federation with other settings:\n{listed}\n"
                "Restore these settings, or choose another folder."
            )
        return tuple(Round.of(entry) for entry in stored["rounds"])

    def begin(self, model: nn.Module) -> Weights:
        """Return the weights that the next round starts from; a new folder keeps the initial ones."""
        done = len(self.rounds())
        if done:
            load_weights(model, self.snapshot(done))
        else:
            save_weights(model, self.snapshot(0))
            self._write(())
        return weights_of(model)

    def keep_update(self, model: nn.Module, number: int, learner: str, weights: Weights) -> None:
        """Keep the local model of ``learner``; ``model`` is overwritten."""
        save_weights(load_into(model, weights), self.update(number, learner))

    def commit(
        self, model: nn.Module, weights: Weights, finished: Sequence[Round], state: Mapping[str, Float32Array]
    ) -> None:
        """Keep the community model of the last of the ``finished`` rounds; ``model`` is overwritten.

        ``state`` is what the server's optimiser needs for the next round.
        """
        number = finished[-1].number
        save_weights(load_into(model, weights), self.snapshot(number))
        if state:
            with atomic_path(self._state(number)) as temporary:
                save_file(dict(state), os.fspath(temporary))
        self._write(finished)
        self._state(number - 1).unlink(missing_ok=True)

    def server_state(self, number: int) -> dict[str, Float32Array]:
        """Return what the server's optimiser knew after round ``number``."""
        path = self._state(number)
        return load_file(os.fspath(path)) if path.exists() else {}

    def close(self) -> None:
        """Remove what only a resumed run would need."""
        shutil.rmtree(self.folder / "state", ignore_errors=True)

    def federation(self) -> Federation:
        """Return what the folder holds."""
        finished = self.rounds()
        kept = {
            (entry.number, name): path
            for entry in finished
            for name in entry.took_part
            if (path := self.update(entry.number, name)).exists()
        }
        return Federation(tuple(self.snapshot(k) for k in range(len(finished) + 1)), kept, finished)

    def _state(self, number: int) -> Path:
        return self.folder / "state" / f"{number:04d}-{SERVER_STATE}"

    def _write(self, finished: Sequence[Round]) -> None:
        entries = [asdict(entry) for entry in finished]
        write_json(self.folder / RECORD, {"settings": self.settings, "rounds": entries})
