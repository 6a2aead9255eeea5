"""Which reader fits a file, and archives within archives: a file's first bytes say what it is."""

import posixpath
import re
import tarfile
from collections.abc import Callable
from functools import partial

import numpy as np

from privoxel.scan.archives import scan_tar, scan_zip
from privoxel.scan.collector import Collector
from privoxel.scan.compressed import FOREIGN, compression_of, spool, unpack
from privoxel.scan.hdf5_files import MAGIC as HDF5
from privoxel.scan.hdf5_files import scan_hdf5
from privoxel.scan.limits import UnreadableError
from privoxel.scan.numpy_files import MAGIC as NPY
from privoxel.scan.numpy_files import scan_npy
from privoxel.scan.onnx_files import looks_like_onnx, scan_onnx
from privoxel.scan.opcodes import opcodes
from privoxel.scan.pickles import scan_pickles
from privoxel.scan.rdata import r_header, scan_rdata
from privoxel.scan.safetensors_files import looks_like_safetensors, scan_safetensors
from privoxel.scan.skops_files import SCHEMA, scan_schema
from privoxel.scan.tensors import Storages
from privoxel.scan.texts import is_text, scan_binary, scan_text
from privoxel.scan.window import Window

ZIP, TAR_AT = b"PK\x03\x04", 257
EMPTY_ZIP = b"PK\x05\x06"
STORAGE = re.compile(r"(?:.*/)?data/(\d+)")
NUMBERS = re.compile(r"torch\.(?:\w+\.)*(?:Float|Double|Half|BFloat16|ComplexFloat|ComplexDouble)Storage")
PICKLE_NAMES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".bin", ".p")
FIRST_OPCODES = b"(]}lcd"
HEAD = 4096
PACKED_SAMPLE = 1 << 16
MOST_EVEN = 7.98
"""Bits a byte; 64 KiB of random bytes have 7.997, of float32 weights about 7.3."""


def form_of(window: Window, name: str) -> str:
    """Return the format of a file by its first bytes; its name decides only where these leave it open."""
    head = window.peek(HEAD)
    by_magic = {NPY: "npy", ZIP: "zip", EMPTY_ZIP: "zip", HDF5: "hdf5"}
    by_magic |= {magic: f"packed by {packer}" for magic, packer in FOREIGN.items()}
    found = next((form for magic, form in by_magic.items() if head.startswith(magic)), "")
    if found:
        return found
    by_look: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("rdata", lambda: r_header(head) is not None),
        ("safetensors", lambda: looks_like_safetensors(window)),
        ("tar", lambda: head[TAR_AT : TAR_AT + 5] == b"ustar"),
        ("pickle", lambda: _is_pickle(window, head, name)),
        ("compressed", lambda: compression_of(head) is not None and not is_text(head)),
        ("onnx", lambda: looks_like_onnx(window) or name.lower().endswith(".onnx")),
        ("text", lambda: is_text(head)),
        ("tar", lambda: _is_old_tar(head)),
    )
    return next((form for form, fits in by_look if fits()), "binary")


def _is_pickle(window: Window, head: bytes, name: str) -> bool:
    """Return whether it begins as a pickle; the oldest protocols have no mark, so their name must say so."""
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return True
    if head[:1] not in [bytes([byte]) for byte in FIRST_OPCODES] or not name.lower().endswith(PICKLE_NAMES):
        return False
    probe = Window(window.file, window.start, window.end)
    try:
        for number, _ in enumerate(opcodes(probe)):
            if number == 8:
                return True
    except UnreadableError:
        return False
    return True


def looks_packed(sample: bytes) -> bool:
    """Return whether bytes are as even as those of packed or encrypted data, which weights never are."""
    if len(sample) < PACKED_SAMPLE:
        return False
    shares = np.bincount(np.frombuffer(sample, np.uint8), minlength=256) / len(sample)
    return bool(-np.sum(shares * np.log2(np.maximum(shares, 1e-12))) > MOST_EVEN)


def _is_old_tar(head: bytes) -> bool:
    """Return whether a header without ``ustar`` has the right checksum, as archives before POSIX do."""
    if len(head) < tarfile.BLOCKSIZE:
        return False
    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def scan_file(window: Window, name: str, collector: Collector, depth: int = 0) -> str:
    """Report everything in a file, whatever it is, and return its format.

    What cannot be read becomes a fault of the file, with the strings that stand in its bytes.

    Raises:
        ScanStoppedError: if a limit of the whole scan is reached.
    """
    form = form_of(window, name)
    try:
        return _scan_form(form, window, name, collector, depth)
    except (UnreadableError, RecursionError, ArithmeticError, LookupError, ValueError, TypeError) as error:
        said = str(error) if isinstance(error, UnreadableError) else f"it is damaged ({type(error).__name__})"
        collector.fault(f"{said}; strings were looked for instead")
        if form not in ("binary", "text"):
            scan_binary(Window(window.file, window.start, window.end), collector)
    return form


