"""Which raw scans a BIDS dataset holds, and where their derivative may go."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from privoxel.cohort.images import find_images
from privoxel.cohort.links import link_fault
from privoxel.cohort.nifti import head_fault
from privoxel.cohort.tables import Found, label
from privoxel.errors import ConfigError, Problem, StoreError
from privoxel.prepare.scan import RawScan

SHOWN = 8


class RawScans(NamedTuple):
    """Scans to prepare, and those that their names or headers rule out."""

    scans: tuple[RawScan, ...]
    problems: tuple[Problem, ...]


def find_scans(
    folder: Path,
    *,
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
    root: Path | None = None,
) -> RawScans:
    """Return the raw T1w scans of a BIDS dataset, sorted; all runs and acquisitions of the wanted sessions.

    Args:
        folder: the dataset; its derivatives are not looked into.
        participants: labels, with or without "sub-"; empty for all.
        sessions: labels, with or without "ses-"; empty for all.
        root: a further folder that links may lead to.

    Raises:
        ConfigError: if the folder is not there, a label is in none of the names, or nothing is left.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"Preparing needs a BIDS folder, got {folder}, which is not there. Correct the path."
        )
    wanted = {label(name, "sub") for name in participants}
    there = {label(path.name, "sub") for path in folder.glob("sub-*")}
    _check_labels("participant", wanted, there)
    chosen_sessions = {label(name, "ses") for name in sessions}
    allowed = [place.resolve() for place in (folder, *([root] if root else []))]
    found, scans = Found(), []
    for image in find_images(folder, found):
        scan = image.scan
        if (wanted and scan.participant not in wanted) or (
            chosen_sessions and scan.session not in chosen_sessions
        ):
            continue
        if {"space", "desc"} & set(image.entities) or image.path.parent.name != "anat":
            continue
        place = image.path.relative_to(folder).as_posix()
        fault = link_fault(image.path, allowed) or head_fault(image.path)
        if fault is not None:
            found.blame(place, fault.what, fault.remedy, scan.participant)
            continue
        stem = image.path.name.split("_T1w.nii")[0]
        scans.append(RawScan(image.path.absolute(), place, stem, scan.participant))
    problems = [p for p in found.problems if not wanted or p.participant in wanted]
    if not scans and not problems:
        raise ConfigError(
            "Preparing needs raw scans (sub-*/[ses-*/]anat/*_T1w.nii.gz without space- and desc-), got none "
            f"in {folder}. Name the raw dataset; prepared images need no preparing."
        )
    return _without_twins(scans, problems)


def check_output(raw: Path, folder: Path) -> None:
    """Raise unless the derivative lies outside the raw dataset, or among its derivatives.

    Raises:
        StoreError: if it does not.
    """
    inside, outside = folder.resolve(), raw.resolve()
    if inside == outside or outside.is_relative_to(inside):
        raise StoreError(
            f"The derivative needs a folder of its own, got {folder}, which holds the raw dataset."
        )
    if inside.is_relative_to(outside) and not inside.is_relative_to(outside / "derivatives"):
        raise StoreError(
            f"The derivative needs a place outside the raw dataset, got {folder}. "
            f"Choose one in {raw / 'derivatives'}, or elsewhere."
        )


def _check_labels(what: str, wanted: set[str], there: set[str]) -> None:
    absent = sorted(wanted - there)
    if absent:
        some = ", ".join(sorted(there)[:SHOWN]) + (", …" if len(there) > SHOWN else "")
        raise ConfigError(
            f"--{what}-label needs labels of the dataset, got {', '.join(absent)}. "
            f"Present are {some or 'none'}."
        )


def _without_twins(scans: Sequence[RawScan], problems: Sequence[Problem]) -> RawScans:
    """Leave out files that differ only in .nii and .nii.gz: their derivatives would bear the same name."""
    stems = [scan.stem for scan in scans]
    twins = [scan for scan in scans if stems.count(scan.stem) > 1]
    listed = [
        Problem(s.place, "is there as .nii and as .nii.gz", "Keep one of them", s.participant) for s in twins
    ]
    return RawScans(tuple(s for s in scans if s not in twins), (*problems, *listed))
