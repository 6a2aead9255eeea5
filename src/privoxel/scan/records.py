"""Lists of records: people one by one, each a mapping of names (``[{"age": 61, "sex": "F"}, …]``)."""

from collections.abc import Mapping, Sequence

from privoxel.scan.collector import Collector, numbers_of
from privoxel.scan.machine import Called, Many
from privoxel.scan.roles import FEWEST_VALUES, Role, role_of


def scan_records(
    records: Sequence[Mapping[str, object]], lines: int, collector: Collector, where: str
) -> None:
    """Report a list of records as the table that it is.

    ``records`` are the first of its ``lines``. A few, or names that say nothing of people, are not told.
    """
    if len(records) < FEWEST_VALUES:
        return
    names = [name for name in records[0] if isinstance(name, str)]
    collector.columns(names, lines, where)
    for name in names:
        if role_of(name) is Role.AGE:
            collector.ages(name, lines, numbers_of(record.get(name) for record in records), where)


def record_of(value: object) -> dict[str, object] | None:
    """Return a mapping, or the attributes of an object, by its names; None for anything else."""
    held = value.state if isinstance(value, Called) else value
    if not isinstance(held, Many) or not held.is_mapping:
        return None
    return {key: item for key, item in zip(held.keys, held.items, strict=True) if isinstance(key, str)}
