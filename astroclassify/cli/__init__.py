"""The ``astroclassify`` command: thin verbs over the public functions."""

from . import _process

__all__ = ["main"]


def main(argv=None):
    """
    Run the command line.

    Parameters
    ----------
    argv : list of str, optional
        Arguments. By default those of the process, which then belongs to the command: Ctrl-C ends it, and what the
        reader of its output no longer takes is dropped.

    Returns
    -------
    int
        Exit status: 0; 1 if some rows failed, which one line on standard error says; 2 after one line about bad input;
        130 after Ctrl-C.

    Examples
    --------
    >>> from astroclassify.cli import main
    >>> main(["models"])  # doctest: +SKIP
    0
    """
    return _process.run(_work, argv)


def _work(argv):
    # Imported here: the verbs need astropy, which takes a second in which Ctrl-C must work as well.
    from ._verbs import run

    return run(argv)
