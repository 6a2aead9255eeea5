import numpy as np
import pytest
import torch

from privoxel.errors import SignalError
from privoxel.gradients.batching import fewest_scans, suggest_batch
from privoxel.gradients.one_pass import Extractor
from privoxel.models import ModelSpec, build_model
from privoxel.progress import Silent
from privoxel.signals import extract as extraction_module
from privoxel.signals.extract import HALF_MAX, MEMORY, Extraction, extract, open_table, total_norm
from privoxel.training.loop import save_weights
from tests.conftest import make_cohort

COHORT = make_cohort(7)
SIGNALS = (
    "prediction",
    "gradient-norms",
    "gradient:conv1",
    "gradient:conv6",
    "gradient:output",
    "activation:conv5",
)


def make_model(seed, scale=70.0):
    spec = ModelSpec("cnn3d", width=0.125, head="scaled", scale=scale)
    return build_model(spec, COHORT.grid.shape, 62.0, seed)


def extracted(tmp_path, signals=SIGNALS, batch_size=3, scale=70.0):
    snapshots = []
    for seed in (1, 2):
        snapshots.append(tmp_path / f"epoch-{seed}.safetensors")
        save_weights(make_model(seed, scale), snapshots[-1])
    folder = tmp_path / "signals"
    model = make_model(0, scale)
    result = extract(
        model, snapshots, COHORT, Extraction(signals, batch_size), folder=folder, progress=Silent()
    )
    table = open_table(
        folder,
        covariates=COHORT.covariates,
        model="cnn3d",
        snapshots=["1", "2"],
        membership=np.zeros(7, dtype=np.int8),
        tensors=result.tensors,
    )
    return table, result


def slow_gradients(seed):
    """One scan at a time, in float64."""
    model = make_model(seed).double().eval()
    for row in range(7):
        model.zero_grad()
        prediction = model(torch.from_numpy(COHORT.batch([row])).double())
        ((prediction - COHORT.covariates.age[row]) ** 2).sum().backward()
        yield prediction.item(), {name: p.grad.numpy().copy() for name, p in model.named_parameters()}


@pytest.mark.parametrize("snapshot", [0, 1])
def test_signals_are_those_of_the_slow_loop(tmp_path, snapshot):
    table, _ = extracted(tmp_path)
    norms = table.read("gradient-norms", snapshot=snapshot)
    for row, (prediction, gradients) in enumerate(slow_gradients(snapshot + 1)):
        slow_norms = np.array([np.linalg.norm(gradients[name]) for name in table.tensors])
        largest = slow_norms.max()
        assert table.read("prediction", snapshot=snapshot)[row] == pytest.approx(prediction, rel=1e-5)
        np.testing.assert_allclose(norms[row], slow_norms, atol=1e-5 * largest)
        for layer in ("conv1", "conv6", "output"):
            stored = table.read(f"gradient:{layer}", snapshot=snapshot)[row]
            half = np.abs(gradients[f"{layer}.weight"]).max() * 2**-10
            np.testing.assert_allclose(stored, gradients[f"{layer}.weight"], atol=half)


def test_long_vectors_are_half_precision_and_scalars_are_not(tmp_path):
    table, result = extracted(tmp_path)
    for name, path in result.files.items():
        expected = np.float32 if name in {"prediction", "gradient-norms"} else np.float16
        assert np.load(path, mmap_mode="r").dtype == expected
    assert table.values["activation:conv5"].shape[:3] == (1, 2, 7)


def test_only_what_was_asked_for_is_written(tmp_path):
    table, result = extracted(tmp_path, ("prediction",))
    assert set(result.files) == {"prediction"}
    assert np.isnan(total_norm(table)).all()


def test_batches_do_not_change_the_signals(tmp_path):
    one, _ = extracted(tmp_path / "a", batch_size=1)
    many, _ = extracted(tmp_path / "b", batch_size=7)
    for name in SIGNALS:
        a, b = one.read(name), many.read(name)
        np.testing.assert_allclose(a, b, atol=2e-3 * np.abs(a).max())


def test_the_batch_size_follows_from_the_memory_and_is_told(tmp_path):
    _, result = extracted(tmp_path, batch_size=0)
    assert result.batch_size == suggest_batch(result.bytes_per_scan, MEMORY, torch.device("cpu")) > 2
    models = (build_model(ModelSpec(n, width=0.125), (13, 10, 18), 62.0, 0) for n in ("cnn3d", "slice-mean"))
    assert [fewest_scans(model.eval(), torch.zeros(2, 1, 13, 10, 18)) for model in models] == [2, 1]
    assert suggest_batch(result.bytes_per_scan, 4 * result.bytes_per_scan, torch.device("cpu")) == 2
    assert result.fallbacks == {}


def test_a_pass_that_runs_out_of_memory_is_halved_until_it_fits(tmp_path, monkeypatch):
    whole, _ = extracted(tmp_path / "a", batch_size=7)
    plain, sizes = Extractor.__call__, []

    def narrow(self, volumes, ages, **options):
        sizes.append(len(ages))
        if len(ages) > 2:
            raise torch.OutOfMemoryError
        return plain(self, volumes, ages, **options)

    monkeypatch.setattr(Extractor, "__call__", narrow)
    halved, _ = extracted(tmp_path / "b", batch_size=7)
    assert {7, 3, 4} <= set(sizes)
    for name in SIGNALS:
        np.testing.assert_allclose(
            halved.read(name), whole.read(name), atol=2e-3 * np.abs(whole.read(name)).max()
        )


