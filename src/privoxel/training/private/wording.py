"""What a private training guarantees, in words: the bound, to whom it holds, and where noise comes from."""

from privoxel.training.private.accounting import Spent

SOURCES = {
    "secret": "PyTorch's and NumPy's generators, seeded by the operating system; they are not cryptographic",
    "secure": "AES-256 in counter mode with a key of the operating system",
    "seeded": "generators that follow from the run's seed",
}
NO_SECURE_MODE = (
    "Opacus' own secure_mode cannot be used here: it needs torchcsprng, which cannot be installed with "
    "current versions of PyTorch."
)


def guarantee(bound: Spent, randomness: str) -> str:
    """Return what ``bound`` guarantees where the noise is from ``randomness``.

    >>> guarantee(Spent(2.345, 1e-6, "prv"), "secret")
    'ε = 2.35 at δ = 1e-06 (prv accountant)'
    """
    if randomness == "seeded":
        return (
            "no guarantee to anybody who knows the seed, since the noise follows from it; "
            f"secret noise would give {bound.wording}"
        )
    return bound.wording


def noise_source(randomness: str) -> str:
    """Return where noise and sampling come from, and why not from Opacus' secure mode."""
    return f"Noise and sampling come from {SOURCES[randomness]}. {NO_SECURE_MODE}"
