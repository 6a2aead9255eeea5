"""What an exported program (``.pt2``) would make PyTorch do when loaded, read before it is loaded.

``torch.export.load`` unpickles what the archive calls pickled, evaluates its shape expressions as Python, and
loads native code that lies in it. ``faults_of`` names each such thing: pickles that need more than
``weights_only``, operators outside ``torch.ops``, shape expressions that are more than arithmetic, native
code. Without them loading builds a graph of PyTorch's own operators and nothing else.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import torch

OPERATORS = re.compile(r"torch\.ops\.[A-Za-z0-9_.]+|_operator\.[a-z_]+|math\.[a-z0-9_]+|torch\.sym_[a-z_]+")
DANGEROUS = frozenset({"_operator.attrgetter", "_operator.methodcaller", "_operator.call"})
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
SYMBOL = re.compile(r"[a-z]{1,4}[0-9]+")
WRITTEN_SYMBOL = re.compile(r"Symbol\('[a-z]{1,4}[0-9]+'(, [a-z]+=(True|False))*\)")
ARITHMETIC = re.compile(r"[A-Za-z0-9_+\-*/().,<>=&|~ ]*")
FUNCTIONS = frozenset(
    {"Max", "Min", "Mod", "PythonMod", "FloorDiv", "CleanDiv", "CeilDiv", "ModularIndexing", "Pow", "Abs"}
    | {
        "Eq",
        "Ne",
        "Lt",
        "Le",
        "Gt",
        "Ge",
        "Or",
        "And",
        "Not",
        "Where",
        "TruncToInt",
        "ToFloat",
        "PowByNatural",
    }
    | {"IntTrueDiv", "FloatTrueDiv", "FloatPow", "RoundToInt", "FloorToInt", "CeilToInt", "Identity"}
    | {"Integer", "Rational", "Float", "Add", "Mul", "int_oo", "oo", "true", "false", "True", "False"}
)
LARGEST_JSON = 256 * 2**20


def faults_of(content: bytes) -> list[str]:
    """Return everything in an archive that loading would execute or unpickle; empty where it is sound.

    Raises:
        ValueError, KeyError: for archives that are none.
    """
    faults: list[str] = []
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for entry in archive.infolist():
            name = entry.filename.partition("/")[2]
            if name.startswith("data/aotinductor/") or name.endswith((".so", ".dll", ".dylib", ".cubin")):
                faults.append(f"native code ({name})")
            elif name.endswith(".pt") and entry.file_size:
                faults += _pickle_faults(name, archive.read(entry))
            elif name.endswith(".json"):
                if entry.file_size > LARGEST_JSON:
                    raise ValueError(f"{name} is too large")
                faults += _json_faults(name, json.loads(archive.read(entry)))
    return list(dict.fromkeys(faults))


def _pickle_faults(name: str, content: bytes) -> Iterator[str]:
    try:
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:
        yield f"a pickle that is more than tensors ({name})"


def _json_faults(name: str, value: Any) -> Iterator[str]:
    """Yield what a description of graph or weights asks for besides PyTorch's own operators."""
    for key, found in _pairs(value):
        if key == "use_pickle" and found:
            yield f"pickled weights ({name})"
        elif key == "target" and isinstance(found, str) and not _is_operator(found):
            yield f"a call of {found[:80]!r}, which is no operator"
        elif key == "expr_str" and isinstance(found, str) and not _is_arithmetic(found):
            yield f"a shape {found[:80]!r}, which is more than arithmetic"
        elif key == "path_name" and isinstance(found, str) and "opaque" in found:
            yield f"a pickled object ({found[:80]})"
        elif key in {"source_fn_stack", "as_operator"} and isinstance(found, str) and "__" in found:
            yield f"a reference to {found[:80]!r}"


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key and value of nested mappings and lists."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield from one.items()
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _is_operator(target: str) -> bool:
    return bool(OPERATORS.fullmatch(target)) and target not in DANGEROUS and "__" not in target


def _is_arithmetic(expression: str) -> bool:
    plain = WRITTEN_SYMBOL.sub("s0", expression)
    words = WORD.findall(plain)
    return bool(ARITHMETIC.fullmatch(plain)) and all(
        word in FUNCTIONS or SYMBOL.fullmatch(word) for word in words
    )