def test_a_device_without_memory_for_one_scan_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(Extractor, "bytes_per_scan", lambda *_: 1)
    monkeypatch.setattr(Extractor, "__call__", lambda *_, **__: (_ for _ in ()).throw(torch.OutOfMemoryError))
    with pytest.raises(SignalError, match="one scan at a time"):
        extracted(tmp_path)


def test_every_volume_is_read_once_for_all_snapshots(tmp_path, monkeypatch):
    reads = []
    plain = type(COHORT).batch
    monkeypatch.setattr(type(COHORT), "batch", lambda self, rows: reads.extend(rows) or plain(self, rows))
    extracted(tmp_path, batch_size=3)
    planning = [0, 1]
    assert sorted(reads) == sorted([*planning, *range(7)])


def test_a_signal_the_model_lacks_is_named(tmp_path):
    with pytest.raises(SignalError, match=r"got gradient:conv99"):
        extracted(tmp_path, ("prediction", "gradient:conv99"))


def test_a_volume_that_is_not_finite_is_named_by_row(tmp_path):
    values = COHORT.source.values.copy()
    COHORT.source.values[4, 0, 0, 0] = np.nan
    try:
        with pytest.raises(SignalError, match=r"rows \[4\]"):
            extracted(tmp_path)
    finally:
        COHORT.source.values[:] = values


def test_values_beyond_half_precision_are_clipped_and_counted(tmp_path):
    table, result = extracted(tmp_path, ("prediction", "gradient:output"), scale=1e6)
    assert result.clipped > 0
    assert np.abs(table.read("gradient:output")).max() == HALF_MAX


def test_the_total_norm_is_that_of_the_whole_gradient(tmp_path):
    table, _ = extracted(tmp_path)
    slow = [np.sqrt(sum((g**2).sum() for g in gradients.values())) for _, gradients in slow_gradients(2)]
    np.testing.assert_allclose(total_norm(table), slow, rtol=1e-4)


def snapshots_of(tmp_path, *models):
    paths = [tmp_path / f"epoch-{k}.safetensors" for k in range(len(models))]
    for model, path in zip(models, paths, strict=True):
        save_weights(model, path)
    return paths


def test_layers_that_snapshots_share_are_run_once_a_batch(tmp_path, monkeypatch):
    first, second = make_model(1), make_model(1)
    torch.nn.init.normal_(second.conv6.weight)
    model, ran = make_model(0), []
    paths = snapshots_of(tmp_path, first, second)
    wanted = Extraction(("prediction", "gradient:conv6", "gradient:output"), 7)
    model.conv1.register_forward_hook(lambda *_: ran.append(1))
    extract(model, paths, COHORT, wanted, folder=tmp_path / "together", progress=Silent())
    together = len(ran)
    for k, path in enumerate(paths):
        extract(model, [path], COHORT, wanted, folder=tmp_path / f"alone-{k}", progress=Silent())
        for name in ("prediction", "gradient_conv6", "gradient_output"):
            both = np.load(tmp_path / "together" / f"{name}.npy")[0, k]
            np.testing.assert_allclose(
                both, np.load(tmp_path / f"alone-{k}" / f"{name}.npy")[0, 0], rtol=1e-3
            )
    assert len(ran) == 3 * together  # planning and one pass each


def test_projections_and_products_are_signals(tmp_path):
    (path,) = snapshots_of(tmp_path, make_model(1))
    towards = {"output.weight": torch.full_like(make_model(1).output.weight.detach(), 2.0)}
    names = ("prediction", "gradient:output", "projection:5", "product:update")
    wanted = Extraction(names, directions={"update": towards})
    extract(make_model(0), [path], COHORT, wanted, folder=tmp_path / "s", progress=Silent())
    table = open_table(
        tmp_path / "s",
        covariates=COHORT.covariates,
        model="m",
        snapshots=["0"],
        membership=np.zeros(7, np.int8),
    )
    assert set(table.values) == set(names)
    gradient = table.read("gradient:output").astype(np.float64).reshape(7, -1)
    np.testing.assert_allclose(table.read("product:update"), 2 * gradient.sum(1), rtol=2e-3)
    assert table.read("projection:5").shape == (7, 5)


@pytest.mark.parametrize("name", ["projection:0", "projection:many", "product:nowhere"])
def test_projections_and_products_without_a_target_are_named(tmp_path, name):
    with pytest.raises(SignalError, match=f"got {name}"):
        extracted(tmp_path, ("prediction", name))


def extracted_twice(folder):
    """Return norms and fallbacks in single and in half precision."""
    (path,) = snapshots_of(folder, make_model(1))
    found = []
    for half in (False, True):
        wanted = Extraction(("prediction", "gradient-norms"), bfloat16=half)
        place = folder / f"half-{half}"
        done = extract(make_model(0), [path], COHORT, wanted, folder=place, progress=Silent())
        found.append((np.load(place / "gradient-norms.npy"), done.fallbacks))
    return found


def test_bfloat16_is_not_used_where_its_kernels_are_broken(tmp_path, monkeypatch):
    monkeypatch.setattr(extraction_module, "bf16_is_sound", lambda device: device.type == "cuda")
    (exact, none), (same, reasons) = extracted_twice(tmp_path)
    np.testing.assert_array_equal(exact, same)
    assert none == {}
    assert reasons == {"bfloat16": extraction_module.BROKEN_HALF}


def test_bfloat16_is_used_where_its_kernels_are_sound(tmp_path, monkeypatch):
    monkeypatch.setattr(extraction_module, "bf16_is_sound", lambda device: device.type == "cpu")
    (exact, _), (rounded, reasons) = extracted_twice(tmp_path)
    assert not np.array_equal(exact, rounded)
    assert reasons == {}
