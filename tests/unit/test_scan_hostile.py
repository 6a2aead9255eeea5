"""Damaged, huge and malicious files: a message each, no crash, and the others are still scanned."""

import bz2
import gzip
import io
import lzma
import pickle
import random
import struct
import tarfile
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privoxel.scan import Kind, Limits, scan_artefact, scan_artefacts
from tests.artefacts import AGES, PEOPLE, R, onnx, onnx_tensor, string, table, torch_zip, weights

MEBIBYTE = 1 << 20
SMALL = Limits(free=2 * MEBIBYTE, ratio=10.0, seconds=20.0, members=50)
FUZZ = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def samples() -> dict[str, bytes]:
    """One file of every format, with findings in it."""
    npy = io.BytesIO()
    np.save(npy, np.array(PEOPLE))
    header = b'{"ages":{"dtype":"F64","shape":[10],"data_offsets":[0,80]}}'
    frame = R.frame({"age": R.reals(AGES), "id": R.strings(PEOPLE)})
    content = pickle.dumps({"train": table(), "w": weights()})
    return {
        "m.pkl": content,
        "old.pkl": pickle.dumps(table(), protocol=0),
        "m.npy": npy.getvalue(),
        "m.safetensors": struct.pack("<Q", len(header)) + header + np.array(AGES).tobytes(),
        "m.onnx": onnx(tensors=onnx_tensor(b"ages", AGES), extra=string(6, b"/home/jane/x.py")),
        "m.rds": R.file(frame),
        "m.zip": zipped({"a/m.pkl": content, "b.csv": b"participant_id,age\n" + b"sub-01,50\n" * 9}),
        "m.tar": tarred({"a/m.pkl": content}),
        "m.pkl.gz": gzip.compress(content),
        "m.h5": b"\x89HDF\r\n\x1a\n" + b"\x00optimizer_weights\x00" + zlib.compress(b"sub-0042 " * 20),
        "t.json": b'{"train": [' + b'{"subject": "sub-01", "age": 60},' * 9 + b"{}]}",
    }


@pytest.mark.parametrize("name", samples())
def test_a_file_cut_off_anywhere_is_scanned_to_there(tmp_path, name):
    content = samples()[name]
    whole = scan_artefact(write(tmp_path / name, content))
    assert whole.findings
    assert not whole.faults
    for length in range(0, len(content), max(len(content) // 30, 1)):
        scan = scan_artefact(write(tmp_path / name, content[:length]))
        assert scan.outcome in ("found", "unread", "clean")


@pytest.mark.parametrize("name", ["m.pkl", "m.onnx", "m.rds", "m.zip", "m.tar", "m.pkl.gz", "m.npy"])
def test_a_file_without_its_end_says_so(tmp_path, name):
    content = samples()[name].rstrip(b"\0")
    scan = scan_artefact(write(tmp_path / name, content[: len(content) * 3 // 4]))
    assert scan.faults
    assert "cut off" in scan.faults[0] or "damaged" in scan.faults[0]


@pytest.mark.parametrize("name", samples())
def test_flipped_bytes_never_crash_a_scan(tmp_path, name):
    content, rng = samples()[name], random.Random(name)  # noqa: S311 - a fuzz
    for _ in range(30):
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 4, 32))):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        assert scan_artefact(write(tmp_path / name, bytes(damaged)), SMALL).size == len(content)


@FUZZ
@given(
    content=st.binary(max_size=400),
    start=st.sampled_from([b"", b"\x80\x04", b"X\n\0\0\0\x03", b"PK\x03\x04"]),
)
def test_any_bytes_are_scanned(tmp_path, content, start):
    scan = scan_artefact(write(tmp_path / "any.pkl", start + content), SMALL)
    assert scan.outcome in ("found", "unread", "clean")


@FUZZ
@given(content=st.binary(max_size=300))
def test_any_bytes_within_a_format_are_scanned(tmp_path, content):
    header = struct.pack("<Q", len(content)) + b"{" + content
    for name, wrapped in {
        "a.safetensors": header,
        "a.onnx": b"\x08\x08\x12" + content,
        "a.npy": b"\x93NUMPY\x01\x00" + struct.pack("<H", len(content)) + content,
        "a.h5": b"\x89HDF\r\n\x1a\n" + content + b"\x78\x9c" + content,
        "a.zip": zipped({"x": content}),
        "a.gz": gzip.compress(content),
    }.items():
        assert scan_artefact(write(tmp_path / name, wrapped), SMALL).path.name == name


@FUZZ
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
        max_leaves=30,
    ),
    protocol=st.integers(0, pickle.HIGHEST_PROTOCOL),
)
def test_every_pickle_of_plain_values_is_read_to_its_end(tmp_path, value, protocol):
    scan = scan_artefact(write(tmp_path / "m.pkl", pickle.dumps(value, protocol=protocol)))
    assert not scan.faults


@pytest.mark.parametrize("packer", [gzip.compress, bz2.compress, lzma.compress, zlib.compress])
def test_a_decompression_bomb_is_stopped(tmp_path, packer):
    bomb = write(tmp_path / "bomb.gz", packer(bytes(24 * MEBIBYTE)))
    tracemalloc.start()
    scan = scan_artefact(bomb, SMALL)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert scan.outcome == "unread"
    assert "decompression bomb" in scan.faults[0]
    assert peak < 20 * MEBIBYTE


