"""Figures of samples of simulated clusters; part of `astroclassify.plots`."""

import numpy as np
from astropy import units as u

from astroclassify import tables
from astroclassify.exceptions import SchemaError
from astroclassify.images import read_image
from astroclassify.images._pictures import Scale, valid_values
from astroclassify.schemes import C_SB_BOUNDS, COOL_CORE, N_E_BOUNDS, T_COOL_BOUNDS, Flag

from ._base import COLOURS, flags_in_words, new_figure, new_panels

__all__ = ["plot_images", "plot_population"]


def plot_images(sample, predictions=None, *, n_columns=6, n_max=24, stretch="log"):
    """
    Grid of the images of a sample, each with its label and, if given, its predicted class.

    Parameters
    ----------
    sample : `~astropy.table.QTable`
        A SAMPLE table as `~astroclassify.tables.read_sample` gives it.
    predictions : `~astropy.table.QTable`, optional
        A PREDICTIONS table; rows are found by ``source_id``. A wrong class is written in red, flags are named.
    n_columns : int, optional
        Images per line.
    n_max : int, optional
        Largest number of images, spread evenly over the rows sorted by cooling time.
    stretch : str, optional
        ``"asinh"``, ``"log"``, ``"sqrt"`` or ``"linear"``. Counts span four decades: the logarithm shows core and
        outskirts alike.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure. It has a panel for each image, so it takes no ``ax``.

    Raises
    ------
    ArgumentError, SchemaError, MissingDependencyError
        If the stretch is not known; if the sample has no image; if matplotlib is not installed.
    """
    scale = Scale(stretch, 0.0, 100.0)
    sample = tables.plain_table(sample)
    paths = tables.image_paths(sample)
    usable = np.flatnonzero((np.asarray(sample["flags"]) & Flag.FAILED.value) == 0)
    if not len(usable):
        raise SchemaError("sample has no image to show")
    t_cool = tables.numbers(sample, "t_cool", u.Gyr, what="sample")
    usable = usable[np.argsort(t_cool[usable], kind="stable")]
    shown = usable[np.unique(np.linspace(0, len(usable) - 1, n_max).round().astype(int))]
    guessed = {} if predictions is None else {str(row["source_id"]): row for row in tables.plain_table(predictions)}
    figure, axes = new_panels(len(shown), n_columns, (2.0, 2.35))
    for axis, row in zip(axes, shown, strict=False):
        axis.set_axis_off()
        axis.imshow(scale.apply(*valid_values(read_image(paths[row]))), origin="lower", cmap="inferno")
        truth = str(sample["label"][row])
        title = f"{truth}  {t_cool[row]:.2g} Gyr" if np.isfinite(t_cool[row]) else truth
        guess = guessed.get(str(sample["source_id"][row]))
        colour = "black"
        if guess is not None:
            label = str(guess["label_pred"])
            title += f"\n\N{RIGHTWARDS ARROW} {label}" + (f" ({guess[f'p_{label}']:.2f})" if label else "no answer")
            colour = "black" if label == truth or not truth else "#C00000"
            words = flags_in_words(guess["flags"])
            title += f"\n{words}" if words else ""
        axis.set_title(title, fontsize=8, color=colour)
    return figure


def plot_population(sample):
    """
    Central density and concentration against central cooling time, with the cuts of Su et al. (2020).

    Parameters
    ----------
    sample : `~astropy.table.QTable`
        A SAMPLE table of cool-core classes. Rows without a cooling time are left out.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure. It has two panels, so it takes no ``ax``.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    sample = tables.plain_table(sample)
    figure = new_figure(9.0, 3.8)
    cuts, units = {"n_e": N_E_BOUNDS, "c_sb": C_SB_BOUNDS}, {"n_e": u.cm**-3, "c_sb": None}
    names = {"n_e": r"central $n_e$ [cm$^{-3}$]", "c_sb": r"$C_{SB}$ (40 / 400 kpc)"}
    t_cool = tables.numbers(sample, "t_cool", u.Gyr, what="sample")
    for axis, measure in zip(figure.subplots(1, 2), cuts, strict=True):
        values = tables.numbers(sample, measure, units[measure], what="sample")
        for label, colour in zip(COOL_CORE.classes, COLOURS, strict=False):
            rows = (np.asarray(sample["label"]) == label) & (values > 0)
            axis.scatter(t_cool[rows], values[rows], s=9, color=colour, label=f"{label} ({rows.sum()})")
        for cut in cuts[measure]:
            axis.axhline(cut, color="0.6", lw=0.8, ls=":")
        for edge in T_COOL_BOUNDS:
            axis.axvline(edge, color="0.6", lw=0.8, ls="--")
        axis.set(xscale="log", yscale="log", xlabel="central cooling time [Gyr]", ylabel=names[measure])
        axis.legend(fontsize=8)
    return figure
