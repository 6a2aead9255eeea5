"""Names of people and files: BIDS entities, the prefixes of pipelines, and ids that would lead elsewhere."""

import re
from collections.abc import Iterable

from privoxel.cohort.base import ScanId

PREFIX = re.compile(r"^(?P<letters>[a-z]+[0-9]?_?)(?=sub-)")
"""What CAT12 and SPM put before the name of the scan: wm, mwp1, p0, y_."""
ENTITY = re.compile(r"(?:^|_)([a-zA-Z]+)-([a-zA-Z0-9]+)(?=_)")
NUMBER = re.compile(r"([0-9]+)")
ID_REMEDY = "Name the person by letters and digits in the columns participant_id and session"


def entities_of(name: str) -> dict[str, str]:
    """Return the BIDS entities of a file name: {"sub": "01", "space": "MNI152NLin2009cAsym"}.

    CAT12 writes its steps before the name; w stands for warped, to MNI152:

    >>> entities_of("wmsub-01_ses-2_T1w.nii")
    {'sub': '01', 'ses': '2', 'space': 'MNI152'}
    """
    steps = prefix_of(name)
    found = dict(ENTITY.findall(name.removeprefix(steps)))
    return {**found, "space": "MNI152"} if steps.startswith(("w", "mw")) and "space" not in found else found


def prefix_of(name: str) -> str:
    """Return what stands before the entities of a file name, "" in BIDS.

    >>> prefix_of("mwp1sub-01_T1w.nii"), prefix_of("sub-01_T1w.nii")
    ('mwp1', '')
    """
    match = PREFIX.match(name)
    return match["letters"] if match else ""


def id_fault(scan: ScanId) -> tuple[str, str] | None:
    """Return what is wrong if an id leads to another folder, as scripts may take it, and what to do.

    >>> id_fault(ScanId("../7", ""))[0], id_fault(ScanId("NDAR..7", ""))
    ('has an id that is a path to another folder', None)
    """
    for text in (scan.participant, scan.session):
        if leaves_folder(text):
            return "has an id that is a path to another folder", ID_REMEDY
    return None


def natural_order(text: str) -> tuple[tuple[int, str], ...]:
    """Return what sorts labels as people count: their numbers as numbers, their words by the alphabet.

    >>> sorted(["10", "2", "m12", "m6", "baseline"], key=natural_order)
    ['2', '10', 'baseline', 'm6', 'm12']
    """
    parts = NUMBER.split(text)  # words and numbers take turns
    numbers = [part.lstrip("0") for part in parts[1::2]]
    key = [(0, part.casefold()) for part in parts]
    key[1::2] = [(len(number), number) for number in numbers]
    return (*key, (0, text))


def are_numbered(labels: Iterable[str]) -> bool:
    """Return whether labels differ by their numbers alone, which then tell their order.

    >>> are_numbered(["v2", "v10"]), are_numbered(["pre", "post"])
    (True, False)
    """
    return len({NUMBER.sub("", text) for text in labels}) < 2


def leaves_folder(text: str) -> bool:
    """Return whether a text, taken as a path, would lead out of the folder it is put in."""
    return text.startswith("/") or ".." in text.replace("\\", "/").split("/")
