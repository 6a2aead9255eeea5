"""Rounds of secure aggregation (SecAgg+): the server unmasks the mean and never sees an update.

Flower 1.41 has the protocol for its older interface only. Here its workflow is called round by round with a
strategy that does nothing but pass weights in and the mean out, and its client mod wraps a training function
that answers with the *update* (local minus community weights), whose small range rounds finely.
"""

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from flwr.app import ConfigRecord, Context, RecordDict
from flwr.common import FitIns, FitRes, NDArray, Parameters, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.compat.common.recorddict_compat import parameters_to_arrayrecord
from flwr.server import LegacyContext
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from flwr.serverapp import Grid

from privoxel.training.federated.course import Course
from privoxel.training.federated.ledger import Round
from privoxel.training.federated.masked import WEIGHTED
from privoxel.training.federated.privacy import SecureAggregation
from privoxel.training.federated.records import Weights

WITHHELD = "no masked update"


def average_securely(grid: Grid, course: Course, weights: Weights, privacy: SecureAggregation) -> None:
    """Run the rounds that ``course`` lacks, from ``weights``.

    Raises:
        FederationError: if too few learners stay for a round; why each left is not known to the server.
    """
    job = course.job
    for number in range(len(course.finished) + 1, job.rounds + 1):
        asked = course.present(grid, number)
        settings = {**job.local, "server-round": number, WEIGHTED: job.weighted}
        passing = _Passing(grid, asked, settings)
        if len(asked) > 1:
            largest = float(course.roster.largest(asked)) if job.weighted else 1.0
            workflow = SecAggPlusWorkflow(
                1.0,
                privacy.threshold,
                max_weight=largest,
                clipping_range=float(privacy.largest_update),
                timeout=job.round_seconds,
            )
            workflow(grid, _context(grid, passing, number, weights))
        took_part = tuple(name for name in course.roster.expected if name in passing.answered)
        left = {name: WITHHELD for name in asked.values() if name not in took_part}
        entry = Round(number, took_part, failed=left, absent=course.absent(asked.values()))
        course.require_enough(
            entry if len(took_part) > 1 else Round(number, (), failed=left, absent=entry.absent)
        )
        moves = zip(weights.items(), passing.mean, strict=True)
        weights = {name: (value + move).astype(np.float32) for (name, value), move in moves}
        weights = course.close(entry, weights, {})


def _context(grid: Grid, passing: "_Passing", number: int, weights: Weights) -> LegacyContext:
    context = Context(grid.run.run_id, SUPERLINK_NODE_ID, {}, RecordDict(), {})
    parameters = ndarrays_to_parameters(list(weights.values()))
    context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: number})
    context.state.array_records[MAIN_PARAMS_RECORD] = parameters_to_arrayrecord(parameters, True)
    return LegacyContext(context, strategy=passing)


@final
class _Passing(FedAvg):
    """A strategy that hands the weights to the learners ``asked`` and keeps the unmasked mean."""

    def __init__(self, grid: Grid, asked: Mapping[int, str], settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.grid = grid
        self.asked = asked
        self.settings = settings
        self.answered: set[str] = set()
        self.mean: list[NDArray] = []

    def configure_fit(
        self,
        server_round: int,  # noqa: ARG002 - Flower's signature
        parameters: Parameters,
        client_manager: ClientManager,  # noqa: ARG002
    ) -> list[tuple[ClientProxy, FitIns]]:
        """Return the same instruction for every learner asked."""
        run = self.grid.run.run_id
        instruction = FitIns(parameters, dict(self.settings))
        return [(GridClientProxy(node, self.grid, run), instruction) for node in self.asked]

    def aggregate_fit(
        self,
        server_round: int,  # noqa: ARG002 - Flower's signature
        results: list[tuple[ClientProxy, FitRes]],
        failures: list[tuple[ClientProxy, FitRes] | BaseException],  # noqa: ARG002
    ) -> tuple[Parameters | None, dict[str, Any]]:
        """Keep the mean, which every one of the ``results`` carries in place of its own update."""
        self.answered = {self.asked[proxy.node_id] for proxy, _ in results}
        self.mean = parameters_to_ndarrays(results[0][1].parameters)
        return None, {}
