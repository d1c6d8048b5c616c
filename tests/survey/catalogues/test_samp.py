"""Tables and images sent through a SAMP hub that the test starts itself, on this machine only."""

import importlib
import sys
import time
import warnings
from urllib.parse import urlparse
from urllib.request import url2pathname

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import QTable, Table
from astropy.utils.exceptions import AstropyDeprecationWarning

from astroclassify.exceptions import MissingDependencyError, OutputError
from astroclassify.survey import send_samp


@pytest.fixture
def samp():
    """astropy.samp, or its successor pyvo.samp."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyDeprecationWarning)
            return importlib.import_module("astropy.samp")
    except ImportError:
        return importlib.import_module("pyvo.samp")


@pytest.fixture
def hub(samp, tmp_path):
    with samp.conf.set_temp("use_internet", False):
        server = samp.SAMPHubServer(
            web_profile=False, mode="multiple", addr="127.0.0.1", lockfile=str(tmp_path / "hub.lock")
        )
        server.start()
        yield server
        server.stop()


@pytest.fixture
def program(samp, hub):
    """Make programs that listen at the hub; what each gets is in its list."""
    clients = []

    def start(name, mtype, status="samp.ok"):
        client, got = samp.SAMPIntegratedClient(name=name, addr="127.0.0.1"), []
        client.connect(hub=hub)

        def receive(private_key, sender, message, mtype, params, extra):
            got.append(params)
            if status == "silent":
                return
            time.sleep(0.3)  # astropy's hub loses an answer that comes before it has noted the question
            answer = {"samp.status": status, "samp.result": {}}
            if status == "samp.error":
                answer["samp.error"] = {"samp.errortxt": "cannot open"}
            client.reply(message, answer)

        client.bind_receive_call(mtype, receive)
        clients.append(client)
        return got

    yield start
    for client in clients:
        client.disconnect()


def sent_file(params):
    url = urlparse(params["url"])
    assert url.scheme == "file"
    return url2pathname(url.path)


def candidates():
    table = QTable({"source_id": ["a", "b"], "ext": [5, 6] * u.arcsec})
    table["sky_position"] = SkyCoord([10, 20] * u.deg, [-5, 5] * u.deg)
    return table


def test_table(hub, program):
    topcat, aladin = program("TOPCAT", "table.load.votable"), program("Aladin", "table.load.votable")
    assert send_samp(candidates(), name="my list", hub=hub) == ["Aladin", "TOPCAT"]
    assert send_samp(candidates(), to="topcat", hub=hub) == ["TOPCAT"]
    assert len(topcat) == 2 and len(aladin) == 1
    assert topcat[0]["name"] == topcat[0]["table-id"] == "my list"
    table = Table.read(sent_file(topcat[0]), format="votable")
    assert list(table["sky_position_ra"]) == [10, 20] and table["ext"].unit == u.arcsec


@pytest.mark.parametrize("form", ["ccd", "hdu", "image hdu", "path"])
def test_image(hub, program, tmp_path, form):
    got = program("SAOImage DS9", "image.load.fits")
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    fits.writeto(tmp_path / "an image.fits", data)
    what = {
        "ccd": CCDData(data, unit="ct"),
        "hdu": fits.PrimaryHDU(data),
        "image hdu": fits.ImageHDU(data),
        "path": tmp_path / "an image.fits",
    }[form]
    assert send_samp(what, hub=hub) == ["SAOImage DS9"]
    np.testing.assert_array_equal(fits.getdata(sent_file(got[0])), data)
    assert got[0]["image-id"] == "astroclassify"


def test_programs_that_do_not_load_it(hub, program):
    with pytest.raises(OutputError, match="no program at the SAMP hub takes table.load.votable; there are: \\[\\]"):
        send_samp(candidates(), hub=hub)
    program("good", "table.load.votable")
    with pytest.raises(OutputError, match=r"no program called 'topcat' .* there are: \['good'\]"):
        send_samp(candidates(), to="topcat", hub=hub)
    program("bad", "table.load.votable", "samp.error")
    with pytest.raises(OutputError, match="not loaded by every program: bad: cannot open"):
        send_samp(candidates(), hub=hub)
    program("slow", "table.load.votable", "silent")
    with pytest.raises(OutputError, match="slow did not answer within 1 s"):
        send_samp(candidates(), to="slow", timeout=1 * u.s, hub=hub)


def test_no_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("SAMP_HUB", f"std-lockurl:{(tmp_path / 'none').as_uri()}")
    with pytest.raises(OutputError, match="no SAMP hub runs here"):
        send_samp(candidates())


def test_no_question_to_the_internet(samp, hub, program, monkeypatch):
    """astropy.samp looks for a web page to find out the name of this machine."""
    program("TOPCAT", "table.load.votable")
    utils = importlib.import_module(f"{samp.__name__}.utils")
    monkeypatch.setattr(utils, "urlopen", lambda *args, **kwargs: pytest.fail("asked the internet"))
    assert send_samp(candidates(), hub=hub) == ["TOPCAT"]
    assert samp.conf.use_internet is False  # as the fixture set it


def test_without_any_samp(monkeypatch):
    for name in ("astropy.samp", "pyvo.samp"):
        monkeypatch.setitem(sys.modules, name, None)  # an import of it fails
    with pytest.raises(MissingDependencyError, match="pip install 'pyvo"):
        send_samp(candidates())


def test_bad_input(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError, match="what must be a table"):
            send_samp([1, 2])
        with pytest.raises(FileNotFoundError, match="what: no file"):
            send_samp(tmp_path / "none.fits")
        with pytest.raises(TypeError, match="timeout must be a Quantity"):
            send_samp(candidates(), timeout=3)
