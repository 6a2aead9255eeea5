"""The central half of the paper: which models its tables and figures need, and their settings at each scale.

A scale's file holds the settings of a run, and besides them ``private`` (noise, clip, attacks of the private
models) and ``shadow`` (appendix E). Every model is a run of its own; tables share them.
"""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from privoxel.config import RunConfig, check_settings
from privoxel.errors import ConfigError
from privoxel.privacy_config import PrivacyConfig
from privoxel.recipes.defending.settings import merged
from privoxel.sections import Positive, Section

SCALES = ("demo", "small", "paper")
NETWORKS = ("cnn3d", "slice-mean")
NAMES: Mapping[str, str] = MappingProxyType({"cnn3d": "3D-CNN", "slice-mean": "2D-slice-mean"})
"""What the paper calls them."""


class Central(NamedTuple):
    """One centrally trained network; with ``noise`` (SD over clip) trained privately."""

    model: str
    noise: float | None = None

    @property
    def name(self) -> str:
        """Its folder."""
        return f"central-{self.model}" if self.noise is None else f"private-{self.model}-{self.noise:g}"


class ShadowOf(NamedTuple):
    """The shadow of a central network: appendix E."""

    model: str

    @property
    def name(self) -> str:
        """Its folder."""
        return f"shadow-{self.model}"


class PrivateSettings(Section):
    """The private models of figures 3, 7 and 8."""

    attacks: tuple[str, ...]
    primary: str
    repeats: Positive | None = Field(None, description="draws of the leaked set; default: those of the run")
    clip: Annotated[float, Field(gt=0)] = 1.0
    training: Mapping[str, Any] = {}
    noise: Mapping[str, tuple[Annotated[float, Field(ge=0)], ...]]


class ShadowSettings(Section):
    """Appendix E: the share of the target's members who train the shadow, and the number of attacks."""

    repeats: Positive = 5
    share: Annotated[float, Field(gt=0, lt=1)] = 0.684


class CentralScale(Section):
    """Everything that a scale's file holds."""

    run: RunConfig
    networks: Mapping[str, Mapping[str, Any]] = {}
    private: PrivateSettings
    shadow: ShadowSettings = ShadowSettings()

    def private_models(self) -> tuple[Central, ...]:
        """Return the private models of this scale."""
        return tuple(
            Central(model, noise) for model in NETWORKS for noise in self.private.noise.get(model, ())
        )

    def config_of(self, cell: Central | ShadowOf) -> RunConfig:
        """Return the configuration of one model; that of a shadow is its target's."""
        network = self.run.models[0].model_copy(
            update={"name": cell.model, **self.networks.get(cell.model, {})}
        )
        changes: dict[str, Any] = {"models": (network,)}
        title = f"Gupta et al. 2021: {NAMES[cell.model]}"
        names = self.run.attacks.names
        if cell.model != "cnn3d":
            names = tuple(name for name in names if name != "activation")
        attacks = self.run.attacks.model_copy(update={"names": names})
        if isinstance(cell, Central) and cell.noise is not None:
            title += f", private, noise {cell.noise:g} × clip"
            chosen: dict[str, Any] = {
                "names": self.private.attacks,
                "primary": self.private.primary,
                "null_target": (),
            }
            if self.private.repeats is not None:
                chosen["repeats"] = self.private.repeats
            attacks = attacks.model_copy(update=chosen)
            changes["split"] = self.run.split.model_copy(update={"null_target": False})
            changes["training"] = self.run.training.model_copy(update=dict(self.private.training))
            # Seeded: an experiment on simulated people that must come out the same, not a release.
            changes["privacy"] = PrivacyConfig(
                noise_multiplier=cell.noise,
                clip=self.private.clip,
                randomness="seeded" if self.run.cohort.kind == "simulated" else "secret",
            )
        changes |= {"attacks": attacks, "report": self.run.report.model_copy(update={"title": title})}
        plain = self.run.model_copy(update=changes)
        return check_settings(RunConfig, plain.to_dict(), where=cell.name)


PARTS = ("table1", "table3", "fig1", "fig3", "fig7", "fig8", "appendix-e")
"""What of the paper is about central models."""
OF_PRIVATE = frozenset({"fig3", "fig7", "fig8"})


def models_of(part: str, scale: CentralScale) -> tuple[Central | ShadowOf, ...]:
    """Return the models that a table or figure needs; none for those of federations."""
    if part in OF_PRIVATE:
        return scale.private_models()
    central = tuple(Central(model) for model in NETWORKS)
    if part == "appendix-e":
        return (*central, *(ShadowOf(model) for model in NETWORKS))
    return central if part in PARTS else ()


def central_scale(scale: str, *, seed: int | None = None, real: bool = False) -> CentralScale:
    """Return the settings of a scale; with ``real`` for a cohort of the user, divided in the same shares.

    Raises:
        ConfigError: if there is no such scale.
    """
    if scale not in SCALES:
        raise ConfigError(f"--scale needs one of {', '.join(SCALES)}, got {scale!r}. Choose one.")
    settings = _read(f"central_{scale}")
    extra: dict[str, Any] = {
        name: settings.pop(name) for name in ("networks", "private", "shadow") if name in settings
    }
    if seed is not None:
        settings["seed"] = seed
    if real:
        people = settings["cohort"]["participants"]
        settings["cohort"] = {"kind": "real", "resolution_mm": settings["cohort"]["resolution_mm"]}
        settings["split"] = {name: size / people for name, size in settings["split"].items()}
    return check_settings(CentralScale, {"run": settings, **extra}, where=f"central_{scale}.toml")


def _read(name: str) -> dict[str, Any]:
    """Return a built-in configuration's sections over those of the one that it extends, if it does."""
    text = files("privoxel.recipes.configs").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    settings = tomllib.loads(text)
    base = settings.pop("extends", None)
    return settings if base is None else merged(_read(base), settings)
