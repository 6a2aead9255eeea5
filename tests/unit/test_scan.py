"""What the scan finds, where, and what it leaves alone."""

import gzip
import json
import pickle
import re
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from privoxel.scan import ArtefactScan, Kind, scan_artefact, scan_artefacts
from tests.artefacts import (
    AGES,
    H5PY_FILE,
    ONNX_FILE,
    PEOPLE,
    RDS_FILE,
    Evil,
    R,
    onnx,
    onnx_tensor,
    string,
    table,
    torch_zip,
    weights,
)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def kinds(scan: ArtefactScan) -> set[Kind]:
    return {finding.kind for finding in scan.findings}


def find(scan: ArtefactScan, kind: Kind, words: str = "") -> object:
    return next(finding for finding in scan.findings if finding.kind is kind and words in finding.what)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_training_table_is_found_under_every_protocol(tmp_path, protocol):
    scan = scan_artefact(write(tmp_path / "m.pkl", pickle.dumps({"train": table()}, protocol=protocol)))
    people = find(scan, Kind.IDENTIFIER, "BIDS")
    assert (people.times, people.distinct) == (10, 10)
    assert find(scan, Kind.TABLE, "10 plausible ages")
    assert scan.outcome == "found"
    assert not scan.faults


def test_the_place_is_the_byte_where_the_string_begins(tmp_path):
    content = pickle.dumps(["nothing", "sub-042"])
    scan = scan_artefact(write(tmp_path / "m.pkl", content))
    offset = int(re.search(r"byte ([\d,]+)", scan.findings[0].where).group(1).replace(",", ""))
    assert 0 <= content.index(b"sub-042") - offset <= 3


def test_nothing_is_executed_and_the_import_is_named(tmp_path):
    marker = tmp_path / "ran"
    scan = scan_artefact(write(tmp_path / "m.pkl", pickle.dumps(Evil(marker))))
    assert kinds(scan) == {Kind.CODE}
    assert scan.findings[0].what in ("import of posix.system", "import of nt.system")
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"\x80\x02\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",
        b"\x80\x02csubprocess\nPopen\n)\x81.",
    ],
    ids=["GLOBAL", "INST", "STACK_GLOBAL", "NEWOBJ"],
)
def test_every_way_to_import_code_is_seen(tmp_path, content):
    assert Kind.CODE in kinds(scan_artefact(write(tmp_path / "m.pkl", content)))


def test_an_import_whose_name_is_computed_is_dangerous(tmp_path):
    content = b"\x80\x04\x8c\x02os)R\x8c\x06system\x93."
    assert find(scan_artefact(write(tmp_path / "m.pkl", content)), Kind.CODE, "computed")


def test_weights_alone_are_clean(tmp_path):
    np.savez(tmp_path / "w.npz", **weights())
    np.savez_compressed(tmp_path / "wc.npz", **weights())
    files = [
        write(tmp_path / "w.pkl", pickle.dumps(weights())),
        write(tmp_path / "w.onnx", onnx(tensors=onnx_tensor(b"conv1.weight", [0.1, -2.0] * 50))),
        torch_zip(tmp_path / "w.pt", weights()),
        tmp_path / "w.npz",
        tmp_path / "wc.npz",
        write(
            tmp_path / "config.json", json.dumps({"lr": 1e-4, "optimizer": "adam", "ages": "45-80"}).encode()
        ),
    ]
    for scan in scan_artefacts(files):
        assert scan.outcome == "clean", (scan.path, scan.findings, scan.faults)


def test_raw_weights_are_clean_and_what_looks_encrypted_is_not(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, 2_000_000, dtype=np.uint8).tobytes()
    for dtype in ("f2", "f4", "f8"):
        raw = rng.standard_normal(300_000).astype(dtype).tobytes()
        assert scan_artefact(write(tmp_path / "w.bin", raw)).outcome == "clean"
    scan = scan_artefact(write(tmp_path / "noise.bin", noise))
    assert not scan.findings
    assert "look encrypted" in scan.faults[0]


def test_old_joblib_files_are_unpacked(tmp_path):
    content = pickle.dumps(table())
    for blank in (b"", b" "):
        packed = b"ZF" + hex(len(content)).ljust(19).encode() + blank + zlib.compress(content)
        scan = scan_artefact(write(tmp_path / "old.pkl", packed))
        assert scan.form == "pickle in old joblib"
        assert find(scan, Kind.IDENTIFIER).distinct == 10


