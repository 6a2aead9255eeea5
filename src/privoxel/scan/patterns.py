"""What gives a person away in a string: identifiers of studies, e-mail addresses, paths. And redaction.

Every pattern starts only at the beginning of a token and has bounded repeats, so that no input makes it slow.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from privoxel.scan.findings import Kind

ENDS = r"(?![A-Za-z0-9])"
BEGINS = r"(?<![A-Za-z0-9])"
STARS = "***"


class Pattern(NamedTuple):
    """A pattern, what it finds, how that is redacted, and how many different ones make a finding."""

    kind: Kind
    what: str
    regex: re.Pattern[str]
    redact: Callable[[str], str]
    fewest: int = 1


class Hit(NamedTuple):
    """One match: its pattern, where it begins in the text, and the matched text."""

    pattern: Pattern
    start: int
    text: str


def keep(count: int) -> Callable[[str], str]:
    """Return a redaction that keeps the first ``count`` characters."""
    return lambda text: text[:count] + STARS


def redact_email(text: str) -> str:
    """Return an address with everything but its last label replaced.

    >>> redact_email("jane.doe@clinic.example.org")
    '***@***.org'
    """
    return f"{STARS}@{STARS}.{text.rsplit('.', 1)[-1]}"


def redact_path(text: str) -> str:
    r"""Return a path's first folder and its last suffix.

    >>> redact_path("/home/jane/study/sub-01_T1w.nii.gz")
    '/home/***.nii.gz'
    """
    head = re.match(r"(?:[A-Za-z]:)?[\\/]+[A-Za-z]{1,12}[\\/]+", text)
    tail = re.search(r"(?:\.nii\.gz|\.[A-Za-z0-9]{1,5})$", text)
    return f"{head.group() if head else ''}{STARS}{tail.group() if tail else ''}"


def _identifier(what: str, regex: str, kept: int, *, fewest: int = 1, flags: int = 0) -> Pattern:
    return Pattern(Kind.IDENTIFIER, what, re.compile(regex, flags), keep(kept), fewest)


PATTERNS = (
    _identifier("BIDS participant", BEGINS + r"sub-(?=[A-Za-z]{0,16}\d)[A-Za-z0-9]{1,32}", 4),
    _identifier("ADNI participant", r"(?<!\d)\d{3}_S_\d{4}(?!\d)", 0),
    _identifier("IXI participant", BEGINS + r"IXI\d{3}(?!\d)", 3),
    _identifier("OASIS participant", BEGINS + r"OAS[123]_?\d{4}(?!\d)", 4),
    _identifier("ABIDE participant", r"(?<![\d.])005\d{4}(?![\d.])", 3, fewest=3),
    _identifier("UK Biobank file", r"(?<!\d)[1-6]\d{6}_2\d{4}_\d_\d(?!\d)", 0),
    _identifier("seven-digit number, as a UK Biobank eid", r"(?<![\w.#+-])[1-6]\d{6}(?![\w.])", 0, fewest=5),
    _identifier("NDA participant", BEGINS + r"NDAR_?INV[A-Z0-9]{8}" + ENDS, 4),
    _identifier("Cam-CAN participant", BEGINS + r"CC\d{6}(?!\d)", 2, fewest=2),
    _identifier("HCP participant", BEGINS + r"(?:HC[ADY]\d{7}|\d{6}_(?:3T|7T|V\d_MR))" + ENDS, 0),
    _identifier(
        "participant number",
        BEGINS + r"(?:subject|subj|participant|patient|proband|volunteer)[-_ ]?\d{2,8}" + ENDS,
        4,
        flags=re.IGNORECASE,
    ),
    _identifier("DICOM unique identifier", r"(?<![\d.])1\.[23]\.\d{1,10}(?:\.\d{1,20}){5,12}(?![\d.])", 4),
    Pattern(
        Kind.EMAIL,
        "e-mail address",
        re.compile(
            r"(?<![A-Za-z0-9._%+-])(?!git@)[A-Za-z0-9._%+-]{2,64}@[A-Za-z0-9-]{3,63}"
            r"(?:\.[A-Za-z0-9-]{2,63}){0,3}\.[A-Za-z]{2,12}" + ENDS
        ),
        redact_email,
    ),
    Pattern(
        Kind.CODE,
        "Keras Lambda layer: code within the model",
        re.compile(r"\"class_name\":\s{0,4}\"Lambda\""),
        keep(0),
    ),
    Pattern(
        Kind.PATH,
        "path in a home folder",
        re.compile(
            r"(?<![\w.])(?:/home/|/Users/|/root/|[A-Za-z]:\\{1,2}Users\\{1,2}|[A-Za-z]:/Users/)"
            r"[^\s\"'<>|:]{1,300}"
        ),
        redact_path,
    ),
    Pattern(
        Kind.PATH,
        "path of data storage",
        re.compile(
            r"(?<![\w./])/(?:mnt|data|scratch|gpfs|lustre|projects?|work|media|nfs|storage|export|Volumes)"
            r"(?:/[\w.+-]{1,100}){2,20}"
        ),
        redact_path,
    ),
    Pattern(
        Kind.PATH,
        "image file",
        re.compile(
            r"(?<![^\s\"'<>|:,;=()\[\]])"
            r"(?![^\s\"'<>|:,;=()\[\]]{0,200}(?:MNI|mni|ICBM|icbm|template|Template|atlas))"
            r"[^\s\"'<>|:,;=()\[\]]{1,200}\.(?:nii\.gz|nii|mgz|mgh|dcm|mnc|nrrd)" + ENDS
        ),
        redact_path,
    ),
)


_PROMISING = re.compile(r"[\d@/\\.]|Lambda")


def hits(text: str) -> Iterator[Hit]:
    """Yield everything in ``text`` that a pattern matches; all need a digit, a dot, a slash or an @."""
    if not _PROMISING.search(text):
        return
    for pattern in PATTERNS:
        for match in pattern.regex.finditer(text):
            yield Hit(pattern, match.start(), match.group())


def redacted(text: str) -> str:
    """Return ``text`` with everything that a pattern matches replaced, for names of files and keys.

    >>> redacted("data/sub-0042_T1w.npy")
    'data/sub-***_T1w.npy'
    """
    for hit in sorted(hits(text), key=lambda hit: -len(hit.text)):
        text = text.replace(hit.text, hit.pattern.redact(hit.text))
    return text
