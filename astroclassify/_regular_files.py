"""The one check that a path is a regular file: reading a FIFO waits for ever, and a device never ends."""

import errno
import stat
from pathlib import Path

from .exceptions import ArgumentError

__all__ = ["check_regular"]

_KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


def check_regular(path, name="path", *, error=ArgumentError):
    """
    Find a file without opening it; links are followed.

    Parameters
    ----------
    path : str or path-like
        The file.
    name : str, optional
        What messages call it.
    error : type, optional
        Error of the package for what is there but is no regular file, or cannot be reached.

    Returns
    -------
    `os.stat_result`
        Its state.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or a folder in its place.

    Examples
    --------
    >>> from astroclassify._regular_files import check_regular
    >>> check_regular("/dev/null")
    Traceback (most recent call last):
    ...
    astroclassify.exceptions.ArgumentError: path: '/dev/null' is a device, not a regular file
    """
    shown = repr(str(path))
    try:
        state = Path(path).stat()
    except ValueError as reason:  # a null byte in the name
        raise error(f"{name}: {shown} is no name of a file: {reason}") from None
    except OSError as reason:
        if reason.errno in _MISSING:
            raise FileNotFoundError(f"{name}: no file {shown}") from None
        raise error(f"{name}: {shown} cannot be reached: {reason.strerror}") from None
    if stat.S_ISDIR(state.st_mode):
        raise FileNotFoundError(f"{name}: no file {shown}, it is a folder")
    if not stat.S_ISREG(state.st_mode):
        raise error(
            f"{name}: {shown} is {_KINDS.get(stat.S_IFMT(state.st_mode), 'something else')}, not a regular file"
        )
    return state
