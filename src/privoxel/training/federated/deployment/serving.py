"""The server's side of a deployment: a SuperLink with TLS, known learners only, and the rounds on it."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from privoxel.errors import FederationError
from privoxel.progress import Progress
from privoxel.training.federated.deployment.apps import OUTCOME
from privoxel.training.federated.deployment.keys import AUTHORITY, SERVER
from privoxel.training.federated.deployment.processes import environment, last_lines, program, running
from privoxel.training.federated.deployment.settings import (
    RUN_FOLDER,
    SERVER_FILE,
    ServerConfig,
    load_server,
)
from privoxel.training.federated.ledger import RECORD, Federation, Ledger

CONNECTION = "deployment"
READY_SECONDS = 90.0
POLL_SECONDS = 0.5
APP = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "privoxel-federation"
version = "1.0.0"
description = "A federation of privoxel"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "privoxel"

[tool.flwr.app.components]
serverapp = "privoxel_federation.server:app"
clientapp = "privoxel_federation.learner:app"

[tool.flwr.app.config]
"""
MODULE = '''"""Made by privoxel: the app that Flower loads."""

from privoxel.training.federated.deployment.apps import {kind}_app

app = {kind}_app()
'''


class Address(NamedTuple):
    """Where the server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def serve(config_file: Path, folder: Path, keys: Path, address: Address, progress: Progress) -> Federation:
    """Run the rounds that ``folder`` lacks over the learners that connect, and return what it then holds.

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
    _check_port(address)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / OUTCOME).unlink(missing_ok=True)
    home = folder / "flower"
    extra = {SERVER_FILE: str(config_file.resolve()), RUN_FOLDER: str(folder.resolve())}
    variables = environment(home.resolve(), extra)
    log = folder / "logs" / "superlink.log"
    with running(_superlink(keys, address), variables, log) as process:
        _wait_until_open(address, process, log)
        _connect(home, keys, address)
        _register(config, keys, variables)
        _submit(_write_app(folder / "app"), variables)
        _watch(config, folder, process, progress)
    ledger = Ledger(folder / "federation", {})
    return _read(ledger)


def _superlink(keys: Path, address: Address) -> list[str]:
    return [
        program("flower-superlink"),
        "--host", address.host,
        "--port", str(address.port),
        "--ssl-ca-certfile", str(keys / f"{AUTHORITY}.pem"),
        "--ssl-certfile", str(keys / f"{SERVER}.pem"),
        "--ssl-keyfile", str(keys / f"{SERVER}.key"),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
    ]  # fmt: skip


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


def _check_port(address: Address) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            raise FederationError(
                f"A deployed server needs a free port, got {address}: {error.strerror}. Choose another."
            ) from error


def _wait_until_open(address: Address, process: "subprocess.Popen[bytes]", log: Path) -> None:
    host = "127.0.0.1" if address.host in {"0.0.0.0", ""} else address.host  # noqa: S104 - compared, not bound
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex((host, address.port)) == 0:
                return
        time.sleep(POLL_SECONDS)
    raise FederationError(f"The SuperLink did not start. Its last lines:\n{last_lines(log)}")


def _connect(home: Path, keys: Path, address: Address) -> None:
    """Tell Flower's command line where the SuperLink is."""
    home.mkdir(parents=True, exist_ok=True)
    certificate = json.dumps(str((keys / f"{AUTHORITY}.pem").resolve()))
    host = "127.0.0.1" if address.host in {"0.0.0.0", ""} else address.host  # noqa: S104
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
        f'address = "{host}:{address.port}"\nroot-certificates = {certificate}\n',
        encoding="utf-8",
    )


def _register(config: ServerConfig, keys: Path, variables: Mapping[str, str]) -> None:
    for name in config.learners:
        _flower(
            ["supernode", "register", str(keys / f"{name}.pub"), CONNECTION], variables, f"register {name}"
        )


def _submit(app: Path, variables: Mapping[str, str]) -> None:
    _flower(["run", str(app), CONNECTION], variables, "start the rounds")


def _flower(arguments: list[str], variables: Mapping[str, str], what: str) -> None:
    found = subprocess.run(  # noqa: S603 - one of Flower's programs
        [program("flwr"), *arguments], env=dict(variables), capture_output=True, text=True, check=False
    )
    if found.returncode:
        said = " ".join((found.stdout + found.stderr).split())
        raise FederationError(f"Flower could not {what}: {said[-400:]}")


def _write_app(folder: Path) -> Path:
    """Write the small app that names privoxel's own, which every machine has installed."""
    package = folder / "privoxel_federation"
    package.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(APP, encoding="utf-8")
    (package / "__init__.py").write_text('"""A federation of privoxel."""\n', encoding="utf-8")
    for kind in ("server", "learner"):
        (package / f"{kind}.py").write_text(MODULE.format(kind=kind), encoding="utf-8")
    return folder


def _watch(
    config: ServerConfig, folder: Path, process: "subprocess.Popen[bytes]", progress: Progress
) -> None:
    """Show finished rounds until the server's app says how it ended."""
    done = 0
    with progress.task("federation", config.federation.rounds) as task:
        while not (folder / OUTCOME).exists():
            if process.poll() is not None:
                raise FederationError(
                    "The SuperLink ended before the rounds did. Start the server again: finished rounds are "
                    f"kept. Its last lines:\n{last_lines(folder / 'logs' / 'superlink.log')}"
                )
            for entry in list(_rounds(folder))[done:]:
                task.advance()
                task.note(entry)
                done += 1
            time.sleep(POLL_SECONDS)
        for entry in list(_rounds(folder))[done:]:
            task.advance()
            task.note(entry)
    error = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))["error"]
    if error:
        raise FederationError(error)


def _rounds(folder: Path) -> Iterator[str]:
    """Yield a line for each finished round."""
    record = folder / "federation" / RECORD
    if not record.exists():
        return
    for entry in json.loads(record.read_text(encoding="utf-8"))["rounds"]:
        yield f"round {entry['number']}, {len(entry['took_part'])} learners"


def _read(ledger: Ledger) -> Federation:
    stored = json.loads((ledger.folder / RECORD).read_text(encoding="utf-8"))
    return Ledger(ledger.folder, stored["settings"]).federation()
