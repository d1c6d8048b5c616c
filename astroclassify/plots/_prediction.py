"""Figure of one classified image; part of `astroclassify.plots`."""

import os

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData

from astroclassify._checks import check_choice
from astroclassify.exceptions import ArgumentError, MissingDependencyError
from astroclassify.images import DEFAULT_COSMOLOGY, Cutout, pixel_scale, standardise
from astroclassify.images._pictures import STRETCHES, contour_levels, smooth, valid_values
from astroclassify.schemes import ClassScheme

from ._base import COLOURS, bands_of, flags_in_words, new_figure, sky_norm

__all__ = ["plot_prediction"]

_BAR = 200 * u.kpc
_SIDE = 3.7  # inches of a panel


def plot_prediction(
    image, classifier, *, class_name=None, redshift=None, centre=None, columns=None, stretch="sqrt", title=""
):
    """
    One image and what a classifier says of it: the picture for a talk.

    Parameters
    ----------
    image : path-like, `~astropy.nddata.CCDData` or `~astroclassify.images.Cutout`
        Image with a celestial WCS, or images of several bands.
    classifier : CutoutClassifier
        A fitted classifier, such as `astroclassify.nn.load_classifier` gives.
    class_name : str, optional
        Class whose activation map is drawn; by default the most probable one.
    redshift : float, optional
        Redshift of the source; by default that of the header.
    centre : `~astropy.coordinates.SkyCoord`, optional
        Middle of the field; by default that of the image.
    columns : `~astropy.table.Table`, optional
        One row with the columns that the classifier uses beside the image.
    stretch : str, optional
        ``"asinh"``, ``"log"``, ``"sqrt"`` or ``"linear"``, of the smoothed X-ray image.
    title : str, optional
        Text in place of the name of the source.

    Returns
    -------
    `~matplotlib.figure.Figure`
        From left to right: the bands on the grid that the classifier sees, with sky coordinates, the contours of the
        smoothed X-ray image (the first where the background fluctuates to by chance in 1e-5 of places, each twice as
        high) and a bar of 200 kpc, or of 1 arcmin where no redshift is known; the activation map, red where the image
        speaks for the class, blue where it speaks against it, one colour beyond the 99th percentile (no map, and a line
        that says so, where the network has no exact one and the extra ``train`` is not installed); the class
        probabilities, with flags and message in words. It has several panels, so it takes no ``ax``.

    Raises
    ------
    ArgumentError
        If ``image`` or ``classifier`` is something else, or the stretch is not known.
    GeometryError, SchemaError, ValueError, OSError
        If the image cannot be used, as in `CutoutClassifier.classify`, or there is no such class.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> from astroclassify.nn import load_classifier
    >>> from astroclassify.plots import plot_prediction
    >>> figure = plot_prediction("a2029.fits", load_classifier("coolcore"), redshift=0.077)  # doctest: +SKIP
    >>> figure.savefig("a2029.png", dpi=200)  # doctest: +SKIP
    """
    check_choice("stretch", stretch, STRETCHES)
    if not isinstance(image, (str, os.PathLike, CCDData, Cutout)):
        raise ArgumentError(f"image must be a path, a CCDData or a Cutout, got {type(image).__name__}")
    if not hasattr(classifier, "activation_map"):
        raise ArgumentError(f"classifier must be a CutoutClassifier, got {type(classifier).__name__}")
    how = {"redshift": redshift, "centre": centre, "columns": columns}
    prediction = classifier.classify(image, **how)
    row, scheme = prediction[0], ClassScheme.from_dict(dict(prediction.meta["scheme"]))
    class_name = class_name or str(row["label_pred"])
    try:
        activation = classifier.activation_map(image, class_name, **how)
    except MissingDependencyError as error:
        activation, reason = None, str(error)
    bands = {
        name: standardise(
            _as_plate(each) if name != "xray" else each, classifier.geometry, redshift=redshift, centre=centre
        )
        for name, each in bands_of(image).items()
        if name in classifier.bands
    }
    from astropy.visualization import wcsaxes  # noqa: F401  registers the projection

    n = len(bands) + 2
    figure = new_figure(_SIDE * (n - 0.35), _SIDE + 0.6)
    grid = figure.add_gridspec(1, n, width_ratios=[1.15, *[1] * (n - 2), 0.62])
    xray = next(iter(bands.values()))
    panels = [figure.add_subplot(grid[number], projection=xray.wcs) for number in range(n - 1)]
    for axis, (name, each) in zip(panels, bands.items(), strict=False):
        _draw_band(axis, name, each, stretch)
        _draw_contours(axis, xray, "white" if name == "xray" else "#56E0A0")
        axis.set_title(name, fontsize=10)
    _draw_bar(panels[0], xray)
    if activation is None:
        panels[-1].set_title(f"no activation map: {reason}", fontsize=7, wrap=True)
    else:
        _draw_map(figure, panels[-1], activation, xray)
    for number, axis in enumerate(panels):
        axis.set(xlim=(-0.5, xray.shape[1] - 0.5), ylim=(-0.5, xray.shape[0] - 0.5))
        for coordinate, text in zip(axis.coords, ("right ascension", "declination"), strict=True):
            coordinate.set_axislabel(text if number == 0 else " ", fontsize=9)
            coordinate.set_ticklabel_visible(number == 0)
            coordinate.set_ticklabel(exclude_overlapping=True, size=7)
    _draw_probabilities(figure.add_subplot(grid[n - 1]), row, scheme)
    figure.suptitle(
        title or f"{row['source_id']}: {row['label_pred']} by {prediction.meta.get('model', '')}", fontsize=11
    )
    return figure


