"""What a private training will repeat, decided before its first step: sampling rate, steps and noise."""

import math
from importlib.util import find_spec

from privoxel.config import TrainingConfig
from privoxel.errors import ConfigError
from privoxel.privacy_config import PrivacyConfig
from privoxel.training.private.accounting import Mechanism, check_accountant, enough_noise, noise_for


def plan(participants: int, config: TrainingConfig, privacy: PrivacyConfig) -> Mechanism:
    """Return sampling rate, number of steps and noise of a training on ``participants``.

    Raises:
        ConfigError: if the batch is larger than the participants, ε cannot be reached, or the accountant that
        was asked for cannot compute the noise.
    """
    rate, steps = _rate_and_steps(participants, config)
    noise = privacy.noise_multiplier
    if noise is None:
        assert privacy.epsilon is not None  # noqa: S101 - one of the two is set
        noise = noise_for(privacy.epsilon, privacy.delta, rate, steps, privacy.accountant)
    check_accountant(privacy.accountant, noise)
    return Mechanism(noise, rate, steps)


def check_plan(participants: int, config: TrainingConfig, privacy: PrivacyConfig) -> None:
    """Refuse what ``plan`` refuses, in a tenth of its time.

    Raises:
        ConfigError: as ``plan`` does.
        ModuleNotFoundError: if Opacus is not installed.
    """
    if find_spec("opacus") is None:
        raise ModuleNotFoundError("No module named 'opacus'")
    rate, steps = _rate_and_steps(participants, config)
    if privacy.epsilon is not None:
        enough_noise(privacy.epsilon, privacy.delta, rate, steps, privacy.accountant)


def _rate_and_steps(participants: int, config: TrainingConfig) -> tuple[float, int]:
    if config.batch_size > participants:
        raise ConfigError(
            f"[training] batch_size of a private training needs at most the {participants} participants "
            f"trained on, got {config.batch_size}. Lower it."
        )
    return config.batch_size / participants, config.epochs * math.ceil(participants / config.batch_size)
