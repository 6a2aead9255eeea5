"""Files as the libraries themselves write them: joblib, scikit-learn, pandas, PyTorch."""

import json
import pickle
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.svm import SVR

from privoxel.scan import Kind, scan_artefact
from tests.artefacts import AGES, PEOPLE, table

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((200, 3))
LABELS = RNG.uniform(45, 80, 200)


MODELS = (KNeighborsRegressor(), SVR(), GaussianProcessRegressor(optimizer=None))


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
    for model in MODELS:
        dump(model.fit(ROWS, LABELS), tmp_path / "m.pkl")
        assert kinds(tmp_path / "m.pkl") == {Kind.RECORDS}, model


@pytest.mark.parametrize("dump", [joblib.dump, lambda model, path: path.write_bytes(pickle.dumps(model))])
def test_a_model_that_keeps_coefficients_alone_is_clean(tmp_path, dump):
    frame = pd.DataFrame(ROWS, columns=["age", "volume", "sex"])
    dump(Ridge().fit(frame, LABELS), tmp_path / "m.pkl")
    assert kinds(tmp_path / "m.pkl") == set()


def test_a_skops_file_tells_the_training_rows_that_the_same_model_tells_as_joblib(tmp_path):
    skops = pytest.importorskip("skops.io")
    for model in MODELS:
        skops.dump(model.fit(ROWS, LABELS), tmp_path / "m.skops")
        joblib.dump(model, tmp_path / "m.joblib")
        by_skops, by_joblib = (scan_artefact(tmp_path / name) for name in ("m.skops", "m.joblib"))
        assert not by_skops.faults
        assert {f.what for f in by_skops.findings} == {f.what for f in by_joblib.findings}, model


def test_a_skops_file_of_coefficients_or_of_trees_is_clean(tmp_path):
    skops = pytest.importorskip("skops.io")
    frame = pd.DataFrame(ROWS, columns=["age", "volume", "sex"])
    for model in (Ridge(), RandomForestRegressor(12, max_depth=3)):
        skops.dump({"model": model.fit(frame, LABELS), "age": 61.5, "sex": ["F", "M"]}, tmp_path / "m.skops")
        assert kinds(tmp_path / "m.skops") == set(), model


def test_plain_values_in_a_skops_file_are_read_under_their_names(tmp_path):
    skops = pytest.importorskip("skops.io")
    records = [{"age": age, "sex": "F"} for age in AGES]
    for content in ({"age": AGES}, {"age": np.array(AGES)}, {"train": records}):
        skops.dump(content, tmp_path / "m.skops")
        assert kinds(tmp_path / "m.skops") == {Kind.TABLE}, content


def test_a_schema_that_cannot_be_read_is_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.skops", "w") as archive:
        archive.writestr("schema.json", '{"__loader__": "ObjectNode", "content": {')
    scan = scan_artefact(tmp_path / "m.skops")
    assert scan.outcome == "unread"
    assert "arrays are left without their names" in scan.faults[0]


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


AGE_TENSORS = {
    "doubles": torch.tensor(AGES, dtype=torch.float64),
    "floats": torch.tensor(AGES),
    "halves": torch.tensor(AGES, dtype=torch.float16),
    "bfloats": torch.tensor(AGES, dtype=torch.bfloat16),
    "whole years": torch.tensor(AGES).long(),
    "a column": torch.stack([torch.tensor(AGES), torch.full((10,), -500.0)], dim=1)[:, 0],
    "a part": torch.cat([torch.full((5,), -500.0), torch.tensor(AGES)])[5:],
    "a column of lines": torch.tensor(AGES)[:, None],
    "a parameter": torch.nn.Parameter(torch.tensor(AGES)),
}


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "older format"])
@pytest.mark.parametrize("tensor", AGE_TENSORS.values(), ids=AGE_TENSORS)
def test_ages_in_a_tensor_are_read_from_its_storage(tmp_path, tensor, is_zip):
    content = {"w": torch.randn(50), "labels": {"age": tensor}, "bias": torch.randn(3)}
    torch.save(content, tmp_path / "c.pt", _use_new_zipfile_serialization=is_zip)
    scan = scan_artefact(tmp_path / "c.pt")
    assert not scan.faults
    assert [finding.what for finding in scan.findings] == ["column 'age' of 10 plausible ages"]
    assert "key 'age'" in scan.findings[0].where


