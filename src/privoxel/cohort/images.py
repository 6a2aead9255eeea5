"""T1w files by their names: those of a BIDS folder or of a plain one, and the best for each scan."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from privoxel.cohort.base import ScanId
from privoxel.cohort.names import entities_of, prefix_of
from privoxel.cohort.nifti import SUFFIXES
from privoxel.cohort.tables import Found, label
from privoxel.errors import printable

KNOWN_SPACES = ("MNI152NLin2009aSym", "MNI152NLin2009cAsym", "MNI152NLin6Asym")
"""Spaces in order of preference where a pipeline wrote a scan in several."""

CAT12_T1W = "wm"
"""Prefix of CAT12's intensity-normalised T1w images in MNI152 space."""


class Image(NamedTuple):
    """A T1w file and the entities of its name."""

    path: Path
    entities: Mapping[str, str]

    @property
    def scan(self) -> ScanId:
        """Participant, session and reconstruction, as the name says."""
        return ScanId(self.entities["sub"], self.entities.get("ses", ""), self.entities.get("rec", ""))

    @property
    def rank(self) -> tuple[bool, int, int]:
        """How well it suits: MNI152 space first, then the brain alone, then the better known space."""
        space = self.entities.get("space", "")
        known = KNOWN_SPACES.index(space) if space in KNOWN_SPACES else len(KNOWN_SPACES)
        described = {"brain": 2, "preproc": 1}.get(self.entities.get("desc", ""), 0)
        return space.startswith("MNI152"), described, -known


def is_plain(folder: Path) -> bool:
    """Return whether a folder holds NIfTI files themselves, and no folder of a participant."""
    return not any(folder.glob("sub-*/")) and any(plain_files(folder))


def plain_files(folder: Path) -> Iterator[Path]:
    """Yield the NIfTI files that lie in a folder themselves, sorted by name."""
    return (path for path in sorted(folder.iterdir()) if path.name.endswith(SUFFIXES))


def image_of(path: Path) -> Image:
    """Return a file with the entities of its name; without ``sub-`` the whole stem names the participant."""
    stem = path.name.split(".nii")[0]
    return Image(path, {"sub": printable(stem)} | entities_of(f"{stem}_"))


def find_images(folder: Path, found: Found) -> Iterator[Image]:
    """Yield the T1w files of sub-*/[ses-*/]anat, sorted by name, and of the mri folders that CAT12 adds."""
    for person in sorted(folder.glob("sub-*")):
        places = [*person.glob("anat"), *person.glob("mri"), *person.glob("anat/mri")]
        for anat in sorted(
            [*places, *(p for s in ("anat", "mri", "anat/mri") for p in person.glob(f"ses-*/{s}"))]
        ):
            inside = anat.relative_to(person).parts[0]
            session = label(inside, "ses") if inside.startswith("ses-") else ""
            yield from _images_in(anat, ScanId(label(person.name, "sub"), session), folder, found)


def _images_in(anat: Path, expected: ScanId, folder: Path, found: Found) -> Iterator[Image]:
    for path in sorted(anat.glob("*_T1w.nii*")):
        image = Image(path, entities_of(path.name))
        named = (image.entities.get("sub", ""), image.entities.get("ses", ""))
        if not path.name.endswith(SUFFIXES) or prefix_of(path.name) not in {"", CAT12_T1W}:
            continue
        if named[0] == expected.participant and (named[1] == expected.session or not expected.session):
            yield image
            continue
        place = path.relative_to(folder).as_posix()
        found.blame(
            place,
            "does not bear the participant and session of its folder",
            "Rename or move it",
            expected.participant,
        )


def one_each(images: Iterator[Image], folder: Path, found: Found) -> list[Image]:
    """Return the best image of each scan; where two suit equally well, say so and take none."""
    groups: defaultdict[ScanId, list[Image]] = defaultdict(list)
    for image in images:
        groups[image.scan].append(image)
    chosen = []
    for scan, group in sorted(groups.items()):
        best = max(image.rank for image in group)
        ties = [image for image in group if image.rank == best]
        if len(ties) == 1:
            chosen.append(ties[0])
            continue
        others = ", ".join(image.path.name for image in ties[1:])
        found.blame(
            ties[0].path.relative_to(folder).as_posix(),
            f"is one of {len(ties)} images that could be {scan} (also {others})",
            "Keep one of them, or name the one to use in a table",
            scan.participant,
        )
    return chosen
