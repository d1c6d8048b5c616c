"""Lines of pixels of deficient response on the chips of EPIC pn, from the counts: dead columns, edges of the chips."""

import numpy as np
from scipy.ndimage import binary_dilation, median_filter, uniform_filter1d

__all__ = ["line_response"]

# pixel, width of a line, the wider one for few counts: in an image that is turned pixels lie anywhere across a column
WIDTHS = 0.5, 1.0
REACH = 8  # pixels on either side over which the neighbours' run is a median
PARTS, FEWEST = 10, 3  # parts of a line, at most and at least: most of them hold no bright source
ENOUGH, LEAST = 15.0, 5.0  # counts in a part of a line, typical and least, for its ratio to the neighbours to be of use
DEFICIENT = 0.9  # response that is corrected
SIGNIFICANT, BESIDE = 5.0, 2.0  # sigma, of a line or of three; of each of these, and of one beside a deficient line
DEAD = 0.3  # response that is too little to divide by
MEDIAN_ERROR = 1.25  # of a median, over that of a mean
ROUNDS = 5


def line_response(counts, exposure, across, along):
    """
    Response of the lines of pixels over that of their neighbours, shape (ny, nx): one but where it is clearly less.

    ``across``, ``along``: places in the frame of the chips [pixel], whose halves at ``along`` < 0 and >= 0 have columns
    of their own. Rows are corrected as well: those that the ends of the chips cut. Pixels of no exposure are not used.
    """
    response = np.ones(counts.shape)
    for half in (along < 0, along >= 0):
        half &= exposure > 0
        for lines, places in ((across, along), (along, across)):
            if half.any():
                response[half] *= _response(counts[half], exposure[half], lines[half], places[half])
    return response


def _response(counts, exposure, lines, places):
    """Response of the line of each pixel, from the pixels' places across and along the lines."""
    for width in WIDTHS:
        _, line = np.unique(np.rint((lines - lines.min()) / width), return_inverse=True)
        parts = min(PARTS, int(np.median(np.bincount(line, counts)) / ENOUGH))
        if parts >= FEWEST:
            break
    else:
        return np.ones(counts.shape)
    number = line.max() + 1
    window = 2 * int(np.rint(REACH * number / (np.ptp(lines) + 1))) + 1
    edges = np.linspace(places.min(), places.max(), parts + 1)[1:-1]
    cell = line * parts + np.searchsorted(edges, places)
    seen, spent = (np.bincount(cell, each, number * parts).reshape(number, parts) for each in (counts, exposure))
    found = np.zeros(number, bool)
    for _ in range(ROUNDS):
        ratio, error = _ratio(seen, spent, found, window)
        # A column that is not used, or its neighbours with it, lies in more than one line.
        lack, before = (1 - ratio) / error, found
        clear = np.maximum(lack, np.sqrt(3) * uniform_filter1d(lack, 3)) > SIGNIFICANT
        found = (ratio < DEFICIENT) & (lack > BESIDE) & (clear | binary_dilation(found))
        if np.array_equal(found, before):
            break
    return np.where(found, np.where(ratio < DEAD, 0.0, ratio), 1.0)[line]


def _ratio(seen, spent, left_out, window):
    """Counts of each line over those of its neighbours, of which some are left out: median of its parts, and error."""
    expected = np.zeros(seen.shape)
    for part in range(seen.shape[1]):
        good = np.flatnonzero(~left_out & (spent[:, part] > 0))
        if len(good):
            rate = median_filter(seen[good, part] / spent[good, part], window, mode="mirror")
            expected[:, part] = spent[:, part] * np.interp(np.arange(len(seen)), good, rate)
    known = expected >= LEAST
    some = known.sum(axis=1) >= FEWEST
    ratio, error = np.ones(len(seen)), np.ones(len(seen))
    if some.any():
        expected, seen = (np.ma.masked_array(each, ~known)[some] for each in (expected, seen))
        ratio[some] = np.ma.median(seen / expected, axis=1)
        error[some] = MEDIAN_ERROR * np.sqrt((1 / expected).mean(axis=1) / known[some].sum(axis=1))
        # Sources and chips that differ: lines scatter by more than the counts say.
        scatter = 1.48 * np.median(np.abs(ratio[some] - np.median(ratio[some])))
        error[some] = np.maximum(error[some], scatter)
    return ratio, error
