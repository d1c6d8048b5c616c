"""A table of samples that scikit-learn can index."""

import numpy as np

from ._kinds import KindTable

__all__ = ["SampleTable"]


class SampleTable(KindTable):
    """
    A QTable whose rows scikit-learn can take: ``X`` of `~sklearn.model_selection.cross_val_score` and its kin.

    scikit-learn takes every table with ``iloc`` for one of pandas and calls ``take``, which astropy's do not have.

    Examples
    --------
    >>> from sklearn.model_selection import train_test_split
    >>> from astroclassify.tables import SampleTable
    >>> train, test = train_test_split(SampleTable({"source_id": ["a", "b", "c"]}), test_size=1, random_state=0)
    >>> train["source_id"].tolist(), test["source_id"].tolist()
    (['b', 'a'], ['c'])
    """

    def take(self, indices, axis=0):
        """
        Rows by number.

        Parameters
        ----------
        indices : sequence of int
            Their numbers.
        axis : int, optional
            0; columns are chosen by name.

        Returns
        -------
        SampleTable
            A new table with these rows.
        """
        if axis != 0:
            raise ValueError(f"axis must be 0, got {axis!r}: choose columns by their names")
        return self[np.asarray(indices)]
