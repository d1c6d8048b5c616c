"""Tables and images to DS9, TOPCAT or Aladin, through a SAMP hub on this machine."""

import atexit
import importlib
import shutil
import tempfile
import warnings
from pathlib import Path

from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import Table
from astropy.utils.exceptions import AstropyDeprecationWarning

from astroclassify import tables
from astroclassify._checks import check_quantity, first_line
from astroclassify.exceptions import ArgumentError, MissingDependencyError, OutputError

__all__ = ["send_samp"]

_TABLE, _IMAGE = "table.load.votable", "image.load.fits"


def send_samp(what, *, to=None, name="astroclassify", timeout=None, hub=None):
    """
    Send a table or an image to DS9, TOPCAT, Aladin or any other client of this machine's SAMP hub.

    Parameters
    ----------
    what : `~astropy.table.Table`, `~astropy.nddata.CCDData`, FITS HDU, str or path-like
        A table is sent as VOTable, with a sky position as two columns; an image, or the path of a FITS image, as FITS.
    to : str, optional
        Name of the program, such as ``"topcat"``, in upper or lower case; by default every program that accepts it.
    name : str, optional
        Name that the program shows.
    timeout : `~astropy.units.Quantity`, optional
        Longest time that each program may take; by default 10 s.
    hub : `~astropy.samp.SAMPHubServer`, optional
        The hub; by default the running one. TOPCAT and Aladin start a hub at their own start.

    Returns
    -------
    list of str
        Names of the programs that have loaded it.

    Raises
    ------
    OutputError
        If no hub runs, no program accepts it, or one refuses it or does not answer in time; the message names it.
    TypeError
        If ``what`` is none of these.
    FileNotFoundError
        If ``what`` is a path without a file.

    Notes
    -----
    Connections are only to the hub and the programs on this machine (127.0.0.1), and only during this call. The data
    are kept in a temporary file until Python ends, because programs may read it later.

    Examples
    --------
    >>> from astroclassify.survey import send_samp
    >>> send_samp(candidates, to="topcat", name="candidates")  # doctest: +SKIP
    ['topcat']
    """
    samp = _samp()
    timeout = 10.0 if timeout is None else check_quantity("timeout", timeout, "s", positive=True, shape=())
    kind, path = _file(what)
    message = {
        "samp.mtype": kind,
        "samp.params": {"url": path.resolve().as_uri(), "name": str(name), f"{kind.split('.')[0]}-id": str(name)},
    }
    # astropy would contact a web page to choose the name of this machine.
    with samp.conf.set_temp("use_internet", False):
        client = samp.SAMPIntegratedClient(name="astroclassify", addr="127.0.0.1")
        try:
            client.connect(hub=hub)
        except (samp.SAMPHubError, OSError) as error:
            raise OutputError(f"no SAMP hub runs here: start TOPCAT, Aladin or a hub first ({error})") from None
        try:
            return _call(samp, client, message, kind, to, timeout)
        finally:
            client.disconnect()


def _samp():
    """astropy.samp, or pyvo.samp: the same code, its announced successor from astropy 8 on."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyDeprecationWarning)
            return importlib.import_module("astropy.samp")
    except ImportError:
        pass
    try:
        return importlib.import_module("pyvo.samp")
    except ImportError:
        raise MissingDependencyError("SAMP needs pyvo with this astropy: pip install 'pyvo>=1.9'") from None


def _file(what):
    """Type of message and file to be loaded."""
    if isinstance(what, str | Path):
        path = Path(what)
        if not path.is_file():
            raise FileNotFoundError(f"what: no file {str(path)!r}")
        return _IMAGE, path
    if not isinstance(what, Table | CCDData | fits.PrimaryHDU | fits.ImageHDU | fits.HDUList):
        raise ArgumentError(f"what must be a table, a CCDData, a FITS HDU or a path, got {type(what).__name__}")
    folder = Path(tempfile.mkdtemp(prefix="astroclassify-samp-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if isinstance(what, Table):
        return _TABLE, tables.write(what, folder / "table.vot")
    if isinstance(what, CCDData):
        what = what.to_hdu()
    elif isinstance(what, fits.ImageHDU):
        what = fits.PrimaryHDU(what.data, what.header)
    what.writeto(folder / "image.fits")
    return _IMAGE, folder / "image.fits"


def _call(samp, client, message, kind, to, timeout):
    """Send the message; names of the programs that loaded the file."""
    names = {each: client.get_metadata(each).get("samp.name", each) for each in client.get_subscribed_clients(kind)}
    chosen = {each: name for each, name in names.items() if to is None or name.lower() == to.lower()}
    if not chosen:
        who = f"no program called {to!r}" if to else "no program"
        raise OutputError(f"{who} at the SAMP hub takes {kind}; there are: {sorted(names.values())}")
    faults = []
    for each, name in chosen.items():
        try:
            answer = client.call_and_wait(each, message, str(max(1, round(timeout))))
        except (samp.SAMPProxyError, OSError) as error:
            faults.append(f"{name} did not answer within {timeout:g} s ({first_line(error, 100)})")
            continue
        if answer.get("samp.status") == "samp.error":
            faults.append(f"{name}: {answer.get('samp.error', {}).get('samp.errortxt', 'refused')}")
    if faults:
        raise OutputError("not loaded by every program: " + "; ".join(faults))
    return sorted(chosen.values())
