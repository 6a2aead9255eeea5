"""What a pickle describes, as a column of a table: how many values, and the first numbers of them."""

from privoxel.scan.arrays import array_type, bytes_of, column_of, shape_of
from privoxel.scan.collector import Column, numbers_of
from privoxel.scan.machine import Blob, Called, Many
from privoxel.scan.tensors import tensor_of
from privoxel.scan.window import Window


def plain(window: Window, value: object) -> object:
    """Return the number that one of NumPy's scalars holds; anything else as it is."""
    if not isinstance(value, Called) or not value.name.endswith("multiarray.scalar"):
        return value
    parts = value.arguments.items if isinstance(value.arguments, Many) else []
    kind = array_type(parts[0]) if len(parts) == 2 else None
    if kind is None or not isinstance(parts[1], Blob | bytes):
        return value
    return next(iter(column_of(window, parts[1], kind).numbers), value)


def column(window: Window, value: object) -> Column:
    """Return what a value is as a column of a table."""
    if isinstance(value, Many):
        numbers = () if value.is_mapping else numbers_of(plain(window, item) for item in value.items)
        return Column(value.count, numbers, is_container=value.count > 0)
    return _object_column(window, value) if isinstance(value, Called) else Column(1)


def _object_column(window: Window, value: Called) -> Column:
    """Return what an object is: an array, a tensor, or the items it was given."""
    if isinstance(value.state, Many) and value.name.endswith("_reconstruct"):
        return _array_column(window, value.state.items[1:2], value.state.items[2:5:2])
    if isinstance(value.arguments, Many) and value.name.endswith("_frombuffer"):
        return _array_column(window, value.arguments.items[2:3], value.arguments.items[1::-1])
    if value.name.endswith("NumpyArrayWrapper") and isinstance(value.items, Many) and value.items.items:
        found = value.items.items[0]
        return found if isinstance(found, Column) else Column(1)
    if value.name.startswith("torch._utils._rebuild"):
        tensor = tensor_of(value)
        return Column(1 if tensor is None else tensor.size)
    return Column(value.items.count, is_container=value.items.count > 0)


def _array_column(window: Window, shape: list[object], content: list[object]) -> Column:
    """Return an array, given its shape, and its type with its values, as far as they are there."""
    if not shape or len(content) < 2:
        return Column(1)
    kind, values = array_type(content[0]), content[1]
    if isinstance(values, Many):
        return Column(values.count, numbers_of(plain(window, item) for item in values.items))
    if kind is None or not isinstance(values, Blob | bytes):
        return Column(max(bytes_of(kind, shape_of(shape[0])) // kind.size, 1) if kind else 1)
    return column_of(window, values, kind)
