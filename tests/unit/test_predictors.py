"""Models that are asked: every format answers as the model it was made of, and none runs foreign code."""

import io
import pickle
import re
import zipfile

import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from onnx import TensorProto
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPRegressor

from privoxel.errors import ModelError
from privoxel.models.callables import load_reference, predictor_of
from privoxel.models.exported import faults_of
from privoxel.models.onnx_files import OnnxPredictor
from privoxel.models.predictor import FileFormat, file_format
from privoxel.models.tabular_files import load_estimator, predictor_of_estimator
from privoxel.models.torch_files import TorchPredictor
from tests.artefacts import Evil
from tests.brought_models import (
    SHAPE,
    MeanNet,
    expected,
    volumes,
    write_exported,
    write_linear_onnx,
    write_onnx,
    write_torchscript,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning:torch"),
]


@pytest.mark.parametrize("batch", ["n", 1, 3])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_an_onnx_model_answers_whatever_batch_it_was_exported_with(tmp_path, batch, kind):
    predictor = OnnxPredictor(write_onnx(tmp_path / "m.onnx", batch=batch, kind=kind))
    scans = volumes(7)
    np.testing.assert_allclose(predictor.predict(scans), expected(scans), atol=1e-4)
    assert predictor.input_shape == (None if batch == "n" else batch, 1, *SHAPE)
    assert pickle.loads(pickle.dumps(predictor)) == predictor  # noqa: S301 - made above


@pytest.mark.parametrize("batch", [None, 3])
def test_an_exported_program_answers_whatever_batch_it_was_exported_with(tmp_path, batch):
    path = write_exported(tmp_path / "m.pt2", MeanNet(), batch=batch)
    assert file_format(path) is FileFormat.EXPORTED
    predictor = TorchPredictor(path, FileFormat.EXPORTED)
    scans = volumes(7)
    np.testing.assert_allclose(predictor.predict(scans), expected(scans), atol=1e-4)
    assert predictor.input_shape == (batch, 1, *SHAPE)
    assert predictor.facts["format"] == "exported program (.pt2)"


def test_a_torchscript_file_answers_and_may_have_several_outputs(tmp_path):
    path = write_torchscript(tmp_path / "m.pt", MeanNet(outputs=2))
    assert file_format(path) is FileFormat.TORCHSCRIPT
    scans = volumes(4)
    with pytest.raises(ModelError, match=r"got an answer of shape \(4, 2\). Say which of them .* --target"):
        TorchPredictor(path, FileFormat.TORCHSCRIPT).predict(scans)
    predictor = TorchPredictor(path, FileFormat.TORCHSCRIPT, target=1)
    np.testing.assert_allclose(predictor.predict(scans), expected(scans), atol=1e-4)
    with pytest.raises(ModelError, match="needs a target among its 2 outputs, got 5"):
        TorchPredictor(path, FileFormat.TORCHSCRIPT, target=5).predict(scans)


class OwnRegression(LinearRegression):
    """A type that scikit-learn does not bring."""


def rewritten(path, change):
    """Write an archive again with ``change(name, content)`` in place of each entry's content."""
    out = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))
    path.write_bytes(out.getvalue())
    return path


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        (".pt", "evil", "a pickle that is more than tensors"),
        ("weights_config.json", (b'"use_pickle":false', b'"use_pickle":true'), "pickled weights"),
        (
            "models/model.json",
            (b"torch.ops.aten.mean.dim", b"torch.hub.load_state_dict_from_url"),
            "no operator",
        ),
        (
            "models/model.json",
            (rb'"expr_str":"[^"]+"', b'"expr_str":"exec(chr(49))"'),
            "more than arithmetic",
        ),
    ],
)
def test_an_exported_program_that_would_run_code_is_refused_unread(tmp_path, part, change, message):
    marker = tmp_path / "ran"
    evil = pickle.dumps(Evil(marker))
    found = []

    def put(name, content):
        if not name.endswith(part):
            return content
        if change == "evil":
            found.append(name)
            return evil
        squeezed = re.sub(rb'"\s*:\s*', b'":', content)
        new = re.sub(change[0], change[1], squeezed)
        found.extend([name] * (new != squeezed))
        return new

    path = rewritten(write_exported(tmp_path / "m.pt2", MeanNet()), put)
    assert found
    assert any(message in fault for fault in faults_of(path.read_bytes()))
    with pytest.raises(ModelError, match="needs to be a graph of PyTorch's operators"):
        TorchPredictor(path, FileFormat.EXPORTED).predict(volumes(2))
    assert not marker.exists()


def test_native_code_in_an_exported_program_is_named(tmp_path):
    path = write_exported(tmp_path / "m.pt2", MeanNet())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("m/data/aotinductor/model/x.so", b"x")
    assert faults_of(path.read_bytes()) == ["native code (data/aotinductor/model/x.so)"]


