import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager

import pytest
import torch

from privoxel.errors import ConfigError, JobError
from privoxel.executor import Executor, Finished, Job, run_jobs
from tests import jobs

NEEDS_RAY = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is an extra"),
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"
    ),
]
POOL = Executor("joblib", 2)
RAY = Executor("ray", 2)
PARALLEL = [
    pytest.param(POOL, id="joblib"),
    pytest.param(RAY, id="ray", marks=[*NEEDS_RAY, pytest.mark.slow]),
]


@pytest.fixture(autouse=True)
def workers_find_the_tests(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))


def trainings(folder):
    return [Job(f"shadow-{k}", jobs.train_tiny, (f"shadow-{k}", folder)) for k in range(3)]


@pytest.mark.parametrize("executor", PARALLEL)
def test_trainings_are_bit_equal_whatever_the_back_end(executor, tmp_path):
    serial = Executor().run(trainings(tmp_path / "serial"))
    assert serial[0] != serial[1]
    assert executor.run(trainings(tmp_path / "parallel")) == serial
    assert Executor().run(trainings(tmp_path / "reversed")[::-1])[::-1] == serial


@pytest.mark.parametrize("executor", PARALLEL)
def test_a_killed_worker_costs_one_job_and_not_the_run(executor, tmp_path):
    names = ["a", "b", "c", "d"]
    todo = [Job("victim", jobs.killed_at_first, (tmp_path, "victim"))]
    todo += [Job(name, jobs.counted, (tmp_path, name)) for name in names]
    assert executor.run(todo, keep=Finished(tmp_path / "done", "x")) == ["victim", *names]
    assert jobs.starts(tmp_path, "victim") == 2
    repeated = sum(jobs.starts(tmp_path, name) - 1 for name in names)
    # loky gives up its whole pool: what was running or not yet collected is repeated, each once at most.
    assert repeated <= (0 if executor.backend == "ray" else len(names))


@pytest.mark.parametrize("executor", PARALLEL)
def test_a_worker_that_always_dies_ends_the_run_with_the_name_of_its_job(executor):
    few = Executor(executor.backend, 2, retries=1)
    with pytest.raises(JobError, match=r"doomed"):
        few.run([Job("doomed", jobs.always_killed), Job("doomed too", jobs.always_killed)])


@pytest.mark.parametrize("executor", [pytest.param(Executor(), id="serial"), *PARALLEL])
def test_an_error_of_the_job_is_raised_as_it_is(executor):
    with pytest.raises(ValueError, match="the job itself is wrong"):
        executor.run([Job("a", jobs.failing), Job("b", jobs.failing)])


@pytest.mark.parametrize("executor", [pytest.param(Executor(), id="serial"), *PARALLEL])
def test_a_job_has_one_thread(executor):
    before = torch.get_num_threads()
    assert executor.run([Job("a", jobs.threads), Job("b", jobs.threads)]) == [1, 1]
    assert torch.get_num_threads() == before


def test_finished_jobs_never_run_again_unless_settings_change(tmp_path):
    keep = Finished(tmp_path / "done", "settings 1")
    todo = [Job(name, jobs.counted, (tmp_path, name)) for name in ("a", "b")]
    assert Executor().run(todo[:1], keep=keep) == ["a"]
    assert Executor().run(todo, keep=keep) == ["a", "b"]
    assert Executor().run(todo, keep=keep) == ["a", "b"]
    assert [jobs.starts(tmp_path, name) for name in ("a", "b")] == [1, 1]
    assert Executor().run(todo, keep=Finished(tmp_path / "done", "settings 2")) == ["a", "b"]
    assert [jobs.starts(tmp_path, name) for name in ("a", "b")] == [2, 2]


def test_results_finished_before_an_error_are_kept(tmp_path):
    keep = Finished(tmp_path / "done", "x")
    todo = [Job("a", jobs.counted, (tmp_path, "a")), Job("b", jobs.failing)]
    with pytest.raises(ValueError, match="itself is wrong"):
        Executor().run(todo, keep=keep)
    assert dict(keep.among(["a", "b"])) == {"a": "a"}


