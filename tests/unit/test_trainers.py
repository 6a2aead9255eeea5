import importlib.util

import pytest
import torch

from privoxel.config import TrainingConfig
from privoxel.errors import ConfigError, JobError
from privoxel.executor import Executor
from privoxel.executor.forecast import seconds_left
from privoxel.recipes.trainers import choose_trainers
from privoxel.training.runtime import Runtime
from tests.rays import HAS_RAY

AUTO = TrainingConfig()
CPU = Runtime("cpu", threads=8)
GPU = Runtime("cuda", bfloat16=True, memory_format="channels_last", threads=8)
POOL, LOCAL_RAY = Executor("joblib", 8), Executor("ray", 8)


def test_processes_train_on_the_cpu_and_take_turns_on_a_gpu():
    assert choose_trainers(POOL, AUTO, CPU) == (POOL, Runtime("cpu", threads=1))
    assert choose_trainers(POOL, AUTO, GPU) == (Executor(), Runtime("cuda", True, "channels_last", 1))


@HAS_RAY
def test_ray_without_a_gpu_trains_on_cpus():
    executor, runtime = choose_trainers(LOCAL_RAY, AUTO, CPU)
    assert (executor.workers, executor.share, runtime.device) == (8, 0.0, "cpu")


@pytest.mark.parametrize(
    ("share", "cards", "workers"), [(None, 2, 2), (0.25, 1, 4), (0.25, 3, 8), (0.3, 1, 3)]
)
def test_ray_trains_as_many_at_a_time_as_its_gpus_hold(share, cards, workers, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    executor, runtime = choose_trainers(Executor("ray", 8, gpus=share), AUTO, GPU)
    assert (executor.workers, executor.share) == (workers, share or 1.0)
    assert (runtime.device, runtime.bfloat16, runtime.threads) == ("cuda", True, 1)


@HAS_RAY
def test_a_share_of_a_gpu_is_used_where_the_command_has_none_and_precision_stays_the_targets(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    _, runtime = choose_trainers(Executor("ray", 8, gpus=0.5), AUTO, CPU)
    assert (runtime.device, runtime.bfloat16) == ("cuda", False)


@HAS_RAY
def test_no_share_means_cpus_even_where_the_target_is_trained_on_a_gpu():
    _, runtime = choose_trainers(Executor("ray", 8, gpus=0.0), AUTO, GPU)
    assert (runtime.device, runtime.bfloat16) == ("cpu", False)


@HAS_RAY
def test_a_gpu_that_no_node_has_is_refused_before_anything_is_trained(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(
        JobError, match=r"Jobs of 1 core and 1 GPU need .* got nodes of 8 and 0\. Lower --gpu"
    ):
        choose_trainers(LOCAL_RAY, AUTO, GPU)


@pytest.mark.parametrize(("device", "share"), [("cpu", 0.5), ("cuda", 0.0)])
def test_a_share_that_contradicts_the_device_is_refused(device, share):
    runtime = GPU if device == "cuda" else CPU
    with pytest.raises(
        ConfigError, match=rf"device = '{device}' needs .* got --gpu-share {share:g}\. Correct"
    ):
        choose_trainers(Executor("ray", 8, gpus=share), TrainingConfig(device=device), runtime)


def test_ray_that_is_not_installed_is_missed_before_anything_is_trained(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        JobError, match=r"Ray needs to be installed for --ray, got none\. Install privoxel\[ray\]"
    ):
        choose_trainers(LOCAL_RAY, AUTO, CPU)


def test_a_share_without_ray_is_refused():
    with pytest.raises(ConfigError, match=r"needs Ray to keep it, got --gpu-share 0.25 without --ray\. Add"):
        Executor("joblib", 8, gpus=0.25)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_process_without_the_device_says_what_to_install():
    with pytest.raises(ConfigError, match=r"needs to see a CUDA device, got none\. On a cluster install"):
        GPU.prepare()


@pytest.mark.parametrize(
    ("done", "jobs", "at_once", "elapsed", "left"),
    [
        (1, 8, 8, 60.0, 0.0),  # the others end now
        (1, 16, 8, 60.0, 60.0),
        (8, 16, 8, 70.0, 70.0),
        (9, 16, 8, 130.0, 0.0),
        (1, 8, 1, 60.0, 420.0),
        (3, 9, 2, 60.0, 90.0),
        (5, 5, 2, 60.0, 0.0),
    ],
)
def test_the_time_left_counts_the_jobs_that_run_beside_each_other(done, jobs, at_once, elapsed, left):
    assert seconds_left(done, jobs, at_once, elapsed) == pytest.approx(left)


def test_before_the_first_job_ends_the_time_left_is_what_was_estimated():
    assert seconds_left(0, 16, 8, 0.0, 50.0) == 100.0
    assert seconds_left(0, 16, 8, 30.0, 50.0) == 70.0
    assert seconds_left(0, 16, 8, 0.0) is None
