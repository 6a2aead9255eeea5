"""Names of files in archives and in references: where they would end up."""

from pathlib import PurePosixPath, PureWindowsPath


def leaves_folder(name: str) -> bool:
    r"""Return whether a file of this name would lie outside the folder it is unpacked in.

    >>> leaves_folder("../../x"), leaves_folder("C:\\x"), leaves_folder("a/b")
    (True, True, False)
    """
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    return (
        posix.is_absolute() or bool(windows.drive or windows.root) or ".." in (*posix.parts, *windows.parts)
    )
