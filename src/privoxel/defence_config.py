"""The sections of a configuration that defend a model (docs/defences.md); everything is off by default."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, model_validator

from privoxel.sections import Count, Positive, Section

Years = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class AugmentationConfig(Section):
    """How scans are changed whenever they are shown; draws are of each scan and update."""

    degrees: Annotated[float, Field(ge=0, le=45)] = Field(0.0, description="largest turn about each axis")
    mm: Annotated[float, Field(ge=0)] = Field(0.0, description="largest shift along each axis")
    gain: Annotated[float, Field(ge=0)] = Field(0.0, description="SD of the log gain and of its slopes")
    gamma: Annotated[float, Field(ge=0)] = Field(0.0, description="SD of the log exponent of intensities")
    noise: Annotated[float, Field(ge=0)] = Field(0.0, description="SD of the noise over the volume's SD")

    @property
    def is_on(self) -> bool:
        """Whether anything is changed."""
        return any(self.model_dump().values())


class ReleaseConfig(Section):
    """What is done to predictions before anyone sees them: noise, then rounding, then clipping."""

    noise_years: Years = Field(0.0, description="SD of noise that is always the same for the same volume")
    round_years: Years = Field(0.0, description="predictions are multiples of this")
    clip_years: tuple[float, float] | None = Field(None, description="lowest and highest prediction")

    @property
    def is_on(self) -> bool:
        """Whether anything is done."""
        return bool(self.noise_years or self.round_years or self.clip_years)

    @model_validator(mode="after")
    def _range_is_one(self) -> "ReleaseConfig":
        if self.clip_years is not None and self.clip_years[0] >= self.clip_years[1]:
            raise ValueError("clip_years needs the lowest prediction first")
        return self


class PretrainingConfig(Section):
    """Training on public brains before the members are seen."""

    epochs: Positive = 20
    learning_rate: Annotated[float, Field(gt=0)] | None = Field(None, description="default: [training]'s")


class DistillationConfig(Section):
    """Training of a student on public brains with the predictions of the model trained on the members."""

    epochs: Positive | None = Field(None, description="default: as many as the teacher")


class DefenceConfig(Section):
    """What is done against attacks; weight decay, dropout, width, epochs and privacy are elsewhere."""

    stop_gap: Years | None = Field(
        None, description="training ends before validation minus training MAE exceeds this (years)"
    )
    mixup: Annotated[float, Field(gt=0)] | None = Field(None, description="α of the Beta(α, α) shares")
    label_noise: Years = Field(0.0, description="SD of a participant's constant error of age")
    keep_unique: Share | None = Field(
        None, description="share kept of the part of a gradient that no other of its batch has; unset: all"
    )
    sparsity: Share = Field(0.0, description="share of the kernels' weights that is zero in the end")
    average_last: Count = Field(0, description="epochs at whose ends weights are averaged; 0: none")
    augmentation: AugmentationConfig = AugmentationConfig()
    release: ReleaseConfig = ReleaseConfig()
    public_brains: Positive = Field(400, description="simulated brains for pretraining and distillation")
    pretraining: PretrainingConfig | None = None
    distillation: DistillationConfig | None = None

    @property
    def needs_public(self) -> bool:
        """Whether simulated brains are needed beside the cohort."""
        return self.pretraining is not None or self.distillation is not None

    @property
    def described(self) -> dict[str, str]:
        """The settings that are on and act on training, by name, in words."""
        chosen = self.model_dump(exclude_defaults=True, exclude={"release", "public_brains"})
        return {name: str(value) for name, value in chosen.items()}

    @property
    def of_student(self) -> "DefenceConfig":
        """What also applies to a student: all that does not speak of members' scans and ages."""
        return self.model_copy(
            update={"stop_gap": None, "label_noise": 0.0, "keep_unique": None, "distillation": None}
        )

    def conflicts(self, *, private: bool, validation: bool) -> Iterator[str]:
        """Yield why settings do not go together."""
        if private:
            yield from self._conflicts_with_privacy()
        if self.stop_gap is not None and not validation:
            yield "stop_gap needs [split] validation participants"
        if self.stop_gap is not None and (self.average_last or self.sparsity):
            yield "stop_gap ends before the last epoch, in which average_last and sparsity are reached"
        if self.keep_unique is not None and self.mixup is not None:
            yield "keep_unique asks which part of a gradient is one scan's; mixup makes every scan two"
        if self.average_last == 1:
            yield "average_last needs at least 2 epochs to average"

    def _conflicts_with_privacy(self) -> Iterator[str]:
        if self.mixup is not None:
            yield "mixup puts a participant into two gradients, which clipping takes for one ([privacy])"
        if self.keep_unique is not None:
            yield (
                "keep_unique makes the gradient of one participant depend on the others', so that clipping "
                "does not bound what one changes ([privacy])"
            )
        if self.stop_gap is not None:
            yield "stop_gap reads the members' errors, which no noise covers ([privacy])"
