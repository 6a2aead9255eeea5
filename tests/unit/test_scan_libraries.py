"""Files as the libraries themselves write them: joblib, scikit-learn, pandas, PyTorch."""

import pickle
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.svm import SVR

from privoxel.scan import Kind, scan_artefact
from tests.artefacts import AGES, PEOPLE, table

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((200, 3))
LABELS = RNG.uniform(45, 80, 200)


def kinds(path: Path) -> set[Kind]:
    scan = scan_artefact(path)
    assert not scan.faults, scan.faults
    return {finding.kind for finding in scan.findings}


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)], ids=str)
def test_arrays_in_joblib_files_are_passed_over_and_what_follows_is_read(tmp_path, compress):
    content = {"w": ROWS, "deep": [np.arange(7), np.array(["x", None], dtype=object)], **table()}
    joblib.dump(content, tmp_path / "m.joblib", compress=compress)
    scan = scan_artefact(tmp_path / "m.joblib")
    assert not scan.faults
    assert {f.kind for f in scan.findings} == {Kind.IDENTIFIER, Kind.TABLE}
    assert sum(f.distinct for f in scan.findings if f.kind is Kind.IDENTIFIER) == 10


@pytest.mark.parametrize("dump", [joblib.dump, lambda model, path: path.write_bytes(pickle.dumps(model))])
def test_models_that_keep_their_training_rows_are_named(tmp_path, dump):
    for model in (KNeighborsRegressor(), SVR(), GaussianProcessRegressor(optimizer=None)):
        dump(model.fit(ROWS, LABELS), tmp_path / "m.pkl")
        assert kinds(tmp_path / "m.pkl") == {Kind.RECORDS}, model


@pytest.mark.parametrize("dump", [joblib.dump, lambda model, path: path.write_bytes(pickle.dumps(model))])
def test_a_model_that_keeps_coefficients_alone_is_clean(tmp_path, dump):
    frame = pd.DataFrame(ROWS, columns=["age", "volume", "sex"])
    dump(Ridge().fit(frame, LABELS), tmp_path / "m.pkl")
    assert kinds(tmp_path / "m.pkl") == set()


def test_a_data_frame_is_a_table_whatever_its_columns(tmp_path):
    frame = pd.DataFrame({"age": AGES, "participant_id": PEOPLE, "volume": AGES})
    for content in (frame, {"model": 1, "train": frame}, frame[["volume"]]):
        (tmp_path / "m.pkl").write_bytes(pickle.dumps(content))
        scan = scan_artefact(tmp_path / "m.pkl")
        found = next(f for f in scan.findings if f.kind is Kind.TABLE)
        assert found.what.startswith("pandas table (DataFrame)")
    assert "participant" not in found.what


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "older format"])
def test_pytorch_checkpoints_tell_optimisers_and_tables_but_not_weights(tmp_path, is_zip):
    model = torch.nn.Linear(4, 2)
    torch.save(model.state_dict(), tmp_path / "w.pt", _use_new_zipfile_serialization=is_zip)
    assert kinds(tmp_path / "w.pt") == set()
    optimiser = torch.optim.Adam(model.parameters())
    model(torch.ones(3, 4)).sum().backward()
    optimiser.step()
    content = {"model": model.state_dict(), "optimizer_state_dict": optimiser.state_dict(), "people": PEOPLE}
    torch.save(content, tmp_path / "c.pt", _use_new_zipfile_serialization=is_zip)
    assert kinds(tmp_path / "c.pt") == {Kind.OPTIMISER, Kind.IDENTIFIER}


def test_text_in_a_byte_tensor_is_found(tmp_path):
    text = torch.frombuffer(bytearray(b"trained on sub-0042 and sub-0043"), dtype=torch.uint8)
    torch.save({"note": text, "w": torch.ones(1000)}, tmp_path / "c.pt")
    assert kinds(tmp_path / "c.pt") == {Kind.IDENTIFIER}


def test_a_training_set_held_as_tensors_is_named(tmp_path):
    torch.save({"train_data": torch.ones(20, 3), "bias": torch.ones(9)}, tmp_path / "c.pt")
    assert kinds(tmp_path / "c.pt") == {Kind.RECORDS}
