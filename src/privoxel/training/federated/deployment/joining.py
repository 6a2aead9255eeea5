"""A site's side of a deployment: a SuperNode that trains on its own scans when it is asked."""

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.clientapp import ClientApp
from flwr.supercore.error import ApiErrorCode, FlowerError

from privoxel.errors import FederationError
from privoxel.training.federated.deployment.apps import learner_app, site_of
from privoxel.training.federated.deployment.gate import OVER, UNKNOWN_KEY, WRONG_TIME
from privoxel.training.federated.deployment.keys import private_key
from privoxel.training.federated.deployment.logs import log_to
from privoxel.training.federated.deployment.settings import load_site
from privoxel.training.federated.deployment.stopping import interrupted_when_terminated
from privoxel.training.federated.deployment.superlink import Address
from privoxel.training.federated.deployment.supernode import SuperNode, line_to

logger = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
FIRST_SECONDS = 120.0
AGAIN_SECONDS = 1800.0
"""How long a site calls a server that it has not reached yet, and one that it has lost."""
ANOTHER_SECONDS = 45.0
"""How long it waits for a node with its key to go; Flower gives a silent one up after two heartbeats."""
WRONG_AUTHORITY = "the server's certificate was not made by this authority. Use its ca.pem"
SILENT = "the server does not answer. Check --server and that it was started"
ANOTHER = "another process is connected with this site's key. End it"
MEANINGS = {
    UNKNOWN_KEY: "the server does not know this site's key. "
    "Have its public key put into the server's key folder",
    WRONG_TIME: "its clock differs from the server's. Set both by a time server",
}
Until = Callable[[], bool]


def join(
    site_file: Path,
    folder: Path,
    server: Address,
    certificate: Path,
    key: Path,
    *,
    seconds: float | None = None,
) -> None:
    """Take part in a federation until it is over, the process is interrupted, or ``seconds`` have passed.

    Everything happens in this process: when it ends, however it ends, nothing of the site is left.

    Args:
        site_file: ``SiteConfig`` as TOML.
        folder: for the site's log.
        server: of the SuperLink.
        certificate: ``ca.pem`` of the federation.
        key: this site's private key.
        seconds: at most; None: no limit.

    Raises:
        FederationError: if the site has no scans, or the server refuses it or stays away.
    """
    config = load_site(site_file)
    missing = [str(path) for path in (certificate, key) if not path.is_file()]
    if missing:
        raise FederationError(
            f"Site {config.name} needs {', '.join(missing)}, got no such file. Copy it here."
        )
    signer = private_key(key)
    end = None if seconds is None else time.monotonic() + seconds
    with interrupted_when_terminated(), log_to(folder / "logs" / f"{config.name}.log"):
        app = learner_app(site_of(config), config)
        try:
            take_part(app, server, certificate, signer, lambda: end is not None and time.monotonic() > end)
        except RefusedError as refusal:
            raise FederationError(f"Site {config.name} is not part of the federation: {refusal}.") from None


class RefusedError(Exception):
    """Why a site cannot be part of the federation."""


def take_part(
    app: ClientApp, server: Address, certificate: Path, key: ec.EllipticCurvePrivateKey, until: Until
) -> None:
    """Answer the server until it says that the federation is over, over a new line whenever one breaks.

    Raises:
        RefusedError: if the server does not let the site in, or stays away.
    """
    patience = time.monotonic() + FIRST_SECONDS
    since_another: float | None = None
    over = threading.Event()
    while not (until() or over.is_set()):
        try:
            with line_to(server, certificate, key) as line:
                node = SuperNode(line, key, app, over)
                logger.info("Connected to %s", server)
                since_another = None
                with node.connected():
                    patience = time.monotonic() + AGAIN_SECONDS
                    node.answer(until)
        except httpx.HTTPStatusError as error:
            if (said := _said(error)) == OVER:
                over.set()
                continue
            if said in MEANINGS:
                raise RefusedError(MEANINGS[said]) from error
            if said == ANOTHER:
                since_another = since_another or time.monotonic()
                if time.monotonic() - since_another > ANOTHER_SECONDS:
                    raise RefusedError(ANOTHER) from error
        except httpx.TransportError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise RefusedError(WRONG_AUTHORITY) from error
            logger.info("No line to %s: %s", server, error)
        if time.monotonic() > patience:
            raise RefusedError(SILENT)
        time.sleep(RETRY_SECONDS)
    logger.info("The federation is over" if over.is_set() else "It is time to leave")


def _said(error: httpx.HTTPStatusError) -> str:
    """Return what the server said with a refusal."""
    text = error.response.text
    flower = FlowerError.from_json(text)
    if flower is not None:
        return ANOTHER if flower.code == ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED else flower.message
    try:
        return str(json.loads(text)["detail"])
    except (ValueError, KeyError, TypeError):
        return text
