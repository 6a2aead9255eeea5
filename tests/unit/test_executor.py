import ctypes
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from privoxel.config import ModelConfig, TrainingConfig
from privoxel.errors import ConfigError, JobError
from privoxel.executor import Executor, Finished, Job, run_jobs
from privoxel.recipes.shadow_training import ShadowTraining
from privoxel.seeding import Streams
from privoxel.training.job import TrainingFolders
from privoxel.training.runtime import Runtime, choose_runtime
from tests import jobs, training_jobs
from tests.conftest import make_cohort
from tests.rays import DEPRECATED, NEEDS_RAY, needs_ray

POOL = Executor("joblib", 2)
RAY = Executor("ray", 2)
PARALLEL = [
    pytest.param(POOL, id="joblib"),
    pytest.param(RAY, id="ray", marks=[*NEEDS_RAY, DEPRECATED, pytest.mark.slow]),
]


@pytest.fixture(autouse=True)
def workers_find_the_tests(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))


def trainings(folder):
    return [Job(f"shadow-{k}", training_jobs.train_tiny, (f"shadow-{k}", folder)) for k in range(3)]


@pytest.mark.parametrize("executor", PARALLEL)
def test_trainings_are_bit_equal_whatever_the_back_end(executor, tmp_path):
    serial = Executor().run(trainings(tmp_path / "serial"))
    assert serial[0] != serial[1]
    assert executor.run(trainings(tmp_path / "parallel")) == serial
    assert Executor().run(trainings(tmp_path / "reversed")[::-1])[::-1] == serial


@pytest.mark.parametrize("executor", PARALLEL)
def test_a_killed_worker_costs_its_job_and_not_the_one_beside_it(executor, tmp_path):
    todo = [
        Job("victim", jobs.killed_beside, (tmp_path, "victim", "neighbour")),
        Job("neighbour", jobs.beside, (tmp_path, "neighbour", "victim", 2)),
        *(Job(name, jobs.counted, (tmp_path, name)) for name in "abc"),
    ]
    names = ["victim", "neighbour", *"abc"]
    assert executor.run(todo, keep=Finished(tmp_path / "done", "x")) == names
    assert [jobs.starts(tmp_path, name) for name in names] == [2, 1, 1, 1, 1]


@pytest.mark.parametrize("executor", PARALLEL)
def test_deaths_are_counted_by_job(executor, tmp_path):
    once = Executor(executor.backend, 2, retries=1)
    names = ["a", "b", "c"]
    assert once.run([Job(n, jobs.killed_at_first, (tmp_path, n)) for n in names]) == names
    assert [jobs.starts(tmp_path, name) for name in names] == [2, 2, 2]


@pytest.mark.parametrize("executor", PARALLEL)
def test_a_result_that_was_kept_is_not_made_again_when_the_worker_dies_after_it(executor, tmp_path):
    keep = Finished(tmp_path / "done", "x")
    todo = [Job(name, jobs.killed_after, (tmp_path, name, keep)) for name in ("a", "b")]
    assert executor.run(todo, keep=keep) == ["a", "b"]
    assert [jobs.starts(tmp_path, name) for name in ("a", "b")] == [1, 1]


@pytest.mark.parametrize("executor", PARALLEL)
def test_a_worker_that_always_dies_ends_the_run_with_the_name_of_its_job(executor, tmp_path):
    few = Executor(executor.backend, 2, retries=1)
    todo = [Job(name, jobs.counted, (tmp_path, name)) for name in ("a", "b")]
    with pytest.raises(JobError, match=r"Job doomed needs a worker that stays alive, got 2 that died"):
        few.run([todo[0], Job("doomed", jobs.always_killed), todo[1]])


def test_short_jobs_survive_a_killed_worker_and_keep_their_order(tmp_path):
    todo = [(tmp_path, name) for name in "abcd"]
    assert list(run_jobs(jobs.killed_at_first, todo, workers=2)) == list("abcd")
    assert all(jobs.starts(tmp_path, name) >= 2 for name in "abcd")


def test_workers_end_soon_after_the_process_that_started_them_was_killed(tmp_path):
    script = (
        "import sys\nfrom pathlib import Path\nfrom privoxel.executor import Executor, Job\n"
        "from tests import jobs\nfolder = Path(sys.argv[1])\n"
        "Executor('joblib', 2).run(\n"
        "    [Job(n, jobs.held, (folder, n, s)) for n, s in (('busy', 300.0), ('idle', 0.0))]\n)"
    )
    driver = start([sys.executable, "-c", script, str(tmp_path)], {})
    try:
        for name in ("busy", "idle"):
            jobs.wait_for(tmp_path, name, 1)
        assert jobs.is_held(tmp_path, "busy")
        assert jobs.is_held(tmp_path, "idle")
    finally:
        driver.kill()
        driver.wait(timeout=30)
    until = time.monotonic() + 30
    while jobs.is_held(tmp_path, "busy") or jobs.is_held(tmp_path, "idle"):
        assert time.monotonic() < until
        time.sleep(0.05)


def shadow(folder, k):
    folders = TrainingFolders(folder / str(k), folder / str(k) / "state")
    training = TrainingConfig(epochs=1, batch_size=4)
    rows, model = np.arange(14), ModelConfig(width=0.125, head="scaled")
    streams = Streams(3).child(str(k))
    return ShadowTraining(model, training, make_cohort(14), rows[:7], rows[7:], streams, folders, Runtime())


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33 to look")
@pytest.mark.parametrize("executor", PARALLEL)
def test_a_worker_is_set_up_for_training_as_the_main_process_is(executor, tmp_path):
    assert executor.run([Job(str(k), training_jobs.set_up) for k in range(2)]) == [[False, False]] * 2
    trained = executor.run([Job(str(k), training_jobs.set_up, (shadow(tmp_path, k),)) for k in range(2)])
    choose_runtime(TrainingConfig(threads=1))
    assert trained == [training_jobs.set_up()] * 2 == [[True, True]] * 2