def test_a_sound_export_of_a_convolutional_network_has_no_faults(tmp_path):
    net = torch.nn.Sequential(
        torch.nn.Conv3d(1, 2, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten(1),
        torch.nn.Linear(2, 1),
    )  # fmt: skip
    assert faults_of(write_exported(tmp_path / "m.pt2", net).read_bytes()) == []


def test_a_skops_file_answers_by_the_names_of_its_columns(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.standard_normal((40, 3)), columns=["gm", "wm", "csf"])
    model = LinearRegression().fit(table, 60 + table["gm"])
    skops.io.dump(model, tmp_path / "m.skops")
    assert file_format(tmp_path / "m.skops") is FileFormat.SKOPS
    predictor = load_estimator(tmp_path / "m.skops", FileFormat.SKOPS)
    assert predictor.columns == ["gm", "wm", "csf"]
    assert predictor.input_shape == (None, 3)
    np.testing.assert_allclose(predictor.predict(table.to_numpy()), model.predict(table))


def test_a_pickle_is_loaded_only_if_it_is_trusted_and_never_runs_before(tmp_path):
    marker, path = tmp_path / "ran", tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(Evil(marker)))
    assert file_format(path) is FileFormat.PICKLE
    with pytest.raises(ModelError, match=r"got a pickle, which can run any.*skops.io.dump.*--trust-pickle"):
        load_estimator(path, FileFormat.PICKLE)
    assert not marker.exists()
    model = LinearRegression().fit(np.eye(3), np.arange(3.0))
    path.write_bytes(pickle.dumps(model))
    trusted = load_estimator(path, FileFormat.PICKLE, trust_pickle=True)
    np.testing.assert_allclose(trusted.predict(np.eye(3)), [0, 1, 2], atol=1e-9)


def test_a_skops_file_of_a_network_keeps_its_optimiser_and_answers(tmp_path, rng):
    table, ages = rng.normal(size=(30, 3)), rng.normal(60, 5, 30)
    network = MLPRegressor(hidden_layer_sizes=(4,), tol=1e9).fit(table, ages)
    skops.io.dump(network, tmp_path / "m.skops")
    predictor = load_estimator(tmp_path / "m.skops", FileFormat.SKOPS)
    np.testing.assert_array_equal(predictor.predict(table), network.predict(table))


def test_a_skops_file_with_other_types_is_refused_by_name(tmp_path):
    skops.io.dump(OwnRegression().fit(np.eye(3), np.arange(3.0)), tmp_path / "m.skops")
    with pytest.raises(ModelError, match=r"types of scikit-learn alone, got .*OwnRegression"):
        load_estimator(tmp_path / "m.skops", FileFormat.SKOPS)


def test_what_is_no_regressor_is_refused():
    with pytest.raises(ModelError, match="regressor of age, got the classifier LogisticRegression"):
        predictor_of_estimator(LogisticRegression(), "m", {})
    with pytest.raises(ModelError, match=r"regressor with predict\(\), got dict"):
        predictor_of_estimator({}, "m", {})


def test_a_linear_onnx_model_of_features_answers(tmp_path):
    path = write_linear_onnx(tmp_path / "m.onnx", np.array([1.0, -2.0]), 50.0)
    np.testing.assert_allclose(OnnxPredictor(path).predict(np.array([[3.0, 1.0]])), [51.0])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda _: "old", "needs to answer with numbers, got str"),
        (lambda _: np.zeros(3), r"got an answer of shape \(3,\). Give a model that returns one age"),
        (lambda _: 1 / 0, r"got ZeroDivisionError: division by zero. Mend it"),
    ],
)
def test_a_function_that_does_not_answer_with_ages_is_told_so(answer, message):
    with pytest.raises(ModelError, match=message):
        predictor_of(answer, "mine").predict(volumes(2))


def test_a_network_is_asked_in_evaluation_mode():
    net = MeanNet(dropout=0.9)
    scans = volumes(3)
    np.testing.assert_allclose(predictor_of(net, "net").predict(scans), expected(scans), atol=1e-4)


def test_a_function_is_found_by_its_module_and_name():
    assert load_reference("tests.brought_models:expected") is expected
    with pytest.raises(ModelError, match=r"needs the name 'nothing' in tests.brought_models, got none"):
        load_reference("tests.brought_models:nothing")
    with pytest.raises(ModelError, match="needs a module that can be imported from here"):
        load_reference("no_such_module_here:f")


def test_damaged_and_foreign_files_are_model_errors(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ModelError, match="needs to be an ONNX model that onnxruntime can run"):
        OnnxPredictor(path).predict(volumes(1))
    with pytest.raises(ModelError, match=r"needs one input of real numbers, got scan0 .*, scan1"):
        OnnxPredictor(write_onnx(path, inputs=2)).predict(volumes(1))
    whole = write_torchscript(tmp_path / "m.pt", MeanNet())
    whole.write_bytes(whole.read_bytes()[:-700])
    with pytest.raises(ModelError, match="needs to be a whole TorchScript"):
        TorchPredictor(whole, FileFormat.TORCHSCRIPT).predict(volumes(1))
    torch.save(MeanNet().state_dict(), tmp_path / "w.pt")
    assert file_format(tmp_path / "w.pt") is FileFormat.WEIGHTS
