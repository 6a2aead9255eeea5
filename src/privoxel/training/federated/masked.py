"""A learner's training under secure aggregation: it answers with its update, which Flower's mod masks."""

import numpy as np
from flwr.app import Message
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.compat.common.recorddict_compat import fitres_to_recorddict, recorddict_to_fitins

from privoxel.errors import FederationError
from privoxel.training.federated.local import LocalSettings, train_locally
from privoxel.training.federated.privacy import SecureAggregation
from privoxel.training.federated.records import load_into, weights_of
from privoxel.training.federated.sites import Site

WEIGHTED = "weighted"


def train_masked(site: Site, message: Message, privacy: SecureAggregation) -> Message:
    """Return the learner's update in the records that the SecAgg+ mod masks.

    Raises:
        FederationError: if the update cannot be masked; the learner then leaves the round.
    """
    instruction = recorddict_to_fitins(message.content, keep_input=True)
    model = site.shared.model
    names = [name for name, _ in model.named_parameters()]
    community = dict(zip(names, parameters_to_ndarrays(instruction.parameters), strict=True))
    train_locally(load_into(model, community), site.scans, LocalSettings.received(instruction.config))
    update = [value - community[name] for name, value in weights_of(model).items()]
    largest = float(np.max([np.abs(value).max() for value in update]))  # NumPy's max keeps a NaN
    if not largest <= privacy.largest_update:
        raise FederationError(
            f"Secure aggregation needs updates of at most {privacy.largest_update:g} a weight, "
            f"got {largest:g}. Raise largest_update, or lower the learning rate."
        )
    count = len(site.rows) if instruction.config[WEIGHTED] else 1
    result = FitRes(Status(Code.OK, ""), ndarrays_to_parameters(update), count, {})
    return Message(fitres_to_recorddict(result, keep_input=False), reply_to=message)