def test_a_checkpoint_with_optimiser_and_table_tells_both(tmp_path):
    state = {"state": {0: {"exp_avg": weights()["conv0.weight"]}}, "param_groups": [{"lr": 0.1}]}
    scan = scan_artefact(torch_zip(tmp_path / "c.pt", {"optimizer": state, "data": table()}))
    assert {Kind.OPTIMISER, Kind.IDENTIFIER, Kind.TABLE} <= kinds(scan)
    assert find(scan, Kind.OPTIMISER).member == "archive/data.pkl"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_a_pickle_are_read_by_their_type(tmp_path, protocol):
    content = {"y": np.array(AGES), "age": np.array(AGES, dtype=">f4"), "ids": np.array(PEOPLE)}
    scan = scan_artefact(write(tmp_path / "m.pkl", pickle.dumps(content, protocol=protocol)))
    assert find(scan, Kind.TABLE).what == "column 'age' of 10 plausible ages"
    assert find(scan, Kind.IDENTIFIER).distinct == 10


def test_a_column_called_age_that_holds_no_ages_is_no_table(tmp_path):
    content = {"age": np.linspace(-3, 3, 50), "ages": [0.0] * 50}
    assert scan_artefact(write(tmp_path / "m.pkl", pickle.dumps(content))).outcome == "clean"


def test_numpy_archives_give_their_columns_names_and_records(tmp_path):
    records = np.array([("sub-01", 61.0)] * 9, dtype=[("participant_id", "U8"), ("age", "f8")])
    np.savez_compressed(tmp_path / "d.npz", age=np.array(AGES), people=np.array(PEOPLE), records=records)
    scan = scan_artefact(tmp_path / "d.npz")
    assert find(scan, Kind.TABLE, "plausible ages").member == "age.npy"
    assert find(scan, Kind.IDENTIFIER).distinct == 10
    assert find(scan, Kind.TABLE, "table of 9 lines with columns of age, participant").member == "records.npy"


def test_objects_in_numpy_files_are_walked_not_unpickled(tmp_path):
    marker = tmp_path / "ran"
    np.save(tmp_path / "o.npy", np.array([Evil(marker), "sub-07"], dtype=object), allow_pickle=True)
    assert {Kind.CODE, Kind.IDENTIFIER} == kinds(scan_artefact(tmp_path / "o.npy"))
    assert not marker.exists()