def test_a_zip_bomb_is_stopped_and_what_came_before_stands(tmp_path):
    content = zipped({"a.pkl": pickle.dumps(table()), "z.bin": bytes(12 * MEBIBYTE)})
    scan = scan_artefact(write(tmp_path / "bomb.zip", content), SMALL)
    assert scan.outcome == "found"
    assert "decompression bomb" in scan.faults[0]


def test_a_chunk_of_hdf5_can_be_no_bomb(tmp_path):
    content = b"\x89HDF\r\n\x1a\n" + zlib.compress(bytes(12 * MEBIBYTE))
    assert "decompression bomb" in scan_artefact(write(tmp_path / "b.h5", content), SMALL).faults[0]


def test_archives_nested_too_deeply_are_not_opened(tmp_path):
    content = pickle.dumps(table())
    for _ in range(6):
        content = zipped({"inner.zip": content})
    scan = scan_artefact(write(tmp_path / "deep.zip", content))
    assert "nested deeper than 4" in scan.faults[0]
    deep = scan_artefact(tmp_path / "deep.zip", Limits(depth=9))
    assert deep.outcome == "found"
    assert not deep.faults


def test_too_many_members_are_stopped(tmp_path):
    scan = scan_artefact(write(tmp_path / "m.zip", zipped({f"{k}.txt": b"x" for k in range(80)})), SMALL)
    assert "more than 50 files" in scan.faults[0]


def test_a_scan_that_takes_too_long_is_stopped(tmp_path):
    path = write(tmp_path / "long.pkl", b"\x80\x04" + b"N0" * 2_000_000 + b".")
    begun = time.monotonic()
    scan = scan_artefact(path, Limits(seconds=0.2))
    assert "takes longer than 0.2 s" in scan.faults[0]
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("name", ["../../x.txt", "/etc/x.txt", "C:\\x.txt"])
def test_names_that_leave_the_folder_are_told_and_nothing_is_written(tmp_path, name):
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    for file, content in (("a.zip", zipped({name: b"hi"})), ("a.tar", tarred({name: b"hi"}))):
        scan = scan_artefact(write(inside / file, content))
        assert [finding.kind for finding in scan.findings] == [Kind.ARCHIVE]
    assert not list(tmp_path.rglob("*x.txt"))


def test_links_in_an_archive_are_told_and_not_followed(tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("weights.bin")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    scan = scan_artefact(write(tmp_path / "a.tar", out.getvalue()))
    assert scan.findings[0].what == "link to a file outside its folder"


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 50) + b"x",
        b"\x80\x04B" + struct.pack("<I", 1 << 31),
        b"\x80\x02T" + struct.pack("<i", -5) + b"x.",
        b"X\n" + struct.pack(">iiiii", 2, 0, 0, 14, 1 << 30),
        b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 31),
        b"\x93NUMPY\x01\x00\x40\x00" + b"{'descr':'<f8','fortran_order':False,'shape':(1<<9,)}".ljust(64),
        b"\x08\x08\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    ],
    ids=["BINBYTES8", "BINBYTES", "negative", "R vector", "npy header", "npy shape", "onnx"],
)
def test_a_length_that_is_claimed_costs_nothing(tmp_path, content):
    tracemalloc.start()
    scan = scan_artefact(write(tmp_path / "m.pkl", content))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert scan.outcome == "unread"
    assert peak < 8 * MEBIBYTE


def test_deep_nesting_is_no_recursion_error(tmp_path):
    lists = b"\x80\x04" + b"]" * 50_000 + b"a" * 49_999 + b"."
    pairs = R.file(struct.pack(">i", 2) * 5000)
    messages = b"x"
    for _ in range(100):
        messages = string(6, string(1, b"a") + messages)
    files = {
        "l.pkl": lists,
        "p.rds": pairs,
        "j.json": b"[" * 100_000,
        "n.npy": b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 10_000,
        "o.onnx": onnx(nodes=messages),
    }
    for name, content in files.items():
        assert scan_artefact(write(tmp_path / name, content)).size == len(content)


def test_a_value_that_holds_itself_ends(tmp_path):
    loop: dict[str, object] = {"age": []}
    loop["self"] = loop
    assert scan_artefact(write(tmp_path / "m.pkl", pickle.dumps(loop))).outcome == "clean"


def test_encrypted_and_foreign_archives_are_not_called_clean(tmp_path):
    content = bytearray(zipped({"a.pkl": pickle.dumps(table())}))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    assert "is encrypted" in scan_artefact(write(tmp_path / "e.zip", bytes(content))).faults[0]
    assert "lz4" in scan_artefact(write(tmp_path / "m.lz4", b"\x04\x22\x4d\x18" + bytes(50))).faults[0]


def test_one_bad_artefact_does_not_hide_the_others(tmp_path):
    files = [
        tmp_path / "absent.pt",
        write(tmp_path / "bad.zip", b"PK\x03\x04" + bytes(20)),
        write(tmp_path / "empty.pkl", b""),
        torch_zip(tmp_path / "m.pt", table()),
    ]
    outcomes = [scan.outcome for scan in scan_artefacts(files)]
    assert outcomes == ["unread", "unread", "clean", "found"]


def test_a_folder_is_scanned_without_following_links(tmp_path):
    inside = tmp_path / "release"
    inside.mkdir()
    write(inside / "m.pkl", pickle.dumps(table()))
    (inside / "loop").symlink_to(inside)
    (inside / "out").symlink_to(write(tmp_path / "secret.pkl", pickle.dumps(table())))
    assert [scan.path.name for scan in scan_artefacts([inside])] == ["m.pkl"]
