"""A real deployment on this machine: SuperLink, two SuperNodes, TLS, known keys; nothing left running."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from privoxel.training.federated.deployment.keys import make_keys
from privoxel.training.federated.ledger import Ledger

pytest.importorskip("flwr", reason="flwr is an extra")

SERVER = """
learners = ["north", "south"]
mean_age = 62.6
resolution_mm = 10.0
[model]
width = 0.125
head = "scaled"
[federation]
rounds = 1
local_epochs = 1
batch_size = 4
learning_rate = 1e-4
loss_scale = 55.0
patience_seconds = 120
"""
SITE = """
name = "{name}"
mean_age = 62.6
seed = {seed}
threads = 1
[cohort]
kind = "simulated"
resolution_mm = 10.0
participants = {participants}
[model]
width = 0.125
head = "scaled"
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(*arguments, folder):
    return subprocess.Popen(  # noqa: S603 - this package
        [sys.executable, "-m", "privoxel", "federate", "deploy", *map(str, arguments)],
        cwd=folder,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "CI": "1", "PRIVOXEL_CACHE": str(folder / "cache")},
    )


def learner(name, port, folder, keys="keys"):
    return start(
        "learner", f"{name}.toml", "--server", f"127.0.0.1:{port}", "--certificate", f"{keys}/ca.pem",
        "--key", f"{keys}/{name}.key", "-o", f"at-{name}-{keys}", folder=folder,
    )  # fmt: skip


def server(port, folder):
    return start("server", "server.toml", "--keys", "keys", "-o", "run", "--port", port, "-q", folder=folder)


def end(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    process.stdout.close()


def started_in(folder):
    """Return the command lines of all processes that work for the federation in ``folder``."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                with open(f"/proc/{entry.name}/environ", "rb") as text:  # noqa: PTH123
                    if str(folder).encode() in text.read():
                        found.append(entry.name)
            except OSError:
                continue
    return found


@pytest.fixture
def places(tmp_path):
    make_keys(tmp_path / "keys", ["127.0.0.1", "localhost"], ["north", "south"])
    (tmp_path / "server.toml").write_text(SERVER)
    for seed, (name, participants) in enumerate((("north", 8), ("south", 5)), start=11):
        (tmp_path / f"{name}.toml").write_text(SITE.format(name=name, seed=seed, participants=participants))
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes under /proc")
def test_two_sites_train_over_tls_and_nothing_is_left_running(places):
    port = free_port()
    head = server(port, places)
    sites = [learner(name, port, places) for name in ("north", "south")]
    try:
        said, _ = head.communicate(timeout=300)
        assert head.returncode == 0, said
    finally:
        for process in (head, *sites):
            end(process)
    record = Ledger(places / "run" / "federation", {})
    assert "1 rounds" in said
    assert record.snapshot(1).exists()
    assert not started_in(places)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes under /proc")
def test_a_site_of_another_authority_and_a_site_with_an_unknown_key_are_refused(places):
    make_keys(places / "others", ["127.0.0.1"], ["north"])
    (places / "mixed").mkdir()
    (places / "mixed" / "ca.pem").write_bytes((places / "keys" / "ca.pem").read_bytes())
    (places / "mixed" / "north.key").write_bytes((places / "others" / "north.key").read_bytes())
    port = free_port()
    head = server(port, places)
    time.sleep(20)
    wrong = {keys: learner("north", port, places, keys) for keys in ("others", "mixed")}
    try:
        said = {keys: process.communicate(timeout=200)[0] for keys, process in wrong.items()}
    finally:
        for process in (head, *wrong.values()):
            end(process)
    assert "was not made by this authority" in said["others"]
    assert "does not know this site's key" in said["mixed"]
    assert all(process.returncode == 2 for process in wrong.values())
    assert not started_in(places)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes under /proc")
def test_a_killed_server_goes_on_and_a_killed_site_does_not_end_the_round(places):
    text = SERVER.replace("rounds = 1", "rounds = 4").replace(
        "patience_seconds = 120", "patience_seconds = 40"
    )
    (places / "server.toml").write_text(text.replace("[federation]", "[federation]\nround_seconds = 60"))
    port = free_port()
    head = server(port, places)
    sites = {name: learner(name, port, places) for name in ("north", "south")}
    record = Ledger(places / "run" / "federation", {})
    try:
        wait_for(record.snapshot(1), 200)
        end(sites["south"])
        wait_for(record.snapshot(2), 300)
        end(head)
        head = server(port, places)
        said, _ = head.communicate(timeout=500)
        assert head.returncode == 0, said
    finally:
        for process in (head, *sites.values()):
            end(process)
    assert record.snapshot(4).exists()
    assert not started_in(places)


def wait_for(path, seconds):
    finish = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < finish, f"{path.name} did not come"
        time.sleep(0.5)
