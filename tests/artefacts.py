"""Model files made in the test, with and without records of people. Nobody in them is real."""

import base64
import gzip
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

AGES = [61.5, 47.25, 70.0, 55.5, 66.0, 49.75, 58.5, 73.25, 64.0, 52.0]
PEOPLE = [f"sub-{number:03d}" for number in range(10)]


class Evil:
    """An object whose pickle would run a command, were it loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        import os  # noqa: PLC0415 - the pickle imports it

        return os.system, (f"touch {self.marker}",)


def table() -> dict[str, Any]:
    """Return a training table as people put it beside a model."""
    return {"participant_id": PEOPLE, "age": AGES, "sex": ["F", "M"] * 5}


def weights() -> "OrderedDict[str, np.ndarray]":
    """Return the weights of a small network, as NumPy arrays."""
    rng = np.random.default_rng(0)
    return OrderedDict((f"conv{k}.weight", rng.standard_normal((8, 4)).astype(np.float32)) for k in range(3))


def string(number: int, text: bytes) -> bytes:
    """Return a length-delimited field of a protocol buffer."""
    return varint(number << 3 | 2) + varint(len(text)) + text


def varint(value: int) -> bytes:
    """Return an integer as protocol buffers write it."""
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def onnx(*, nodes: bytes = b"", tensors: bytes = b"", extra: bytes = b"") -> bytes:
    """Return an ONNX model: version, producer, a graph, and what else is given."""
    graph = nodes + string(2, b"main") + tensors
    return varint(1 << 3) + varint(8) + string(2, b"pytorch") + string(7, graph) + extra


def onnx_tensor(name: bytes, values: list[float], *, more: bytes = b"") -> bytes:
    """Return an initialiser of float32 values, as a field of a graph."""
    raw = struct.pack(f"<{len(values)}f", *values)
    dims = varint(1 << 3) + varint(len(values))
    return string(5, dims + varint(2 << 3) + varint(1) + string(8, name) + string(9, raw) + more)


class R:
    """Writes R's XDR serialisation, item by item, as ``serialize.c`` does."""

    NIL = struct.pack(">i", 254)

    @staticmethod
    def chars(text: str) -> bytes:
        return struct.pack(">ii", 0x40009, len(text)) + text.encode()

    @classmethod
    def strings(cls, texts: list[str]) -> bytes:
        return struct.pack(">ii", 16, len(texts)) + b"".join(map(cls.chars, texts))

    @staticmethod
    def reals(values: list[float]) -> bytes:
        return struct.pack(f">ii{len(values)}d", 14, len(values), *values)

    @classmethod
    def pair(cls, name: str, value: bytes) -> bytes:
        return struct.pack(">i", 2 | 0x400) + struct.pack(">i", 1) + cls.chars(name) + value

    @classmethod
    def list_of(cls, named: dict[str, bytes], *, more: dict[str, bytes] | None = None) -> bytes:
        """Return a named list with further attributes."""
        flags = 19 | 0x200 | (0x100 if more else 0)
        attributes = cls.pair("names", cls.strings(list(named)))
        attributes += b"".join(cls.pair(name, value) for name, value in (more or {}).items())
        return struct.pack(">ii", flags, len(named)) + b"".join(named.values()) + attributes + cls.NIL

    @classmethod
    def frame(cls, named: dict[str, bytes]) -> bytes:
        return cls.list_of(named, more={"class": cls.strings(["data.frame"])})

    @staticmethod
    def file(item: bytes, *, magic: bytes = b"") -> bytes:
        header = magic + b"X\n" + struct.pack(">iiii", 3, 0x40301, 0x30500, 5) + b"UTF-8"
        return header + item


def torch_zip(path: Path, content: Any, *, protocol: int = 2) -> Path:
    """Write what looks like a PyTorch file: a zip with ``data.pkl`` and one storage."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content, protocol=protocol))
        archive.writestr("archive/data/0", np.arange(100, dtype=np.float32).tobytes())
        archive.writestr("archive/version", "3\n")
    return path


def unpacked(text: str) -> bytes:
    """Return a file that was packed into text."""
    return gzip.decompress(base64.b85decode(text.replace("\n", "").encode()))


H5PY_FILE = unpacked(
    r"""
