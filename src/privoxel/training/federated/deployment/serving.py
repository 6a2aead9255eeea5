"""The server's side of a deployment: a SuperLink with TLS, known learners only, and the rounds on it."""

from pathlib import Path

from privoxel.errors import FederationError
from privoxel.progress import Progress
from privoxel.training.federated.deployment.apps import server_of
from privoxel.training.federated.deployment.keys import AUTHORITY, SERVER
from privoxel.training.federated.deployment.link_grid import LinkGrid
from privoxel.training.federated.deployment.logs import log_to
from privoxel.training.federated.deployment.settings import ServerConfig, load_server
from privoxel.training.federated.deployment.stopping import interrupted_when_terminated
from privoxel.training.federated.deployment.superlink import Address, serving
from privoxel.training.federated.grid import server_identity
from privoxel.training.federated.ledger import Federation


def serve(config_file: Path, folder: Path, keys: Path, address: Address, progress: Progress) -> Federation:
    """Run the rounds that ``folder`` lacks over the learners that connect, and return what it then holds.

    Everything happens in this process: when it ends, however it ends, nothing of the server is left.

    Args:
        config_file: ``ServerConfig`` as TOML.
        folder: of the run; a killed server goes on after its last finished round.
        keys: folder of ``make_keys``: the server's certificate and the learners' public keys.
        address: where to listen.
        progress: one task of as many steps as rounds.

    Raises:
        FederationError: if a key is missing, the port is taken, or a round cannot be finished.
    """
    config = load_server(config_file)
    _check_keys(keys, config)
    finished = server_of(config, folder, progress, {})
    if finished.is_done():
        return finished.ledger.federation()
    with (
        interrupted_when_terminated(),
        log_to(folder / "logs" / "server.log"),
        serving(address, keys, config.learners) as link,
        server_identity(link.run.run_id),
    ):
        return server_of(config, folder, progress, link.nodes).conduct(LinkGrid(link))


def _check_keys(keys: Path, config: ServerConfig) -> None:
    names = [
        f"{AUTHORITY}.pem",
        f"{SERVER}.pem",
        f"{SERVER}.key",
        *(f"{name}.pub" for name in config.learners),
    ]
    missing = [name for name in names if not (keys / name).is_file()]
    if missing:
        raise FederationError(
            f"A deployed server needs its keys in {keys}, got none of {', '.join(missing)}. "
            "Make them by `privoxel federate deploy keys`."
        )
