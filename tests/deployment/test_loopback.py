"""A real deployment on this machine: server and sites as processes, TLS, known keys; nothing left running."""

import os
import signal
import subprocess
import sys
import time

import pytest

from privoxel.training.federated.deployment.keys import make_keys
from privoxel.training.federated.ledger import Ledger
from tests.ports import free_port

pytest.importorskip("flwr", reason="flwr is an extra")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes under /proc")

SERVER = """
learners = [{learners}]
mean_age = 62.6
resolution_mm = 10.0
[model]
width = 0.125
head = "scaled"
[federation]
rounds = {rounds}
local_epochs = {epochs}
batch_size = 4
learning_rate = 1e-4
loss_scale = 55.0
patience_seconds = {patience}
{more}
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
{more}
"""
PARTICIPANTS = {"north": 8, "south": 5, "west": 6}


def places(folder, *names, rounds=1, epochs=1, patience=120, more="", site_more=""):
    """Write keys, the server's file and the sites' files into ``folder``."""
    make_keys(folder / "keys", ["127.0.0.1", "localhost"], names)
    learners = ", ".join(f'"{name}"' for name in names)
    text = SERVER.format(learners=learners, rounds=rounds, epochs=epochs, patience=patience, more=more)
    (folder / "server.toml").write_text(text)
    for seed, name in enumerate(names, start=11):
        (folder / f"{name}.toml").write_text(
            SITE.format(name=name, seed=seed, participants=PARTICIPANTS[name], more=site_more)
        )


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


def learner(name, port, folder):
    return start(
        "learner", f"{name}.toml", "--server", f"127.0.0.1:{port}", "--certificate", "keys/ca.pem",
        "--key", f"keys/{name}.key", "-o", f"at-{name}", folder=folder,
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
    """Return the numbers of all processes that work for the federation in ``folder``."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                with open(f"/proc/{entry.name}/environ", "rb") as text:  # noqa: PTH123
                    if str(folder).encode() in text.read():
                        found.append(int(entry.name))
            except OSError:
                continue
    return found


def wait_for(holds, seconds):
    finish = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < finish, "it did not come"
        time.sleep(0.2)


def says(path, text):
    return path.exists() and text in path.read_text()


def test_two_sites_train_over_tls_and_nothing_is_left_running(tmp_path):
    places(tmp_path, "north", "south")
    port = free_port()
    sites = [learner(name, port, tmp_path) for name in ("north", "south")]
    head = server(port, tmp_path)
    try:
        said, _ = head.communicate(timeout=300)
        assert head.returncode == 0, said
        for process in sites:  # they are told that it is over, and leave by themselves
            heard, _ = process.communicate(timeout=60)
            assert process.returncode == 0, heard
    finally:
        for process in (head, *sites):
            end(process)
    record = Ledger(tmp_path / "run" / "federation", {})
    assert "1 rounds" in said
    assert record.snapshot(1).exists()
    assert not started_in(tmp_path)


@pytest.mark.slow
def test_killed_outright_a_server_and_a_site_leave_nothing_running_and_the_rounds_go_on(tmp_path):
    """Kill -9 a site in a round, then the server between rounds; start the server again."""
    places(tmp_path, "north", "south", rounds=8, epochs=15, patience=5)
    port = free_port()
    sites = {name: learner(name, port, tmp_path) for name in ("north", "south")}
    record = Ledger(tmp_path / "run" / "federation", {})
    logs = {name: tmp_path / f"at-{name}" / "logs" / f"{name}.log" for name in sites}
    log, head = logs["south"], None
    try:
        wait_for(lambda: all(says(path, "No line to") for path in logs.values()), 100)
        head = server(port, tmp_path)
        wait_for(record.snapshot(1).exists, 200)
        wait_for(lambda: log.read_text().count("Answering train") == 2, 60)
        assert len(started_in(tmp_path)) == 3
        sites["south"].kill()
        killed = time.monotonic()
        wait_for(record.snapshot(2).exists, 100)
        noticed = time.monotonic() - killed
        assert len(started_in(tmp_path)) == 2
        head.kill()
        head.communicate()
        assert started_in(tmp_path) == [sites["north"].pid]
        head = server(port, tmp_path)
        said, _ = head.communicate(timeout=300)
        assert head.returncode == 0, said
    finally:
        for process in (head, *sites.values()):
            if process is not None:
                end(process)
    assert noticed < 45
    assert record.snapshot(8).exists()
    assert not started_in(tmp_path)


@pytest.mark.slow
def test_three_sites_aggregate_securely_and_a_curious_server_keeps_no_update(tmp_path):
    names = ("north", "south", "west")
    secure = "largest_update = 1.0"
    more = f"curious = true\n[federation.privacy]\n{secure}"
    places(tmp_path, *names, more=more, site_more=f"[privacy]\n{secure}")
    port = free_port()
    head = server(port, tmp_path)
    sites = [learner(name, port, tmp_path) for name in names]
    try:
        said, _ = head.communicate(timeout=300)
        assert head.returncode == 0, said
    finally:
        for process in (head, *sites):
            end(process)
    record = Ledger(tmp_path / "run" / "federation", {})
    assert record.snapshot(1).exists()
    assert not (record.folder / "updates").exists()
    assert not started_in(tmp_path)