def _as_plate(image):
    """An image of another band than X-rays as `standardise` takes it: densities, which are averaged."""
    return CCDData(image.data, unit=u.adu, mask=image.mask, wcs=image.wcs, meta=image.meta)


def _draw_band(axis, name, image, stretch):
    values, valid = valid_values(image)
    values = np.where(valid, np.maximum(smooth(image), 0) if name == "xray" else values, np.nan)
    axis.set_facecolor("0.75")
    if name == "xray":
        how = {"norm": sky_norm(values, stretch), "cmap": "inferno"}
    else:
        low, high = np.nanpercentile(values, [1, 99.7]) if valid.any() else (0, 1)
        how = {"vmin": low, "vmax": high, "cmap": "gray"}
    axis.imshow(values, origin="lower", interpolation="nearest", **how)


def _draw_contours(axis, image, colour):
    levels = contour_levels(image)
    smoothed = smooth(image)
    levels = [level for level in levels if level < smoothed.max()]
    if levels:
        axis.contour(smoothed, levels, colors=colour, linewidths=0.6, alpha=0.9)


def _draw_bar(axis, image):
    """A bar of 200 kpc, or of an arcmin where no redshift is known, in the lower left."""
    redshift = image.meta.get("REDSHIFT")
    pixel = pixel_scale(image).to(u.arcmin)
    if isinstance(redshift, (int, float)) and 0 < redshift < np.inf:
        arcmin = (_BAR / DEFAULT_COSMOLOGY.kpc_proper_per_arcmin(redshift)).to_value(u.arcmin)
        text = f"{_BAR.value:g} kpc at z = {redshift:.3g}"
    else:
        arcmin, text = 1.0, "1 arcmin"
    x, y = 0.05 * image.shape[1], 0.05 * image.shape[0]
    axis.plot([x, x + arcmin / pixel.value], [y, y], color="white", lw=2.5, solid_capstyle="butt")
    axis.text(x, y + 0.02 * image.shape[0], text, color="white", fontsize=8, va="bottom")


def _draw_map(figure, axis, activation, image):
    size = np.abs(activation.data[np.isfinite(activation.data)])
    # A few cells at the peak can hold nearly all of the evidence: beyond the last percentile colours stay the same.
    limit = float(np.percentile(size, 99) or size.max()) if size.size else 0.0
    limit = limit or 1.0
    corners = (np.arange(n + 1) - 0.5 for n in reversed(activation.shape))
    drawn = axis.pcolormesh(
        *corners, activation.data, transform=axis.get_transform(activation.wcs), cmap="RdBu_r", vmin=-limit, vmax=limit
    )
    _draw_contours(axis, image, "black")
    axis.set_title(f"what speaks for {activation.meta['CLASS']}", fontsize=10)
    bar = figure.colorbar(drawn, ax=axis, orientation="horizontal", shrink=0.8, pad=0.02, extend="both")
    bar.set_label("contribution to the logit", fontsize=8)
    bar.ax.tick_params(labelsize=7)


def _draw_probabilities(axis, row, scheme):
    p = [float(row[f"p_{name}"]) for name in scheme.classes]
    places = np.arange(len(p))[::-1]
    colours = [COLOURS[0] if name == row["label_pred"] else "0.7" for name in scheme.classes]
    axis.barh(places, p, color=colours)
    for place, value in zip(places, p, strict=True):
        axis.text(min(value, 0.78) + 0.02, place, f"{value:.2f}", va="center", fontsize=9)
    axis.set_yticks(places, scheme.classes)
    axis.set(xlim=(0, 1), ylim=(-1.2 - 0.18 * len(p), len(p) - 0.5))
    axis.set_xlabel("probability", fontsize=9)
    lines = [f"flags: {flags_in_words(row['flags']) or 'none'}"]
    if "familiarity" in row.colnames and np.isfinite(row["familiarity"]):
        lines.append(f"familiarity {row['familiarity']:.2g}")
    lines += [str(row["message"])] if row["message"] else []
    axis.text(0.03, 0.02, "\n".join(lines), transform=axis.transAxes, fontsize=8, va="bottom", wrap=True)
    axis.spines[["top", "right"]].set_visible(False)
