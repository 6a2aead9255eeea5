"""What a deployed server and a deployed site are told: two TOML files, checked as a whole."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from privoxel.cohort.base import Grid
from privoxel.config import CohortConfig, ModelConfig, check_settings, read_mapping
from privoxel.sections import Count, Section
from privoxel.training.federated.job import FederationJob
from privoxel.training.federated.privacy import CentralPrivacy, LocalPrivacy, SecureAggregation


class ServerConfig(Section):
    """A deployed federation, as its server knows it: no scans, no ages but one agreed mean.

    ``mean_age`` (years) is where the model's output starts; the sites agree on it beforehand.
    """

    learners: Annotated[tuple[str, ...], Field(min_length=1)]
    mean_age: Annotated[float, Field(gt=0, lt=130)]
    seed: int = 0
    resolution_mm: Annotated[float, Field(ge=1, le=10)] = 2.0
    model: ModelConfig = ModelConfig()
    federation: FederationJob = FederationJob()

    @property
    def grid(self) -> Grid:
        """The voxel grid of the model."""
        return Grid.mni(self.resolution_mm)


class SiteConfig(Section):
    """A deployed site: its scans, and what it does to its updates before they leave.

    ``path``, ``root`` and ``shared_secret`` are on the site's machine, relative to the file. The secret is a
    file of 32 bytes or more that the sites have in common and the server does not: with it, the site sends
    keyed hashes of its images, so that one person at two sites is found.
    """

    name: str
    mean_age: Annotated[float, Field(gt=0, lt=130)]
    seed: int = Field(description="of the site's own randomness: order of scans, dropout, noise")
    path: Path | None = Field(None, description="BIDS folder or table; none: simulated scans")
    root: Path | None = None
    cohort: CohortConfig = CohortConfig(kind="real")
    model: ModelConfig = ModelConfig()
    privacy: CentralPrivacy | LocalPrivacy | SecureAggregation | None = None
    shared_secret: Path | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Count = 0


def load_server(path: Path) -> ServerConfig:
    """Return the server's configuration, all errors told at once."""
    return check_settings(ServerConfig, read_mapping(path), where=str(path))


def load_site(path: Path) -> SiteConfig:
    """Return a site's configuration, its paths made absolute; all errors are told at once."""
    site = check_settings(SiteConfig, read_mapping(path), where=str(path))
    found = {
        name: value if value is None else path.resolve().parent / value
        for name, value in (("path", site.path), ("root", site.root), ("shared_secret", site.shared_secret))
    }
    return site.model_copy(update=found)
