"""A sample with columns of candidates, its page in a server of its own, and people who look at it in a real browser."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from astroclassify import tables
from astroclassify.images import Cutout
from astroclassify.schemes import CANDIDATE
from astroclassify.sim import simulate_candidates

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
N = 6
SERVED = """
import sys, json, time
from astroclassify import tables
from astroclassify.people import open_server
from astroclassify.people.page._sources import Sources
from astroclassify.nn import load_classifier
settings = json.loads(sys.argv[2])
delay, png = settings.pop("delay", 0), Sources.png
def late(*arguments, **options):
    time.sleep(delay)
    return png(*arguments, **options)
Sources.png = late
settings["catalogues"] = {name: tables.read(path) for name, path in settings.get("catalogues", {}).items()}
if "classifier" in settings:
    settings["classifier"] = load_classifier(settings["classifier"])
server = open_server(sys.argv[1], **settings)
print(server.address, flush=True)
server.serve_forever()
"""
SUMS = """
const image = document.querySelector(`#${arguments[0]} img`), canvas = document.createElement("canvas");
[canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
const context = canvas.getContext("2d");
context.drawImage(image, 0, 0);
const { data } = context.getImageData(0, 0, canvas.width, canvas.height), sums = [0, 0, 0];
for (let k = 0; k < data.length; k += 1) if (k % 4 < 3) sums[k % 4] += data[k];
return sums;
"""
# Where pictures of the page are kept to be looked at; by default nowhere.
SHOTS = os.environ.get("ASTROCLASSIFY_SCREENSHOTS")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    sample = simulate_candidates(N, rng=3, out=folder / "sample", progress=False)
    images = [Cutout.read(path).bands["xray"] for path in tables.image_paths(sample)]
    middles = [image.wcs.celestial.pixel_to_world(177.5, 177.5).icrs for image in images]
    sample["sky_position"] = SkyCoord([sky.ra for sky in middles], [sky.dec for sky in middles])
    sample["ext"], sample["ext_err"] = np.arange(10.0, 10 + N) * u.arcsec, np.full(N, 1.5) * u.arcsec
    sample["ext_like"] = np.array([30.0, 80.0, 5.0, 60.0, 1.0, 20.0])
    sample["det_like"] = np.arange(100.0, 100 + N)
    sample["x_class"] = np.array(["C1", "C2", "P1"] * 2)
    tables.write_sample(sample, folder / "sample", overwrite=True)
    near = sample["sky_position"].directional_offset_by(90 * u.deg, 30 * u.arcsec)
    catalogue = QTable({"source_id": [f"MCXC J{row}" for row in range(N)], "sky_position": near})
    catalogue["redshift"] = np.linspace(0.1, 0.6, N)
    tables.write(catalogue, folder / "mcxc.ecsv")
    table = QTable({"source_id": sample["source_id"], "label_pred": np.array(["low_z"] * N)})
    for number, label in enumerate(CANDIDATE.classes):
        table[f"p_{label}"] = np.full(N, (0.6, 0.2, 0.1, 0.07, 0.03)[number])
    table["flags"] = np.zeros(N, int)
    table.meta["scheme"] = CANDIDATE.to_dict()
    tables.write(table, folder / "predictions.ecsv")
    return folder


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made / "sample", tmp_path / "sample")
    return tmp_path / "sample"


@contextlib.contextmanager
def serving(folder):
    """Starts servers as processes of their own: (process, address)."""
    processes = []

    def begin(**settings):
        process = subprocess.Popen(
            [sys.executable, "-c", SERVED, str(folder), json.dumps(settings)], stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        address = process.stdout.readline().strip()
        assert address, "the server did not start"
        return process, address

    yield begin
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def browsing(folder):
    """Opens browsers, each a person of its own, whose files are kept in a folder."""
    webdriver = pytest.importorskip("selenium.webdriver")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("chromium and its driver are not installed")
    open_ones = []

    def begin(address, voter=None, size=(1500, 950)):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        profile = folder / f"profile-{len(open_ones)}"
        for argument in (
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            f"--user-data-dir={profile}", "--no-first-run", "--disable-background-networking",
            # Nothing but this computer can be reached: what the page needs is in the page.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ):  # fmt: skip
            options.add_argument(argument)
        options.add_experimental_option("prefs", {"download.default_directory": str(folder / "downloads")})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(executable_path=DRIVER)
        person = Person(webdriver.Chrome(options=options, service=service))
        open_ones.append(person)
        person.resize(*size)
        person.driver.get(address)
        if voter is not None:
            person.sign(voter)
        return person

    yield begin
    for person in open_ones:
        person.driver.quit()


@pytest.fixture
def serve(folder):
    with serving(folder) as begin:
        yield begin


@pytest.fixture
def browse(tmp_path):
    with browsing(tmp_path) as begin:
        yield begin


class Person:
    """Somebody at a keyboard."""

    def __init__(self, driver):
        self.driver = driver

    def until(self, condition, seconds=120):
        """Wait until something is true of the page, and return it."""
        from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            # An element may be drawn anew while it is looked at.
            with contextlib.suppress(StaleElementReferenceException, NoSuchElementException):
                if found := condition():
                    return found
            time.sleep(0.02)
        raise AssertionError(f"not so after {seconds} s: {self.driver.find_element('tag name', 'body').text}")

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def resize(self, width, height):
        """The window alone would keep room for a frame, and is no phone's."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def idle(self):
        """Wait until the page takes keys: while it waits for the server it ignores them."""
        self.until(lambda: self.js("return document.body.dataset.busy === undefined"))

    def type(self, *keys):
        """Press keys whatever the page is about to do."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def hold(self, modifier, key):
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).key_down(modifier).send_keys(key).key_up(modifier).perform()

    def press(self, *keys):
        """Press keys one by one; answers wait for the pictures."""
        for key in keys:
            self.idle()
            if len(key) == 1 and key.isdigit() and self.shown("desk"):
                self.ready()
            self.type(key)
            self.idle()

    def reads(self, name, *texts):
        """Wait until an element of the page has all these texts."""
        self.until(lambda: all(text in self.text(name) for text in texts))

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def text(self, name):
        return self.driver.find_element("id", name).text

    def shown(self, name):
        return self.driver.find_element("id", name).is_displayed()

    def sign(self, voter):
        from selenium.webdriver.common.keys import Keys

        self.until(lambda: self.shown("sign"))
        self.type(voter, Keys.ENTER)
        self.at(1)

    def at(self, number):
        self.reads("source", f"({number} of")

    def ready(self):
        """Wait until the pictures of the source are on the screen."""
        self.until(lambda: self.js("return ready() && byId('pictures').getAttribute('aria-busy') === 'false'"))

    def pictures(self):
        """Natural widths of the pictures, once all are there."""
        self.ready()
        return self.js("return [...document.querySelectorAll('#pictures img')].map((image) => image.naturalWidth)")

    def pixels(self, slot):
        """Sum of red, green and blue over one of the pictures."""
        self.ready()
        return self.js(SUMS, slot)

    def keep(self, name):
        """Picture of the page, to be looked at."""
        if self.shown("desk"):
            self.ready()
        if SHOTS:
            self.driver.save_screenshot(os.path.join(SHOTS, f"{name}.png"))

    def errors(self):
        return [entry for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture(scope="module")
def desk(made, tmp_path_factory):
    """Somebody at a page with predictions, a catalogue and a classifier, and the folder of the sample."""
    folder = tmp_path_factory.mktemp("desk")
    shutil.copytree(made / "sample", folder / "sample")
    settings = {"predictions": str(made / "predictions.ecsv"), "catalogues": {"MCXC": str(made / "mcxc.ecsv")}}
    with serving(folder / "sample") as serve, browsing(folder) as browse:
        _, address = serve(**settings, classifier="cluster-xmm", moderators=["mia"])
        yield browse(address, "ann")
