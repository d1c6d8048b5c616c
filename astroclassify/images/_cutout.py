"""Images of one source in several bands, on one grid and in one file."""

import re
from dataclasses import dataclass
from pathlib import Path

from astroclassify.exceptions import GeometryError

from ._checks import as_image
from ._described import in_words, picture_html
from ._files import image_from_hdus, write_cutout
from ._open import open_fits

__all__ = ["Cutout"]

_BAND = re.compile(r"[a-z][a-z0-9]{0,15}")


@dataclass(frozen=True)
class Cutout:
    """
    Images of one source in one or more bands on one common grid.

    Parameters
    ----------
    source_id : str
        Name of the source.
    bands : dict
        Band name (``"xray"``, ``"optical"``: up to 16 lower-case letters and digits) -> `~astropy.nddata.CCDData`, all
        of one shape.

    Raises
    ------
    GeometryError
        If there is no band, a name is not allowed, or the shapes differ.
    """

    source_id: str
    bands: dict

    def __post_init__(self):
        if not self.bands:
            raise GeometryError("bands must hold at least one image")
        for name in self.bands:
            if not isinstance(name, str) or not _BAND.fullmatch(name):
                raise GeometryError(f"bands must be named by up to 16 lower-case letters and digits, got {name!r}")
        object.__setattr__(self, "bands", {name: as_image(image) for name, image in self.bands.items()})
        shapes = {name: image.shape for name, image in self.bands.items()}
        if len(set(shapes.values())) > 1:
            raise GeometryError(f"bands must have one common shape, got {shapes}")

    def __repr__(self):
        bands = "; ".join(f"{name}: {in_words(image)}" for name, image in self.bands.items())
        return f"<Cutout {self.source_id!r}, {bands}>"

    def _repr_html_(self):
        return picture_html(repr(self), self.bands)

    def write(self, path, *, overwrite=False):
        """
        Write the cutout as one multi-extension FITS file, packed without loss.

        Each band and map is a tile-compressed image (FITS standard 4.0, section 10; GZIP_2), which astropy, CFITSIO and
        DS9 read. Values that are multiples of one power of two, such as whole counts, are written as integers of 16 or
        32 bits. Maps are written in single precision, a mask only if pixels are masked.

        Parameters
        ----------
        path : str or path-like
            The file.
        overwrite : bool, optional
            Whether a file of that name may be replaced.

        Returns
        -------
        `~pathlib.Path`
            The file.

        Raises
        ------
        OutputError
            If the file exists already or cannot be written.
        """
        return write_cutout(self.source_id, self.bands, path, overwrite=overwrite)

    @classmethod
    def read(cls, path):
        """
        Read a cutout that `write` wrote.

        A band without a valid pixel, all masked or not finite, is left out: other programs write such bands where a
        source has no image.

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        Cutout
            The cutout.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        GeometryError
            If the file is damaged or not a cutout, or has no band with a valid pixel.
        """
        with open_fits(path) as hdus:
            header = hdus[0].header
            for key in ("SOURCEID", "BANDS"):
                if key not in header:
                    raise GeometryError(f"{str(path)!r} is not a cutout file: it has no keyword {key}")
            bands = {
                name: image_from_hdus(hdus, Path(path), hdu=name.upper(), prefix=f"{name.upper()}_", blank=True)
                for name in str(header["BANDS"]).split(",")
            }
            shown = {name: image for name, image in bands.items() if image is not None}
            if not shown:
                raise GeometryError(f"{str(path)!r} has no valid pixel in any band: all are masked or not finite")
            return cls(str(header["SOURCEID"]), shown)
