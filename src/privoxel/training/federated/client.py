"""The learner's half: a Flower ClientApp that says who it is and trains on its own scans.

The same app answers over every engine. What differs is ``find``: how a node learns which site it is (by
number in a simulation, by its own configuration in a deployment). The server sends settings and weights
only; the scans and the seed of a learner's randomness (its noise, too) never leave it.
"""

import logging
from collections.abc import Callable

from flwr.app import ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import LocalDpMod, adaptiveclipping_mod, fixedclipping_mod
from flwr.clientapp.typing import ClientAppCallable, Mod
from flwr.common.constant import ErrorCode

from privoxel.training.federated.active import ascend
from privoxel.training.federated.fingerprints import keyed_hashes, mean_quantiles, secret_mark
from privoxel.training.federated.local import LocalSettings, train_locally
from privoxel.training.federated.masked import train_masked
from privoxel.training.federated.noise import numpy_stream
from privoxel.training.federated.privacy import CentralPrivacy, LocalPrivacy, Privacy, SecureAggregation
from privoxel.training.federated.records import from_record, load_into, to_record, weights_of
from privoxel.training.federated.sites import Site

logger = logging.getLogger(__name__)

ARRAYS = "arrays"
CONFIG = "config"
METRICS = "metrics"
IDENTITY = "identity"
ROSTER = "roster"


Find = Callable[[Context], Site]


def client_app(find: Find, privacy: Privacy | None = None, *, tells_reasons: bool = True) -> ClientApp:
    """Return the app of a node that is the site that ``find`` returns.

    Args:
        find: the site, from the context of the node; called for each message.
        privacy: what the learner does to its update before sending it.
        tells_reasons: whether the server is told what an error says, or only its kind; messages may name
            files and participants, which a site does not send out.
    """
    app = ClientApp(mods=[_telling(tells_reasons)])

    @app.query(ROSTER)
    def tell(message: Message, context: Context) -> Message:
        site = find(context)
        return Message(RecordDict({IDENTITY: _identity(site)}), reply_to=message)

    @app.train(mods=_mods(find, privacy))
    def train(message: Message, context: Context) -> Message:
        site = find(context)
        if isinstance(privacy, SecureAggregation):
            return train_masked(site, message, privacy)
        return _train(site, message)

    return app


def _identity(site: Site) -> ConfigRecord:
    """Return what a site says of itself: counts, grid, mean quantiles, and keyed hashes if it opted in."""
    people = len(set(site.cohort.covariates.participant_index[site.rows].tolist()))
    secret = site.shared.secret
    return ConfigRecord(
        {
            "learner": site.name,
            "scans": len(site.rows),
            "participants": people,
            "grid": repr(site.cohort.grid),
            "quantiles": _quantiles(site),
            "secret": "" if secret is None else secret_mark(secret),
            "hashes": [] if secret is None else keyed_hashes(site.cohort, site.rows, secret),
        }
    )


def _quantiles(site: Site) -> list[float]:
    """Return the site's mean quantiles; none where scans cannot be read: the site says so when it trains."""
    if not len(site.rows):
        return []
    try:
        return mean_quantiles(site.cohort, site.rows)
    except Exception:  # whatever a reader raises
        logger.exception("The site's scans could not be read for their quantiles")
        return []


def _train(site: Site, message: Message) -> Message:
    model = load_into(site.shared.model, from_record(message.content.array_records[ARRAYS]))
    settings = LocalSettings.received(message.content.config_records[CONFIG])
    mae = train_locally(model, site.scans, settings)
    if site.ascent is not None:
        ascend(model, site.scans, site.ascent)
    metrics = MetricRecord({"num-examples": len(site.rows), "once": 1, "train-mae": mae})
    content = RecordDict({ARRAYS: to_record(weights_of(model)), METRICS: metrics})
    return Message(content, reply_to=message)


def _telling(tells_reasons: bool) -> Mod:
    """Return the mod that turns an error of the site into a short reply, without the traceback."""

    def run(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        try:
            return call_next(message, context)
        except Exception as error:  # whatever a learner's failure is, the round goes on
            kind = type(error).__name__
            if not tells_reasons:
                logger.exception("The site could not answer %s", message.metadata.message_type)
            reason = f"{kind}: {error}" if tells_reasons else kind
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)

    return run


def _mods(find: Find, privacy: Privacy | None) -> list[Mod]:
    """Return what stands between the training and the server."""
    if isinstance(privacy, LocalPrivacy):
        sensitivity = privacy.clipping_norm if privacy.sensitivity is None else privacy.sensitivity
        noise = LocalDpMod(privacy.clipping_norm, sensitivity, privacy.epsilon, privacy.delta)
        return [_seeded(noise, find)]
    if isinstance(privacy, SecureAggregation):
        return [_seeded(secaggplus_mod, find)]  # its rounding is random
    if isinstance(privacy, CentralPrivacy) and privacy.clipped_by == "learner":
        return [fixedclipping_mod if privacy.clipping == "fixed" else adaptiveclipping_mod]
    return []


def _seeded(mod: Mod, find: Find) -> Mod:
    """Return ``mod`` drawing its noise from the learner's own stream of the round."""

    def run(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        records = message.content.config_records
        number = str(records[CONFIG]["server-round"]) if CONFIG in records else message.metadata.group_id
        with numpy_stream(find(context).streams.seed(f"noise/{number}")):
            return mod(message, context, call_next)

    return run
