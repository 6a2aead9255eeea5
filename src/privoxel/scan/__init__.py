"""A static look into released model files for records of the people they were trained on.

``scan_artefact`` reads a file's structure and never runs, imports or unpickles anything of it.
"""

from privoxel.scan.findings import ArtefactScan, Finding, Kind
from privoxel.scan.limits import Limits
from privoxel.scan.scanning import scan_artefact, scan_artefacts

__all__ = ["ArtefactScan", "Finding", "Kind", "Limits", "scan_artefact", "scan_artefacts"]
