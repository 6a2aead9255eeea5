"""What has to be there before an attack can run, besides signals of the scans to judge, in words."""

from privoxel.attacks.base import (
    Attack,
    Course,
    course_of,
    needs_one_shadow,
    reference_kind,
)
from privoxel.signals.table import AUGMENTED, STATED_SD, STEP


def needs_of(attack: Attack) -> tuple[str, ...]:
    """Return what ``attack`` needs, a few words each; nothing if predictions or weights are enough.

    >>> from privoxel.attacks import get_attack
    >>> needs_of(get_attack("stability")), needs_of(get_attack("glir"))
    (('copies of scans',), ('leaked participants', '2 snapshots or more', 'plain SGD'))
    """
    signals = "".join(sorted(attack.requires))
    kind = reference_kind(attack)
    told = {
        "leaked participants": attack.needs_leaked,
        "one shadow model": needs_one_shadow(attack),
        str(kind): kind is not None and not needs_one_shadow(attack),
        "copies of scans": AUGMENTED in signals,
        "2 snapshots or more": course_of(attack) is not Course.LAST,
        "plain SGD": STEP in signals,
        "a stated SD": STATED_SD in signals,
    }
    return tuple(need for need, is_needed in told.items() if is_needed)