ABzY8000000t4-uzi-n(6vyxEx;>>-xN3*~SgcHz5RHc-0SiHGsMVitVPK+-$Tcx)nutWDKZMi?m5l)*#w?Zi15oFTEM3aR)B*mE
VBfuSV$(zj5NhFlJbd-uozM33yF2;Guie=PL#c@r31N)%5tDS%0vso9tM(003VH<kK~sKRw2gt^gz@bGX_vtNXf2lud$$s(>zo@>
ZG!xdxVigYsE@(E4f;uo_p4Ove%asW&(~jYzgVi*z@IO2p*6lM)GyRxd24mKE)_>Re}^G|T^;h*=*(ZzHGdJz-_HDHYP~d)`6luH
&~+a!ugub5Rgdy}tapD$&4-EJ{nY(idi=hV^FpoH=J?fqe`?+*_qS`rh36k4qd`>4l>*;de_Gkz^oyZ?oKkV78O4bGxbCoc4F4u`
Gb@Xfzztro9v-A?`5j(J-?h@2Ql-o@&+^+mBc5`qx|e>b#%W&1IgTI*f*=TjAP9mWmlaA3`OQz2Eek}HN=FL%Db<7auw~e~2W5*a
nI0t5EvWk#fj4Z|G))Y^U_70wl0vewb#%q!VT!IMBT+nh$HD6ohc}lrKl*#dL)G`}C?4{;N2rWP6bD_#VK7JoD$ZBqF;QVJ@Xf7!
os&KoCyJM*sj+R+E;|NPaq=Pvg8VMcWw~iJ=A<63N^LHH?MXd%rDm6;dTUwO%RuL|?R_J;kNldw`{c&d(%CJ?*|7URzw*AY`N<i7
#4e|fPa7ZaygfNQd*|(ceLp~szpb9)n?w)<L6Dy!{BMa~@Za6dF8v!;+_t0dH3UHr1VR2)z5_G=vav8Q000
"""
)
"""A file by h5py 3.16: an optimiser group, a path, columns age and sex, and ids in a compressed chunk."""

ONNX_FILE = unpacked(
    r"""
ABzY8000000t4gVvwF$IWy8f-!Nr}NpI4?=o|>7SQ6j`xsl*&ynq;KpmYI{PproIXpPQ<mm6(^RUs9BqnWtA!sidQjlbM&QU@XL#
u4T!=%)u<c=!9&BmkPg6(Ed9Q4%^Rq@xo5Ly=kA1Y}7vG&`JBv8hiF9n*`W<MC`KDis9fA;C5n3OiwNL3Sa<%1AY!*dVxEHZU}_X
2fU&D00{lS1429aLg;`X2+aVMXYg{+N(P$FVZ>fsnxt!BU;twn!Wc#{hB1s`0%MrM7-lerIgDWeV^}&dXQmWK2?K*qh>wehgHecs
i;067gp+`RmFR*_Oad|ho2#e<asdDU
"""
)
"""A model by onnx 1.23: a path in a node, ages and ids among its initialisers."""

RDS_FILE = unpacked(
    r"""
ABzY8000000t1WSVqjokVqjus0AmJbVGsetd_c_Q;CFxl1RUHKK<K~*2<;6O4}kJL9zbYc2M8S$0F`He&|VBMAOJF#frWt+NV6B0
Cg~a&7@%?uQMpE_Tw_$O2`bkVm1~B|HAm%IpmHtIT*v4JWB5`{gn@+##DEHLrX-dm<|HPi=0L56Nid)(WX(&=O)Z8hVulJbC#I)D
nM|1}Fu~%~3N+1JWr;<4U|Y~lV8Ec!tWC~IEG|ZK8yCpYdTB*K7omHnD8F0}*`@H1gheSMEHW8k(Z~pkKt@>9F~TB^5f)vHu!v%`
g!$Ld07(7=0IX+Nv%LZU00
"""
)
"""A data frame with age, id and sex by pyreadr 0.5."""
