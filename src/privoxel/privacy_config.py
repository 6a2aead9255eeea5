"""The sections of a configuration on differential privacy: training with it, and bounding it from below."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from privoxel.sections import MEMORY_PATTERN, Section, bytes_of

PRV_FROM = 0.5
"""Noise multiplier below which the grid of the PRV accountant outgrows memory."""


class PrivacyConfig(Section):
    """Differentially private training (docs/private-training.md); the defaults of δ are the paper's (5.1)."""

    epsilon: Annotated[float, Field(gt=0)] | None = Field(
        None, description="target; the noise is chosen for it"
    )
    noise_multiplier: Annotated[float, Field(ge=0)] | None = Field(
        None, description="SD of the noise over clip"
    )
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-6
    clip: Annotated[float, Field(gt=0)] = Field(1.0, description="largest norm of a participant's gradient")
    clipping: Literal["per-sample", "ghost"] = "per-sample"
    accountant: Literal["auto", "rdp", "prv"] = "auto"
    randomness: Literal["secret", "secure", "seeded"] = Field(
        "secret", description="seeded follows from the run's seed: for experiments, not for a release"
    )
    memory: Annotated[str, Field(pattern=MEMORY_PATTERN)] = Field(
        "2GiB", description="what the gradients of a part of a batch may take"
    )

    @property
    def memory_bytes(self) -> int:
        """``memory`` in bytes."""
        return bytes_of(self.memory)

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> "PrivacyConfig":
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise ValueError("give one of epsilon and noise_multiplier")
        return self

    @model_validator(mode="after")
    def _its_accountant_can_compute_it(self) -> "PrivacyConfig":
        if (
            self.accountant == "prv"
            and self.noise_multiplier is not None
            and self.noise_multiplier < PRV_FROM
        ):
            raise ValueError(
                f"accountant = 'prv' needs a noise_multiplier of at least {PRV_FROM}, got "
                f"{self.noise_multiplier:g}; take 'rdp' or 'auto'"
            )
        return self


class CanaryConfig(Section):
    """People with a random age, each trained on or not by a fair coin, on whom ε is bounded in one run."""

    count: Annotated[int, Field(ge=4)] = Field(
        description="participants set aside for it; they are in no other group and in no other number"
    )