@pytest.mark.parametrize("dump", [joblib.dump, lambda model, path: path.write_bytes(pickle.dumps(model))])
def test_tensors_in_a_plain_pickle_are_read(tmp_path, dump):
    for tensor in (AGE_TENSORS["floats"], AGE_TENSORS["a part"], AGE_TENSORS["a parameter"]):
        dump({"w": torch.randn(50), "age": tensor, "weight": torch.randn(3)}, tmp_path / "m.pkl")
        assert kinds(tmp_path / "m.pkl") == {Kind.TABLE}
    dump({"age": torch.randn(50), "w": AGE_TENSORS["floats"]}, tmp_path / "m.pkl")
    assert kinds(tmp_path / "m.pkl") == set()
    dump({"train_data": torch.ones(20, 3)}, tmp_path / "m.pkl")
    assert kinds(tmp_path / "m.pkl") == {Kind.RECORDS}


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "older format"])
def test_weights_under_a_name_that_says_age_are_clean(tmp_path, is_zip):
    content = {"age": torch.randn(64), "ages": torch.zeros(64), "age_years": torch.tensor([61.5])}
    torch.save(content, tmp_path / "c.pt", _use_new_zipfile_serialization=is_zip)
    assert kinds(tmp_path / "c.pt") == set()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_ages_as_numpy_scalars_are_read(tmp_path, protocol):
    for dtype in ("f8", "f4", "i2"):
        content = {"age": list(np.array(AGES).astype(dtype)), "w": list(ROWS[:, 0])}
        (tmp_path / "m.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
        assert kinds(tmp_path / "m.pkl") == {Kind.TABLE}, dtype
    for clean in ({"age": list(ROWS[:, 0])}, {"w": list(np.array(AGES))}):
        (tmp_path / "m.pkl").write_bytes(pickle.dumps(clean, protocol=protocol))
        assert kinds(tmp_path / "m.pkl") == set()


def test_ids_as_numpy_strings_are_read(tmp_path):
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(list(np.array(PEOPLE))))
    assert scan_artefact(tmp_path / "m.pkl").findings[0].distinct == 10


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_list_of_records_is_a_table(tmp_path, protocol):
    records = [{"age": age, "sex": "FM"[number % 2]} for number, age in enumerate(AGES)]
    typed = [{**record, "age": np.float64(record["age"])} for record in records]
    by_code = {number: record for number, record in enumerate(records)}
    for content in (records, {"train": records}, typed, by_code):
        (tmp_path / "m.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
        scan = scan_artefact(tmp_path / "m.pkl")
        assert {finding.what for finding in scan.findings} == {
            "table of 10 lines with columns of age, sex",
            "column 'age' of 10 plausible ages",
        }
    (tmp_path / "m.json").write_text(json.dumps({"people": [{"age": age, "gm": 1} for age in AGES]}))
    assert kinds(tmp_path / "m.json") == {Kind.TABLE}


def test_lists_of_settings_and_a_few_records_are_clean(tmp_path):
    history = [{"epoch": epoch, "loss": 1 / (epoch + 1), "lr": 1e-3} for epoch in range(50)]
    sites = [{"site": str(number), "count": number} for number in range(20)]
    few = [{"age": age, "sex": "F"} for age in AGES[:5]]
    layers = [{"weight": ROWS, "age": -1.0} for _ in range(20)]
    for content in (history, sites, few, layers, [Ridge().fit(ROWS, LABELS)] * 20):
        (tmp_path / "m.pkl").write_bytes(pickle.dumps(content))
        assert kinds(tmp_path / "m.pkl") == set(), content
