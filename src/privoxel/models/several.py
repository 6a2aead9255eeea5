"""Several targets that one network was trained on at once: the loss is the weighted sum over all of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import final

import torch
from torch import Tensor

from privoxel.errors import ModelError
from privoxel.models.heads import Head, NeedsColumns, Scalar, StatesSpread, raise_faults

AGE = "age"


@final
@dataclass(frozen=True)
class Several:
    """Age and further targets of one network.

    ``others`` are heads by the column of the cohort that holds their true values, each in its column's
    units; ``weights`` multiply the losses by name, 1 where none is given. Where no head has a ``target``, all
    are ``Scalar`` and the network's values are age, then the others in their order. One head may be of
    another kind: it reads the values that no ``Scalar`` reads. A true value that is not known (NaN) leaves
    its term out of that scan's loss.

    >>> Several(Scalar("l1", offset=62, scale=8), {"tiv": Scalar()}, {"tiv": 0.5}).columns
    ('tiv',)

    Raises:
        ModelError: listing every choice that cannot be used.
    """

    age: Head
    others: Mapping[str, Head]
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        heads = self._given
        unknown = [name for name in self.weights if name not in heads]
        wrong = [f"{one} for {name}" for name, one in self.weights.items() if not 0 < one < torch.inf]
        checks = (
            (
                bool(self.others) and AGE not in self.others,
                "others needs targets by column, age not among them",
            ),
            (not unknown, f"weights needs names among {', '.join(heads)}, got {', '.join(unknown)}"),
            (not wrong, f"weights needs numbers above 0, got {', '.join(wrong)}"),
        )
        raise_faults("Several", (*checks, *_checks_of(heads)))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that the loss needs besides the age."""
        return tuple(self.others)

    def ages(self, output: Tensor) -> Tensor:
        """Return the predicted ages (scans,), years."""
        return self._heads[AGE].ages(self.values(output, AGE))

    def values(self, output: Tensor, name: str) -> Tensor:
        """Return what the head of one target reads of the output (scans, values)."""
        flat = output.reshape(len(output), -1)
        heads = self._heads
        if isinstance(heads[name], Scalar):
            return flat
        taken = {head.position for head in heads.values() if isinstance(head, Scalar)}
        return flat[:, [place for place in range(flat.shape[1]) if place not in taken]]

    def losses(self, output: Tensor, ages: Tensor) -> Tensor:
        """Return Σ weight × loss over the targets of each scan.

        Args:
            output: of the network, scans first.
            ages: true values (scans, 1 + others): ages in years, then the other targets, NaN where not known.
        """
        heads = self._heads
        if ages.dim() != 2 or ages.shape[1] != len(heads):
            raise ModelError(
                f"Several head needs true values of {', '.join(heads)} for each scan, got a tensor of shape "
                f"{tuple(ages.shape)}. Give ages and the other targets side by side."
            )
        terms = [
            self.weights.get(name, 1.0) * _where_known(name, head, self.values(output, name), truth)
            for (name, head), truth in zip(heads.items(), ages.unbind(1), strict=True)
        ]
        return sum(terms[1:], start=terms[0])

    @property
    def _given(self) -> dict[str, Head]:
        return {AGE: self.age, **self.others}

    @property
    def _heads(self) -> dict[str, Head]:
        """The heads by name, each Scalar with the place of its value."""
        names = tuple(self._given)
        return {
            name: replace(head, target=name, targets=names)
            if isinstance(head, Scalar) and head.target is None
            else head
            for name, head in self._given.items()
        }


def needed_columns(head: object) -> tuple[str, ...]:
    """Return the columns of the cohort that a head's loss needs besides the age."""
    return head.columns if isinstance(head, NeedsColumns) else ()


def stated_spread(head: object) -> Callable[[Tensor], Tensor] | None:
    """Return what gives the stated standard deviations of ages (scans,), None where a head states none."""
    if isinstance(head, Several):
        spread = stated_spread(head.age)
        return None if spread is None else lambda output: spread(head.values(output, AGE))
    return head.sds if isinstance(head, StatesSpread) else None


def _checks_of(heads: Mapping[str, Head]) -> tuple[tuple[bool, str], ...]:
    """Return what must hold of heads that share one output: that each is one, and has values of its own."""
    no_heads = [name for name, head in heads.items() if not isinstance(head, Head)]
    nested = [name for name, head in heads.items() if isinstance(head, NeedsColumns)]
    scalars = {name: head for name, head in heads.items() if isinstance(head, Scalar)}
    silent = [name for name, head in scalars.items() if head.target is None]
    is_dealt = len(silent) == len(heads)
    places = [head.position for head in scalars.values() if head.target is not None]
    rest = len(heads) - len(scalars)
    return (
        (not no_heads, f"age and others need heads, got none for {', '.join(no_heads)}"),
        (not nested, f"age and others need heads of one target, got more for {', '.join(nested)}"),
        (rest <= 1, f"at most one head may be no Scalar, for it reads the values that are left, got {rest}"),
        (
            is_dealt or not silent,
            f"target needs a position in every Scalar or in none, got none for {', '.join(silent)}",
        ),
        (
            len(set(places)) == len(places),
            f"target needs a value of the output each, got the positions {', '.join(map(str, places))}",
        ),
    )


def _where_known(name: str, head: Head, values: Tensor, truth: Tensor) -> Tensor:
    """Return the losses of the scans whose true value is known, 0 for the others (scans,)."""
    known = truth.isfinite()
    count = int(known.sum())
    if not count:
        return values.new_zeros(len(values))
    losses = head.losses(values[known], truth[known])
    if tuple(losses.shape) != (count,):
        raise ModelError(
            f"Several head needs one loss of {name} per scan, got {tuple(losses.shape)} for {count} scans. "
            "Return one loss per scan (reduction='none')."
        )
    return losses.new_zeros(len(values)).index_put((known,), losses)
