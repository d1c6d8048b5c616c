"""Optical images of a field from services on the web. The network is used only when an image is asked for."""

import hashlib
import io
import logging
import re
import secrets
import warnings
from pathlib import Path
from urllib.parse import urlencode

from astropy import units as u
from astropy.io import fits
from astropy.utils.exceptions import AstropyDeprecationWarning, AstropyUserWarning
from astropy.wcs import FITSFixedWarning

from astroclassify._checks import check_integer, check_quantity
from astroclassify._http import Client, bare, check_address, one_line
from astroclassify.exceptions import FetchError, OutputError
from astroclassify.tables import write_beside

from ._plates import NoImageError, check_field, find_plate, plate_image

__all__ = ["HipsOptical", "SkyViewOptical"]

log = logging.getLogger(__name__)

_LARGEST = 2**28  # bytes of an answer
# A service that has failed this often in a row, after all tries each time, is not asked again.
_PATIENCE = 3
# Failures in a row of each object, also of its copies in this process.
_failures = {}


class _Service:
    """Client of a service of FITS images, with a cache; subclasses give the query."""

    def __init__(self, survey, pixels, url, timeout, attempts, cache):
        if not isinstance(survey, str) or not survey.strip():
            raise ValueError(f"the name of the survey must be a text that is not empty, got {survey!r}")
        self.survey = survey.strip()
        self.pixels = check_integer("pixels", pixels, 1, 8192)
        self.attempts = check_integer("attempts", attempts, 1, 100)
        self.url = check_address("url", url)
        self.timeout = check_quantity("timeout", timeout, u.s, positive=True, shape=()) * u.s
        self.cache = None if cache is None else Path(cache)
        self._token = secrets.token_hex(8)  # the same in copies that are sent to workers

    @property
    def settings(self):
        """What decides the images, as plain types."""
        return {"kind": type(self).__name__, "survey": self.survey, "pixels": self.pixels, "url": self.url}

    def __call__(self, position, size):
        """
        Image of a field.

        Parameters
        ----------
        position : `~astropy.coordinates.SkyCoord`
            The middle.
        size : `~astropy.units.Quantity`
            Side of the square, north up.

        Returns
        -------
        `~astropy.nddata.CCDData`
            Unit adu.

        Raises
        ------
        FetchError
            If the service is down or slow, refuses, or answers with something else than a FITS image, in all attempts.
            After three failed fields in a row this object does not ask again.
        GeometryError
            If the image is empty: the survey has nothing there.
        OutputError
            If the cache cannot be written.
        """
        side = check_field(position, size)
        sky = position.icrs
        query = urlencode(self._query(f"{sky.ra.deg:.7f}", f"{sky.dec.deg:.7f}", f"{side:.9g}"))
        url = f"{self.url}?{query}"
        if self.cache is None:
            return self._ask(url)[0]
        path = self.cache / f"{hashlib.blake2b(url.encode(), digest_size=16).hexdigest()}.fits"
        if path.is_file():
            try:
                return self._read(path.read_bytes())
            except (FetchError, OSError) as error:
                log.warning("%s is fetched again: %s", path, error)
        image, body = self._ask(url)
        self._keep(path, body)
        return image

    def _ask(self, url):
        """The image at an address and the file that it is in."""
        if _failures.get(self._token, 0) >= _PATIENCE:
            raise FetchError(f"{bare(url)} failed for {_PATIENCE} fields in a row and is not asked again; try later")
        try:
            body, kind = Client(self.timeout.value, self.attempts).get(url, most=_LARGEST)
            # Whatever type is declared: the first keyword of a FITS file is SIMPLE.
            if not body.startswith(b"SIMPLE  ="):
                raise FetchError(f"{bare(url)} answered with {kind} instead of a FITS file: {_words(body)!r}")
            image = self._read(body)
        except FetchError:
            _failures[self._token] = _failures.get(self._token, 0) + 1
            raise
        except NoImageError:
            _failures.pop(self._token, None)
            raise
        _failures.pop(self._token, None)
        return image, body

    def _read(self, body):
        """Image in a FITS file."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FITSFixedWarning)
                warnings.simplefilter("ignore", fits.verify.VerifyWarning)
                # astropy 6.1 itself, when it says what is wrong with a header
                warnings.simplefilter("ignore", AstropyDeprecationWarning)
                warnings.filterwarnings("error", "(?s).*truncated", AstropyUserWarning)
                with fits.open(io.BytesIO(body), memmap=False) as hdus:
                    hdu, _, wcs = find_plate(hdus, bare(self.url))
                    return plate_image(hdu.data.reshape(hdu.shape[-2:]), hdu.header, wcs)
        except NoImageError:
            raise
        except (OSError, TypeError, ValueError, EOFError, LookupError, fits.VerifyError, AstropyUserWarning) as error:
            reason = one_line(error) or type(error).__name__
            raise FetchError(f"{bare(self.url)} answered with a damaged FITS file: {reason}") from error

    def _keep(self, path, body):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cache: cannot make the folder {str(path.parent)!r}: {error.strerror}") from error
        write_beside(path, lambda temporary: Path(temporary).write_bytes(body), overwrite=True)

    def _query(self, ra, dec, side):
        """Entries of the query for a position and a side, texts in degrees."""
        raise NotImplementedError


def _words(body):
    """Start of a text or the words of a page, on one line."""
    text = body[:4000].decode("utf-8", "replace")
    text = re.sub(r"(?is)<(script|style|title)\b.*?</\1\s*>", " ", text)
    return one_line(re.sub(r"(?s)<[^>]*>", " ", text), 120)


class HipsOptical(_Service):
    """
    Optical images from the service hips2fits of the CDS, cut out of a HiPS.

    An instance is called with ``position`` and ``size`` and returns the image of that field, north up; the network is
    used only then.

    Parameters
    ----------
    survey : str, optional
        Identifier of the HiPS; see https://aladin.cds.unistra.fr/hips/list.
    pixels : int, optional
        Pixels along each side. With the number that the cutouts have, these are on the same grid and not interpolated
        again.
    url : str, optional
        Address of the service.
    timeout : `~astropy.units.Quantity`, optional
        How long to wait for an answer, redirects included. Of its body at least 1024 bytes/s must come, averaged over
        this time.
    attempts : int, optional
        How often to try, with longer and longer waits (10 minutes altogether), where the service is down, slow or busy.
    cache : str or path-like, optional
        Folder in which answers are kept and looked up. By default none is.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed; the message names it.

    References
    ----------
    Boch et al. 2020, ASP Conf. 527, 121 (hips2fits); Fernique et al. 2015, A&A 578, A114 (HiPS).

    Examples
    --------
    >>> from astroclassify.survey import HipsOptical
    >>> HipsOptical(cache="plates").survey
    'CDS/P/DSS2/red'
    """

    def __init__(
        self,
        survey="CDS/P/DSS2/red",
        *,
        pixels=356,
        url="https://alasky.cds.unistra.fr/hips-image-services/hips2fits",
        timeout=60 * u.s,
        attempts=4,
        cache=None,
    ):
        super().__init__(survey, pixels, url, timeout, attempts, cache)

    def _query(self, ra, dec, side):
        return {
            "hips": self.survey,
            "width": self.pixels,
            "height": self.pixels,
            "projection": "TAN",
            "coordsys": "icrs",
            "ra": ra,
            "dec": dec,
            "fov": side,
            "format": "fits",
        }


class SkyViewOptical(_Service):
    """
    Optical images from NASA's SkyView.

    An instance is called with ``position`` and ``size`` and returns the image of that field, north up; the network is
    used only then. The service is asked by plain HTTP, so that astroquery is not needed.

    Parameters
    ----------
    survey : str, optional
        Name of the survey; see https://skyview.gsfc.nasa.gov/current/cgi/survey.pl.
    pixels : int, optional
        Pixels along each side. With the number that the cutouts have, these are on the same grid and not interpolated
        again.
    url : str, optional
        Address of the service.
    timeout : `~astropy.units.Quantity`, optional
        How long to wait for an answer, redirects included. Of its body at least 1024 bytes/s must come, averaged over
        this time.
    attempts : int, optional
        How often to try, with longer and longer waits (10 minutes altogether), where the service is down, slow or busy.
    cache : str or path-like, optional
        Folder in which answers are kept and looked up. By default none is.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed; the message names it.

    References
    ----------
    McGlynn, Scollick & White 1998, IAU Symp. 179, 465 (SkyView); https://skyview.gsfc.nasa.gov/current/docs/batchpage.html
    (the addresses).

    Examples
    --------
    >>> from astroclassify.survey import SkyViewOptical
    >>> SkyViewOptical().survey
    'DSS2 Red'
    """

    def __init__(
        self,
        survey="DSS2 Red",
        *,
        pixels=356,
        url="https://skyview.gsfc.nasa.gov/current/cgi/runquery.pl",
        timeout=120 * u.s,
        attempts=4,
        cache=None,
    ):
        super().__init__(survey, pixels, url, timeout, attempts, cache)

    def _query(self, ra, dec, side):
        return {
            "Position": f"{ra},{dec}",
            "Survey": self.survey,
            "Coordinates": "J2000",
            "Projection": "Tan",
            "Size": side,
            "Pixels": self.pixels,
            "Sampler": "LI",
            "Return": "FITS",
        }
