"""What a pickle imports: code that is dangerous, code of known libraries, and the rest."""

DANGEROUS_MODULES = frozenset(
    [
        "os",
        "posix",
        "nt",
        "subprocess",
        "sys",
        "socket",
        "shutil",
        "pty",
        "commands",
        "runpy",
        "importlib",
        "ctypes",
        "pickle",
        "_pickle",
        "dill",
        "cloudpickle",
        "marshal",
        "types",
        "code",
        "codeop",
        "webbrowser",
        "http",
        "urllib",
        "requests",
        "ftplib",
        "smtplib",
        "asyncio",
        "multiprocessing",
        "threading",
        "signal",
        "tempfile",
        "pathlib",
        "pip",
        "timeit",
        "pdb",
        "bdb",
        "cProfile",
        "profile",
        "trace",
        "site",
        "platform",
        "zipimport",
        "imp",
        "builtins",
        "__builtin__",
        "operator",
        "functools",
    ]
)
HARMLESS = frozenset(
    [
        "builtins.object",
        "builtins.set",
        "builtins.frozenset",
        "builtins.list",
        "builtins.dict",
        "builtins.tuple",
        "builtins.int",
        "builtins.float",
        "builtins.complex",
        "builtins.bool",
        "builtins.str",
        "builtins.bytes",
        "builtins.bytearray",
        "builtins.slice",
        "builtins.range",
        "builtins.type",
        "builtins.super",
        "__builtin__.object",
        "__builtin__.set",
        "__builtin__.frozenset",
        "__builtin__.list",
        "__builtin__.dict",
        "__builtin__.tuple",
        "__builtin__.int",
        "__builtin__.float",
        "__builtin__.long",
        "__builtin__.bool",
        "__builtin__.unicode",
        "__builtin__.str",
        "__builtin__.bytearray",
        "__builtin__.slice",
        "__builtin__.range",
        "__builtin__.xrange",
        "functools.partial",
        "types.SimpleNamespace",
        "pathlib.Path",
        "pathlib.PosixPath",
        "pathlib.WindowsPath",
        "pathlib.PurePosixPath",
        "operator.itemgetter",
    ]
)
DANGEROUS_NAMES = frozenset(
    [
        "torch.load",
        "torch.hub.load",
        "torch.jit.load",
        "numpy.load",
        "joblib.load",
        "pandas.read_pickle",
        "numpy.testing._private.utils.runstring",
        "torch.serialization.load",
        "torch._dynamo.guards.GuardBuilder.get",
    ]
)
DANGEROUS_PREFIXES = (
    "numpy.testing.",
    "numpy.distutils.",
    "numpy.f2py.",
    "torch.hub.",
    "torch.utils.cpp_extension.",
    "torch.utils.model_zoo.",
    "torch._inductor.",
    "torch._dynamo.",
    "torch.distributed.",
    "torch.multiprocessing.",
    "pandas.core.computation.",
    "pandas.io.",
    "scipy.io.",
    "joblib.externals.",
    "sklearn.externals.",
    "keras.utils.",
    "tensorflow.io.",
    "tensorflow.python.",
)
"""Parts of known libraries that start processes, compile, fetch or load again, and no model needs."""

LIBRARIES = frozenset(
    [
        "torch",
        "numpy",
        "sklearn",
        "scipy",
        "pandas",
        "collections",
        "copyreg",
        "copy_reg",
        "_codecs",
        "joblib",
        "datetime",
        "torchvision",
        "monai",
        "pytorch_lightning",
        "lightning",
        "lightning_fabric",
        "tensorflow",
        "keras",
        "xgboost",
        "lightgbm",
        "catboost",
        "builtins",
        "__builtin__",
        "functools",
        "types",
        "pathlib",
        "operator",
        "fractions",
        "decimal",
        "uuid",
        "argparse",
        "omegaconf",
        "typing",
        "enum",
        "nibabel",
        "nilearn",
        "transformers",
        "timm",
        "safetensors",
        "skops",
        "statsmodels",
    ]
)


def is_dangerous(name: str) -> bool:
    """Return whether loading a pickle that imports ``module.name`` may run arbitrary code.

    >>> is_dangerous("posix.system"), is_dangerous("collections.OrderedDict")
    (True, False)
    """
    if name in HARMLESS:
        return False
    if name in DANGEROUS_NAMES or name.startswith(DANGEROUS_PREFIXES):
        return True
    return name.split(".", 1)[0] in DANGEROUS_MODULES


def library_of(name: str) -> str | None:
    """Return the library that ``module.name`` belongs to, None where it is not a known one."""
    root = name.split(".", 1)[0]
    return root if root in LIBRARIES else None