def test_safetensors_tell_their_metadata_and_columns(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    tensors = {"ages": np.array(AGES), "conv.weight": weights()["conv0.weight"], "exp_avg": np.zeros(9)}
    metadata = {"author": "jane.doe@clinic.example.org", "train": json.dumps({"age": AGES})}
    safetensors.save_file(tensors, tmp_path / "m.safetensors", metadata=metadata)
    scan = scan_artefact(tmp_path / "m.safetensors")
    assert kinds(scan) == {Kind.EMAIL, Kind.TABLE, Kind.OPTIMISER}
    assert find(scan, Kind.EMAIL).example == "***@***.org"


def test_onnx_tells_names_paths_and_support_vectors(tmp_path):
    vectors = string(1, b"support_vectors") + b"".join(b"\x3d\x00\x00\x80\x3f" for _ in range(12))
    node = string(1, string(4, b"SVMRegressor") + string(6, b"/home/jane/train.py") + string(5, vectors))
    extra = string(14, string(1, b"subjects") + string(2, b"IXI002 IXI012"))
    content = onnx(nodes=node, tensors=onnx_tensor(b"ages", AGES), extra=extra)
    scan = scan_artefact(write(tmp_path / "m.onnx", content))
    assert kinds(scan) == {Kind.PATH, Kind.IDENTIFIER, Kind.TABLE, Kind.RECORDS}
    assert find(scan, Kind.PATH).example == "/home/***.py"
    assert not scan.faults


def test_onnx_that_reads_outside_its_folder_is_unsafe(tmp_path):
    place = string(13, string(1, b"location") + string(2, b"../../etc/passwd"))
    scan = scan_artefact(write(tmp_path / "m.onnx", onnx(tensors=onnx_tensor(b"w", [1.0], more=place))))
    assert kinds(scan) == {Kind.ARCHIVE}


@pytest.mark.parametrize("packer", [gzip.compress, lambda content: content], ids=["gzip", "plain"])
def test_an_r_model_tells_its_training_table(tmp_path, packer):
    frame = R.frame({"age": R.reals(AGES), "id": R.strings(PEOPLE)})
    fit = R.list_of({"residuals": R.reals(AGES), "trainingData": frame})
    workspace = R.file(R.pair("fit", fit) + R.NIL, magic=b"RDX3\n")
    for name, content in (("m.RData", workspace), ("m.rds", R.file(fit))):
        scan = scan_artefact(write(tmp_path / name, packer(content)))
        assert {Kind.RECORDS, Kind.TABLE, Kind.IDENTIFIER} == kinds(scan)
        assert find(scan, Kind.RECORDS, "residuals").times == 1
        assert find(scan, Kind.TABLE, "data frame) of 10 lines")
        assert not scan.faults


def test_hdf5_tells_names_paths_and_what_its_chunks_hold(tmp_path):
    scan = scan_artefact(write(tmp_path / "m.h5", H5PY_FILE))
    assert kinds(scan) == {Kind.OPTIMISER, Kind.PATH, Kind.TABLE, Kind.IDENTIFIER}
    assert find(scan, Kind.IDENTIFIER).distinct == 10
    assert find(scan, Kind.IDENTIFIER).where.startswith("chunk at byte")
    assert find(scan, Kind.TABLE).what == "table with columns of age, sex"


def test_files_that_other_libraries_wrote_are_read(tmp_path):
    scan = scan_artefact(write(tmp_path / "m.onnx", ONNX_FILE))
    assert kinds(scan) == {Kind.PATH, Kind.TABLE, Kind.IDENTIFIER}
    frame = scan_artefact(write(tmp_path / "m.rds", RDS_FILE))
    assert find(frame, Kind.TABLE, "data frame) of 10 lines with columns of age, sex")
    assert find(frame, Kind.IDENTIFIER).distinct == 10
    assert not scan.faults + frame.faults


def test_a_keras_layer_of_code_is_dangerous(tmp_path):
    config = json.dumps({"class_name": "Lambda", "config": {"function": ["4wEAAAA", None, None]}})
    h5 = b"\x89HDF\r\n\x1a\n\x00model_config\x00\x00" + config.encode() + b"\x00"
    assert kinds(scan_artefact(write(tmp_path / "m.h5", h5))) == {Kind.CODE}


def test_tables_and_json_beside_a_model_are_found(tmp_path):
    lines = "participant_id,age,sex\n" + "".join(
        f"{person},{age},F\n" for person, age in zip(PEOPLE, AGES, strict=True)
    )
    rows = [{"subject": person, "age": age} for person, age in zip(PEOPLE, AGES, strict=True)]
    for name, text in (("t.csv", lines), ("t.json", json.dumps({"train": rows}))):
        scan = scan_artefact(write(tmp_path / name, text.encode()))
        assert find(scan, Kind.TABLE, "10 lines with columns of age, participant")


def test_archives_within_archives_name_the_member(tmp_path):
    inner = write(tmp_path / "m.pkl", pickle.dumps(table()))
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(inner, "models/m.pkl")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.write(tmp_path / "a.tar.gz", "release/a.tar.gz")
    scan = scan_artefact(tmp_path / "b.zip")
    assert find(scan, Kind.IDENTIFIER).member == "release/a.tar.gz!models/m.pkl"


def test_every_kind_of_identifier_is_known():
    from privoxel.scan.patterns import hits  # noqa: PLC0415

    for text in (
        "sub-CC110033",
        "002_S_0295",
        "IXI012-HH-1211-T1",
        "OAS1_0001_MR1",
        "0050002 0050003 0050004",
        "1234567_20252_2_0",
        "NDARINV00BD7VDC",
        "HCA6002236",
        "100307_3T",
        "patient_0042",
        "1.2.840.113619.2.5.1762583153.215519.978957063.78",
    ):
        assert any(hit.pattern.kind is Kind.IDENTIFIER for hit in hits(text)), text


@pytest.mark.parametrize(
    "text",
    [
        "sub-module",
        "subnet-01",
        "model.layers.012.sub.weight",
        "/usr/lib/python3.11/site-packages/torch/nn/modules/conv.py",
        "MNI152_T1_1mm_brain.nii.gz",
        "git@github.com:pytorch/pytorch.git",
        "language",
        "2.1.0+cu121",
        "torch._utils._rebuild_tensor_v2",
    ],
)
def test_what_only_looks_alike_is_left_alone(text):
    from privoxel.scan.patterns import hits  # noqa: PLC0415
    from privoxel.scan.roles import role_of  # noqa: PLC0415

    assert not list(hits(text))
    assert role_of(text) is None


def test_no_output_holds_what_was_found(tmp_path):
    from privoxel.scan_cli import scan_lines, scan_record  # noqa: PLC0415

    secrets = ["sub-X7391", "002_S_0295", "jane.doe@clinic.example.org", "/home/jane/data/scan7.nii.gz"]
    scan = scan_artefact(write(tmp_path / "m.pkl", pickle.dumps(secrets)))
    shown = "\n".join(scan_lines(scan)) + json.dumps(scan_record(scan))
    assert len(scan.findings) == 5
    assert not any(part in shown for part in ("7391", "0295", "jane", "clinic", "scan7"))


def test_names_of_members_and_keys_are_redacted_too(tmp_path):
    from privoxel.scan_cli import scan_lines  # noqa: PLC0415

    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("people/sub-X7391.pkl", pickle.dumps(table()))
        archive.writestr("../sub-X7391.pkl", pickle.dumps(table())[:40])
    scan = scan_artefact(tmp_path / "m.zip")
    assert scan.faults
    assert find(scan, Kind.TABLE).member.endswith("sub-***.pkl")
    assert "7391" not in "\n".join(scan_lines(scan))