def test_a_damaged_result_is_made_again(tmp_path):
    keep = Finished(tmp_path / "done", "x")
    todo = [Job("a", jobs.counted, (tmp_path, "a"))]
    Executor().run(todo, keep=keep)
    next((tmp_path / "done").glob("*.json")).write_text('{"name": "a", "set')
    assert Executor().run(todo, keep=keep) == ["a"]
    assert jobs.starts(tmp_path, "a") == 2


def test_progress_counts_finished_jobs_and_says_how_long_the_rest_takes(tmp_path):
    seen = []

    class Watched:
        @contextmanager
        def task(self, title, total):
            seen.append((title, total))
            yield self

        def advance(self, steps=1):
            seen.append(steps)

        def note(self, text):
            seen.append(text)

        def say(self, text):
            raise AssertionError

    keep = Finished(tmp_path / "done", "x")
    todo = [Job(name, jobs.counted, (tmp_path, name)) for name in ("a", "b", "c")]
    Executor().run(todo[:1], keep=keep)
    Executor().run(todo, keep=keep, progress=Watched(), title="shadows")
    assert seen == [("shadows", 3), 1, 1, "about 0 s left", 1, "done"]


def test_run_jobs_keeps_the_order_and_streams():
    assert list(run_jobs(divmod, [(7, 2), (9, 4), (5, 5)], workers=2)) == [(3, 1), (2, 1), (1, 0)]
    assert list(run_jobs(divmod, [(7, 2)], workers=0)) == [(3, 1)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"backend": "dask"}, "one of serial, joblib, ray, got 'dask'"), ({"workers": 0}, "at least 1 worker")],
)
def test_settings_that_cannot_be_used_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        Executor(**settings)


def test_jobs_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="distinct names, got 1 twice"):
        Executor().run([Job("a", jobs.threads), Job("a", jobs.threads)])


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is an extra")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
def test_a_missing_cluster_is_named_with_the_command_that_starts_one():
    with pytest.raises(JobError, match=r"needs a cluster at '127.0.0.1:1'.*ray start --head"):
        Executor("ray", address="127.0.0.1:1").run([Job("a", jobs.threads)])


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is an extra")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_share_of_a_gpu_that_no_node_has_is_refused_instead_of_waited_for():
    with pytest.raises(JobError, match=r"Jobs of 99 GPU need a cluster with as much"):
        Executor("ray", gpus=99.0).run([Job("a", jobs.threads)])


@contextmanager
def two_nodes(port):
    """Two Ray nodes of one core each on the loopback, of their own, ended with all their processes."""
    environment = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    common = ["--num-cpus=1", "--object-store-memory=80000000", "--node-ip-address=127.0.0.1", "--block"]
    common += ["--disable-usage-stats", "--min-worker-port=0", "--max-worker-port=0"]
    with tempfile.TemporaryDirectory(prefix="pvx-", ignore_cleanup_errors=True) as folder:
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start"]
        head = [
            *ray,
            "--head",
            f"--port={port}",
            f"--temp-dir={folder}",
            "--include-dashboard=false",
            *common,
        ]
        nodes = []
        try:
            for command in (head, [*ray, f"--address=127.0.0.1:{port}", *common]):
                nodes.append(start(command, environment))
                wait_for_nodes(f"127.0.0.1:{port}", len(nodes))
            yield f"127.0.0.1:{port}"
        finally:
            for node in reversed(nodes):
                node.terminate()
                node.wait(timeout=30)


def start(command, environment):
    return subprocess.Popen(  # noqa: S603 - our own line
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def wait_for_nodes(address, number):
    script = (
        "import sys, ray\n"
        "ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR')\n"
        "sys.exit(sum(node['Alive'] for node in ray.nodes()) != int(sys.argv[2]))"
    )
    until = time.monotonic() + 60
    while time.monotonic() < until:
        command = [sys.executable, "-c", script, address, str(number)]
        if subprocess.run(command, check=False, capture_output=True).returncode == 0:  # noqa: S603 - our own line
            return
        time.sleep(0.5)
    raise AssertionError(f"no {number} nodes at {address}")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is an extra")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_cluster_of_two_nodes_shares_the_jobs_and_is_left_running(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with two_nodes(port) as address:
        joined = Executor("ray", address=address)
        used = joined.run([Job(f"sleep-{k}", jobs.node_of, (1.5,)) for k in range(4)])
        assert len(set(used)) == 2
        assert joined.run(trainings(tmp_path / "two")) == Executor().run(trainings(tmp_path / "one"))