@pytest.mark.parametrize("executor", [pytest.param(Executor(), id="serial"), *PARALLEL])
def test_an_error_of_the_job_is_raised_as_it_is(executor):
    with pytest.raises(ValueError, match="the job itself is wrong"):
        executor.run([Job("a", jobs.failing), Job("b", jobs.failing)])


@pytest.mark.parametrize("executor", [pytest.param(Executor(), id="serial"), *PARALLEL])
def test_a_job_has_one_thread(executor):
    before = torch.get_num_threads()
    assert executor.run([Job("a", training_jobs.threads), Job("b", training_jobs.threads)]) == [1, 1]
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


class Watched:
    """Progress that keeps what it is told."""

    def __init__(self):
        self.seen = []

    @contextmanager
    def task(self, title, total):
        self.seen.append((title, total))
        yield self

    def advance(self, steps=1):
        self.seen.append(steps)

    def note(self, text):
        self.seen.append(text)

    def say(self, text):
        raise AssertionError(text)


@pytest.fixture
def later(monkeypatch):
    """A job that returns its name after so many seconds, of a clock that only such jobs move."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def job(name, seconds=60.0):
        now[0] += seconds
        return name

    return job


def test_progress_counts_finished_jobs_and_says_how_long_the_rest_takes(tmp_path, later):
    watched = Watched()
    keep = Finished(tmp_path / "done", "x")
    todo = [Job(name, later, (name,)) for name in ("a", "b", "c", "d")]
    Executor().run(todo[:1], keep=keep)
    Executor().run(todo, keep=keep, progress=watched, title="shadows", expected=100.0)
    assert watched.seen == [
        ("shadows", 4),
        *(1, "about 5 min left"),  # what was estimated, until a job has ended
        *(1, "about 2 min left"),
        *(1, "about 60 s left"),
        *(1, "nearly done"),
    ]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (60.0, ["1 of 4, about 3 min left", "2 of 4, about 2 min left", "3 of 4, about 60 s left"]),
        (25.0, ["3 of 4, about 25 s left"]),
        (1.0, []),
    ],
)
def test_the_log_says_how_far_jobs_are_and_no_more_than_once_a_minute(seconds, expected, later, caplog):
    with caplog.at_level(logging.INFO, "privoxel"):
        Executor().run([Job(name, later, (name, seconds)) for name in "abcd"], title="shadows")
    assert [record.getMessage() for record in caplog.records] == [f"shadows: {line}" for line in expected]


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
        Executor().run([Job("a", training_jobs.threads), Job("a", training_jobs.threads)])


@pytest.mark.slow
@needs_ray
def test_a_missing_cluster_is_named_with_the_command_that_starts_one():
    with pytest.raises(JobError, match=r"needs a cluster at '127.0.0.1:1'.*ray start --head"):
        Executor("ray", address="127.0.0.1:1").run([Job("a", training_jobs.threads)])


@pytest.mark.slow
@needs_ray
@DEPRECATED
def test_a_cluster_for_the_run_is_started_whatever_other_one_the_environment_names(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert RAY.run([Job(name, training_jobs.threads) for name in "ab"]) == [1, 1]


@pytest.mark.slow
@needs_ray
def test_a_cluster_that_does_not_start_is_an_error_with_its_reason(monkeypatch):
    import ray  # noqa: PLC0415 - an extra

    def full(**_):
        raise ValueError("Insufficient memory")

    monkeypatch.setattr(ray, "init", full)
    with pytest.raises(JobError, match=r"start a cluster of 2 cores .*, got: Insufficient memory"):
        RAY.run([Job("a", training_jobs.threads)])


@pytest.mark.slow
@needs_ray
@DEPRECATED
def test_a_share_of_a_gpu_that_no_node_has_is_refused_instead_of_waited_for():
    with pytest.raises(JobError, match=r"Jobs of 1 core and 99 GPU need a node with as much"):
        Executor("ray", gpus=99.0).run([Job("a", training_jobs.threads)])


@pytest.mark.slow
@needs_ray
@DEPRECATED
def test_four_jobs_of_a_quarter_share_a_gpu_and_no_fifth(tmp_path):
    import ray  # noqa: PLC0415 - an extra

    with tempfile.TemporaryDirectory(prefix="pvx-", ignore_cleanup_errors=True) as folder:
        ray.init(
            num_cpus=8,
            num_gpus=1,  # a number that Ray counts with; no job looks for the GPU
            include_dashboard=False,
            object_store_memory=80_000_000,
            _temp_dir=folder,
            log_to_driver=False,
            logging_level="ERROR",
        )
        try:
            quarters = Executor("ray", address="auto", gpus=0.25).sized()
            todo = [Job(str(k), jobs.most_beside, (tmp_path, str(k), 3.0)) for k in range(8)]
            most = max(quarters.run(todo))
        finally:
            ray.shutdown()
    assert quarters.workers == most == 4


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
@needs_ray
@DEPRECATED
def test_a_cluster_of_two_nodes_shares_the_jobs_and_is_left_running(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with two_nodes(port) as address:
        joined = Executor("ray", address=address).sized()
        assert joined.workers == 2
        used = joined.run([Job(f"sleep-{k}", jobs.node_of, (1.5,)) for k in range(4)])
        assert len(set(used)) == 2
        assert joined.run(trainings(tmp_path / "two")) == Executor().run(trainings(tmp_path / "one"))
