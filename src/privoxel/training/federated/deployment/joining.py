"""A site's side of a deployment: a SuperNode that trains on its own scans when it is asked."""

import socket
import subprocess
import time
from pathlib import Path

from privoxel.errors import FederationError
from privoxel.training.federated.deployment.apps import cohort_of
from privoxel.training.federated.deployment.processes import environment, last_lines, program, running
from privoxel.training.federated.deployment.serving import Address
from privoxel.training.federated.deployment.settings import SITE_FILE, load_site

POLL_SECONDS = 0.5
RETRY_SECONDS = 60
RETRY_INTERVAL = 2.0
STOPPED = -15
UNKNOWN_KEY = "the server does not know this site's key. Have its public key put into the server's key folder"
SILENT = "the server does not answer. Check --server and that it was started"
REFUSALS = (
    ("CERTIFICATE_VERIFY_FAILED", "the server's certificate was not made by this authority. Use its ca.pem"),
    ("certificate verify failed", "the server's certificate was not made by this authority. Use its ca.pem"),
    ("code: 2004", UNKNOWN_KEY),
    ("Connection refused", SILENT),
)
PASSING = frozenset({UNKNOWN_KEY, SILENT})  # a server that is starting registers its learners a moment later


def join(
    site_file: Path,
    folder: Path,
    server: Address,
    certificate: Path,
    key: Path,
    *,
    seconds: float | None = None,
) -> None:
    """Take part in a federation until the process is interrupted, the server is gone, or after ``seconds``.

    Args:
        site_file: ``SiteConfig`` as TOML.
        folder: for Flower's files and its log.
        server: of the SuperLink.
        certificate: ``ca.pem`` of the federation.
        key: this site's private key.
        seconds: at most; None: no limit.

    Raises:
        FederationError: if the site has no scans, or the server refuses it.
    """
    config = load_site(site_file)
    if not len(cohort_of(config)):
        raise FederationError(f"Site {config.name} needs scans, got none. Give it scans or leave it out.")
    missing = [str(path) for path in (certificate, key) if not path.is_file()]
    if missing:
        raise FederationError(
            f"Site {config.name} needs {', '.join(missing)}, got no such file. Copy it here."
        )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        program("flower-supernode"),
        "--superlink", str(server),
        "--root-certificates", str(certificate.resolve()),
        "--auth-supernode-private-key", str(key.resolve()),
        "--port", str(port),
        "--max-wait-time", str(RETRY_SECONDS),
    ]  # fmt: skip
    variables = environment((folder / "flower").resolve(), {SITE_FILE: str(site_file.resolve())})
    log = folder / "logs" / f"{config.name}.log"
    patience = time.monotonic() + RETRY_SECONDS
    while True:
        start = log.stat().st_size if log.exists() else 0
        with running(command, variables, log) as process:
            _watch(process, seconds)
            code = process.poll()
        if code in {None, STOPPED}:
            return
        if code == 0:  # the server let it go, as a restarted one does: ask again
            patience = time.monotonic() + RETRY_SECONDS
        refusal = _refusal(log, start)
        if (code and refusal not in PASSING) or time.monotonic() > patience:
            raise FederationError(f"Site {config.name} is not part of the federation: {refusal}.")
        time.sleep(RETRY_INTERVAL)


def _watch(process: "subprocess.Popen[bytes]", seconds: float | None) -> None:
    """Wait until the program ends, or for so many seconds."""
    end = None if seconds is None else time.monotonic() + seconds
    while process.poll() is None and (end is None or time.monotonic() < end):
        time.sleep(POLL_SECONDS)


def _refusal(log: Path, start: int) -> str:
    """Return why the program ended, from what it said since ``start``."""
    text = log.read_bytes()[start:].decode("utf-8", errors="replace")
    found = next((meaning for sign, meaning in REFUSALS if sign in text), None)
    return found or f"its SuperNode ended. Its last lines:\n{last_lines(log)}"
