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

from .. import tables
from .._checks import check_quantity
from ..exceptions import MissingDependencyError, OutputError

__all__ = ["send_samp"]

_TABLE, _IMAGE = "table.load.votable", "image.load.fits"


def send_samp(what, *, to=None, name="astroclassify", timeout=None, hub=None):
    """
    Send a table or an image to DS9, TOPCAT, Aladin or whatever else listens to the SAMP hub of this machine.

    Parameters
    ----------
    what : `~astropy.table.Table`, `~astropy.nddata.CCDData`, FITS HDU, str or path-like
        A table is sent as VOTable, with a sky position as two columns; an image, or the path of a FITS image, as FITS.
    to : str, optional
        Name of the program, such as ``"topcat"``, in any case; by default all that take such things.
    name : str, optional
        What the program shall call it.
    timeout : `~astropy.units.Quantity`, optional
        How long each program may take; by default 10 s.
    hub : `~astropy.samp.SAMPHubServer`, optional
        The hub; by default the one that runs: TOPCAT and Aladin start one when they start.

    Returns
    -------
    list of str
        Names of the programs that have loaded it.

    Raises
    ------
    OutputError
        If no hub runs, no program takes it, or one refuses it or does not answer in time; the message names which.
    TypeError
        If ``what`` is none of these.
    FileNotFoundError
        If ``what`` is a path without a file.

    Notes
    -----
    Only the hub and the programs on this machine are talked to (127.0.0.1), and only within this call. What is sent
    lies in a temporary file until Python ends, because programs read it when they like.

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
    # astropy asks a web page whether there is an internet, to choose the name of this machine: not from here.
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
    """astropy.samp, or pyvo.samp: the same code, to which astropy 8 points and which is to replace it."""
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
    """Kind of message and file to be loaded."""
    if isinstance(what, str | Path):
        path = Path(what)
        if not path.is_file():
            raise FileNotFoundError(f"what: no file {str(path)!r}")
        return _IMAGE, path
    if not isinstance(what, Table | CCDData | fits.PrimaryHDU | fits.ImageHDU | fits.HDUList):
        raise TypeError(f"what must be a table, a CCDData, a FITS HDU or a path, got {type(what).__name__}")
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
    """Names of the programs that loaded it."""
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
            faults.append(f"{name} did not answer within {timeout:g} s ({str(error).splitlines()[0][:100]})")
            continue
        if answer.get("samp.status") == "samp.error":
            faults.append(f"{name}: {answer.get('samp.error', {}).get('samp.errortxt', 'refused')}")
    if faults:
        raise OutputError("not loaded by every program: " + "; ".join(faults))
    return sorted(chosen.values())
