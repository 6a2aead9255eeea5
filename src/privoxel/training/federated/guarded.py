"""The server's half of a round: a Flower strategy, guarded so that bad learners do not end it.

``Guarded`` stands around any Flower strategy. It asks only learners that are there, refuses updates that
cannot be used (naming the learner), sorts the others by learner so that the mean does not depend on who
answers first, counts them for the noise of differential privacy, and keeps the result of every round.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple, final

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from privoxel.training.federated.client import ARRAYS, METRICS
from privoxel.training.federated.course import Course
from privoxel.training.federated.ledger import Round
from privoxel.training.federated.noise import numpy_stream
from privoxel.training.federated.privacy import CentralPrivacy
from privoxel.training.federated.records import Weights, from_record, to_record
from privoxel.training.federated.strategy import adapt_norm, count_updates, state_of

LONGEST_REASON = 200
NO_ANSWER = "no answer"


class _Sorted(NamedTuple):
    usable: dict[str, Message]
    rejected: dict[str, str]
    failed: dict[str, str]


@final
class Guarded(Strategy):
    """``inner``, guarded. Rounds are numbered on from those that ``course`` has finished already."""

    def __init__(self, inner: Strategy, course: Course) -> None:
        self.inner = inner
        self.job = course.job
        self.course = course
        self.before = len(course.finished)
        self.community: Weights = {}
        self.asked: dict[int, str] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return a message for each learner that is there."""
        number = self.before + server_round
        self.asked = self.course.present(grid, number)
        self.community = from_record(arrays)
        if not self.asked:
            return []
        messages = self.inner.configure_train(number, arrays, config, grid)
        return [message for message in messages if message.metadata.dst_node_id in self.asked]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Return the next community model from the usable replies, after keeping it.

        Raises:
            FederationError: if fewer learners than the job's minimum sent a usable update, naming why.
        """
        number = self.before + server_round
        course = self.course
        found = self._sort(replies)
        maes = {name: _metric(message, "train-mae") for name, message in found.usable.items()}
        entry = Round(
            number,
            tuple(found.usable),
            found.rejected,
            found.failed,
            course.absent(self.asked.values()),
            maes,
        )
        course.require_enough(entry)
        if self.job.curious:
            for name, message in found.usable.items():
                update = from_record(message.content.array_records[ARRAYS])
                course.ledger.keep_update(course.model, number, name, update)
        weights = self._mean(number, list(found.usable.values()))
        norm = adapt_norm(self.inner)
        weights = course.close(replace(entry, clipping_norm=norm), weights, state_of(self.inner))
        return to_record(weights), MetricRecord({"train-mae": float(np.mean(list(maes.values())))})

    def configure_evaluate(
        self,
        server_round: int,  # noqa: ARG002 - Flower's signature
        arrays: ArrayRecord,  # noqa: ARG002
        config: ConfigRecord,  # noqa: ARG002
        grid: Grid,  # noqa: ARG002
    ) -> Iterable[Message]:
        """Return nothing: community models are judged from their snapshots."""
        return []

    def aggregate_evaluate(
        self,
        server_round: int,  # noqa: ARG002 - Flower's signature
        replies: Iterable[Message],  # noqa: ARG002
    ) -> MetricRecord | None:
        """Return nothing."""
        return None

    def summary(self) -> None:
        """Say nothing: the settings are in the record of the federation."""

    def _sort(self, replies: Iterable[Message]) -> _Sorted:
        """Return the replies by learner, in the order of the learners."""
        answers, silence = {}, NO_ANSWER
        for message in replies:
            if message.metadata.src_node_id in self.asked:
                answers[self.asked[message.metadata.src_node_id]] = message
            elif message.has_error():  # for a node that went offline the server's own link answers
                silence = f"{NO_ANSWER}: {_reason(message)}"
        usable, rejected, failed = {}, {}, {}
        for name in self.course.roster.expected:
            if name not in self.asked.values():
                continue
            reply = answers.get(name)
            if reply is None or reply.has_error():
                failed[name] = silence if reply is None else _reason(reply)
            elif fault := self._fault_in(reply):
                rejected[name] = fault
            else:
                usable[name] = reply
        return _Sorted(usable, rejected, failed)

    def _fault_in(self, reply: Message) -> str:
        """Return why an update cannot be used, or an empty text."""
        records, metrics = reply.content.array_records, reply.content.metric_records
        if set(records) != {ARRAYS} or set(metrics) != {METRICS}:
            return "its reply has other records than one of weights and one of metrics"
        weights = from_record(records[ARRAYS])
        if _shapes(weights) != _shapes(self.community):
            return "its weights are those of another model"
        count = _metric(reply, "num-examples")
        if not (np.isfinite(count) and count > 0):
            return f"it counts {count:g} scans"
        bad = [name for name, value in weights.items() if not np.isfinite(value).all()]
        if bad or not np.isfinite(_metric(reply, "train-mae")):
            return f"its update is not finite ({', '.join(bad[:3]) or 'the training error'})"
        clips = isinstance(self.job.privacy, CentralPrivacy)
        if clips and all(np.array_equal(value, self.community[name]) for name, value in weights.items()):
            return "its update is zero, which has no norm to clip"
        return ""

    def _mean(self, number: int, usable: list[Message]) -> Weights:
        count_updates(self.inner, len(usable))
        with numpy_stream(self.course.streams.seed(f"noise/{number}")):
            arrays, _ = self.inner.aggregate_train(number, usable)
        return {} if arrays is None else from_record(arrays)


def _metric(reply: Message, key: str) -> float:
    value = reply.content.metric_records[METRICS].get(key, float("nan"))
    return float("nan") if isinstance(value, list) else float(value)


def _shapes(weights: Weights) -> Mapping[str, tuple[int, ...]]:
    return {name: value.shape for name, value in weights.items()}


def _reason(reply: Message) -> str:
    text = " ".join((reply.error.reason or f"error {reply.error.code}").split())
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 3] + "..."