def _scan_form(form: str, window: Window, name: str, collector: Collector, depth: int) -> str:
    """Report everything in a file of a known format; return it, and that of what a compressed file holds."""
    readers: dict[str, Callable[[Window, Collector], object]] = {
        "pickle": scan_pickles,
        "safetensors": scan_safetensors,
        "hdf5": scan_hdf5,
        "rdata": scan_rdata,
        "onnx": scan_onnx,
        "text": scan_text,
        "npy": partial(scan_npy, name=posixpath.basename(name).removesuffix(".npy")),
    }
    if form in readers:
        readers[form](window, collector)
    elif form in ("zip", "tar", "compressed"):
        if depth >= collector.budget.limits.depth:
            raise UnreadableError(f"archives are nested deeper than {collector.budget.limits.depth}")
        if form == "compressed":
            return _scan_compressed(window, name, collector, depth)
        _scan_archive(form, window, collector, depth)
    elif form == "binary":
        scan_binary(window, collector)
        if not collector.member:
            collector.note("its format is not known; only strings were looked for")
        if looks_packed(window.read_at(window.start, PACKED_SAMPLE)):
            raise UnreadableError("its bytes look encrypted, or compressed in a way not known here")
    else:
        raise UnreadableError(f"it is {form}, which is not read here. Unpack it first")
    return form


def _scan_compressed(window: Window, name: str, collector: Collector, depth: int) -> str:
    kind = compression_of(window.peek(8)) or ""
    with spool() as out:
        wrong = unpack(window, kind, collector.budget, out)
        inner = re.sub(r"\.(gz|bz2|xz|z|lzma)$", "", name, flags=re.IGNORECASE)
        form = scan_file(Window(out), inner, collector, depth + 1)
    if wrong:
        collector.fault(wrong)
    return f"{form} in {kind}"


def _scan_archive(form: str, window: Window, collector: Collector, depth: int) -> None:
    """Scan the members of an archive; raw numbers that a PyTorch pickle declares are passed over.

    Members that say what others hold come first: the pickle of a PyTorch file, the schema of a skops file.
    """
    storages = Storages()
    names: dict[str, str] = {}

    def visit(member: Window, inner: str) -> None:
        outer = collector.member
        collector.member = f"{outer}!{inner}" if outer else inner
        try:
            storage = STORAGE.fullmatch(inner)
            if storage is not None and storages.is_wanted(storage.group(1)):
                storages.read(storage.group(1), member, collector)
            elif inner.endswith("data.pkl") and form_of(member, inner) == "pickle":
                _scan_tensors(member, collector, storages)
            else:
                if posixpath.basename(inner) == SCHEMA:
                    names.update(_names_of_arrays(member, inner, collector))
                scan_file(member, names.get(inner, inner), collector, depth + 1)
        finally:
            collector.member = outer

    def holds_numbers(inner: str) -> bool:
        storage = STORAGE.fullmatch(inner)
        if storage is None or storages.is_wanted(storage.group(1)):
            return False
        return bool(NUMBERS.fullmatch(storages.types.get(storage.group(1), "")))

    if form == "zip":
        scan_zip(window, collector, visit, order=_telling_first, skip=holds_numbers)
    else:
        scan_tar(window, collector, visit)


def _telling_first(inner: str) -> int:
    """Sort members that say what others hold before them."""
    return 0 if inner.endswith("data.pkl") or posixpath.basename(inner) == SCHEMA else 1


def _scan_tensors(member: Window, collector: Collector, storages: Storages) -> None:
    """Scan the pickle of a PyTorch file, which says what its storages are."""
    try:
        scan_pickles(member, collector, storages)
    except UnreadableError as error:
        collector.fault(str(error))


def _names_of_arrays(member: Window, inner: str, collector: Collector) -> dict[str, str]:
    """Return what the arrays of a skops file are called, by their file."""
    try:
        return scan_schema(member, inner, collector)
    except UnreadableError as error:
        collector.fault(str(error))
        return {}
