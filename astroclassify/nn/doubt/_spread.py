"""How much a prediction depends on orientation and exposure: test-time augmentation."""

import numpy as np

from astroclassify._checks import check_integer
from astroclassify.batch import derive_rng, master_seed
from astroclassify.schemes import Flag, get_scheme

from ..inputs._pixels import attempt
from ..inputs._predictions import prediction_table
from ..training._augment import augment, check_augmentation

__all__ = ["spread"]


def spread(classifier, images, *, n=16, rng=None):
    """
    How much a prediction changes under mirroring, turns by 90 degrees and a shorter exposure.

    Parameters
    ----------
    classifier : CutoutClassifier
        A fitted classifier.
    images : table, array, image, path or list of these
        As for `CutoutClassifier.classify`; one is in memory at a time.
    n : int, optional
        Number of changed copies of each image, at least 2.
    rng : int or `~numpy.random.Generator`, optional
        Seed, by default a fresh one; it is recorded in ``meta["seed"]``. Each image draws from a generator of its own,
        so its row does not depend on the others.

    Returns
    -------
    `~astropy.table.QTable`
        PREDICTIONS whose ``p_<class>`` are means over the copies (often better than those of one image), with
        ``p_<class>_std``, their standard deviation, and ``agreement``, the share of the copies in which the most
        probable class is ``label_pred``. An image that fails has NaN, the flag ``failed`` and a message.

    Raises
    ------
    ValueError
        If ``n`` is not a whole number from 2, or ``images`` is no such thing.

    Notes
    -----
    Bands that hold counts (``count_bands``) are thinned to between half and all of their counts, so the standard
    deviation includes the Poisson noise of a somewhat shorter exposure. It does not include errors that all copies
    share.

    References
    ----------
    Ayhan & Berens 2018, MIDL, "Test-time data augmentation for estimation of heteroscedastic aleatoric uncertainty".
    """
    n = check_integer("n", n, 2)
    scheme = get_scheme(classifier.scheme)
    predictor = classifier._fitted()
    counts = tuple(band in classifier.count_bands for band in predictor.bands)
    thins = any(counts) and not predictor.columns  # numbers beside an image are those of its own exposure
    names = check_augmentation(("flip", "turn", "thin") if thins else ("flip", "turn"), counts=counts)
    items, _ = predictor.items(images)
    seed = master_seed(rng)
    nan = np.full(scheme.n_classes, np.nan)
    rows = []
    for item in items:
        loaded, message = attempt(predictor.load, item)
        if message:
            rows.append((nan, nan, np.nan, item.flags | int(Flag.FAILED), message))
            continue
        pixels, flags = loaded
        copies = np.repeat(pixels[None], n, axis=0)
        copies = augment(copies, derive_rng(seed, "spread", item.source_id), names=names, counts=counts)
        p = predictor.probabilities(copies)
        agreement = np.mean(p.argmax(axis=1) == p.mean(axis=0).argmax())
        rows.append((p.mean(axis=0), p.std(axis=0, ddof=1), agreement, flags, ""))
    means, deviations, agreements, flags, messages = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    names = [item.source_id for item in items]
    table = prediction_table(names, np.array(means), flags, messages, scheme, n_copies=n, seed=seed)
    deviations = np.reshape(deviations, (len(items), scheme.n_classes)).astype(float)
    for index, name in enumerate(scheme.classes):
        table[f"p_{name}_std"] = deviations[:, index]
    table["agreement"] = np.array(agreements, dtype=float)
    return table
