"""Tables of predictions, written in the test; nobody in them is real."""

from pathlib import Path

import numpy as np

HEADER = ("participant_id", "age", "predicted_age", "member")


def write_lines(path: Path, lines: list[str], *, header: tuple[str, ...] = HEADER) -> Path:
    """Write a tab-separated table."""
    path.write_text("\n".join(["\t".join(header), *lines]) + "\n", encoding="utf-8")
    return path


def write_predictions(
    path: Path,
    *,
    members: int = 90,
    non_members: int = 110,
    gap: float = 1.0,
    shift: float = 0.0,
    more: tuple[str, ...] = (),
    seed: int = 0,
) -> Path:
    """Write predictions whose errors have SD 4 years, those of members 4 / (1 + gap).

    Members are ``shift`` years older. ``more`` adds the columns sex, site or sd.
    """
    rng = np.random.default_rng(seed)
    lines = []
    for number in rng.permutation(members + non_members):
        member = number < members
        age = rng.uniform(45, 80) + shift * member
        predicted = age + rng.normal(0, 4 / (1 + gap * member))
        cells = [f"sub-{number:04d}", f"{age:.2f}", f"{predicted:.3f}", str(int(member))]
        extra = {"sex": str(rng.choice(["F", "M"])), "site": str(rng.choice(["A", "B"])), "sd": "3.5"}
        lines.append("\t".join([*cells, *(extra[name] for name in more)]))
    return write_lines(path, lines, header=(*HEADER, *more))


def write_with_references(path: Path, *, models: int = 3, people: int = 400, seed: int = 0) -> Path:
    """Write predictions of a model and of references that all err alike on whoever is hard to predict.

    A person's own error has SD 5 years and is halved by being a member; the models add noise of SD 1 year.
    Every fifth line lacks the first reference.
    """
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(people):
        member, age, hard = number % 2, rng.uniform(45, 80), rng.normal(0, 5)
        own = age + hard * (0.5 if member else 1.0) + rng.normal()
        answers = [f"{age + hard + rng.normal():.3f}" for _ in range(models)]
        if number % 5 == 0:
            answers[0] = "n/a"
        lines.append("\t".join([f"sub-{number:04d}", f"{age:.2f}", f"{own:.3f}", str(member), *answers]))
    header = (*HEADER, *(f"reference_{k}" for k in range(1, models + 1)))
    return write_lines(path, lines, header=header)
