"""
The report of predictions in a browser: first paint, sorting, filtering and turning pages with 10,000 rows.

A report with an X-ray and an optical picture of each row is opened from a file in Chromium without a window; the peer
is the same table as astropy writes it as HTML (``ascii.html``), which can neither sort nor filter, in the same browser.
Times are from the click, or from the beginning of loading, to the frame after the rows are there; the largest of all
rounds is printed. Needs selenium, chromium and its driver.
"""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.nddata import CCDData
from astropy.table import QTable

from astroclassify import tables
from astroclassify.images import Cutout
from astroclassify.people import write_report
from astroclassify.schemes import CANDIDATE

N_IMAGES = 40  # different ones
# From an action to the second frame after it, which shows its result.
ACT = """
const done = arguments[arguments.length - 1], begin = performance.now();
{}
requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - begin)));
"""
ACTIONS = {
    "sort by a number": "document.querySelector('th[data-name=ext_like] button').click();",
    "sort by a text": "document.querySelector('th[data-name=source_id] button').click();",
    "filter by a text": (
        "const box = document.getElementById('text'); box.value = box.value ? '' : '12';"
        "box.dispatchEvent(new Event('input', {bubbles: true}));"
    ),
    "filter by a probability": (
        "const box = document.getElementById('least'); box.value = box.value > 0 ? 0 : 0.7;"
        "box.dispatchEvent(new Event('input', {bubbles: true}));"
    ),
    "turn the page": "document.getElementById('next').click();",
    "enlarge a picture": "document.getElementById('large').close(); document.querySelector('#rows button').click();",
}


def tables_of(folder, n):
    """A sample of ``n`` rows and its predictions; the images are copies of 40."""
    rng = np.random.default_rng(7)
    (folder / "images").mkdir(parents=True)
    y, x = np.mgrid[:48, :48] - 23.5
    for number in range(N_IMAGES):
        counts = rng.poisson(0.3 + 20 * (1 + (x**2 + y**2) / (2 + number) ** 2) ** -1.5)
        plate = rng.normal(100, 5, (48, 48))
        bands = {"xray": CCDData(counts.astype(float), unit="ct"), "optical": CCDData(plate, unit="adu")}
        Cutout(f"s{number}", bands).write(folder / f"images/{number}.fits")
    sample = QTable()
    for name, kind in tables.SAMPLE.kinds().items():
        blank = {"str": "", "int": 0, "float": np.nan}
        sample[name] = [blank[kind]] * n if kind in blank else np.full(n, np.nan) * kind
    paths = [f"images/c{number}.fits" for number in range(n)]
    for number, path in enumerate(paths):
        os.link(folder / f"images/{number % N_IMAGES}.fits", folder / path)
    sample["source_id"], sample["path"] = [f"source {number:06d}" for number in range(n)], paths
    sample["redshift"], sample["label"] = rng.random(n), np.array(CANDIDATE.classes)[rng.integers(0, 5, n)]
    sample["ext"], sample["ext_like"] = rng.lognormal(1.5, 1, n) * u.arcsec, rng.lognormal(2, 1.5, n)
    sample["sky_position"] = SkyCoord(rng.uniform(0, 360, n) * u.deg, rng.uniform(-80, 80, n) * u.deg)
    sample.meta["folder"] = str(folder)
    p = rng.dirichlet(np.full(5, 0.3), n)
    predictions = QTable({"source_id": sample["source_id"], "label_pred": np.array(CANDIDATE.classes)[p.argmax(1)]})
    for number, label in enumerate(CANDIDATE.classes):
        predictions[f"p_{label}"] = p[:, number]
    predictions["flags"] = rng.integers(0, 64, n)
    predictions.meta = {"scheme": CANDIDATE.to_dict(), "model": "none"}
    return sample, predictions


def browser():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.add_argument("--window-size=1400,900")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_script_timeout(300)
    return driver


def open_page(driver, path):
    """Milliseconds to the first paint with content, and to the end of loading."""
    driver.get("about:blank")
    driver.get(path.as_uri())
    code = """
    const paint = performance.getEntriesByName('first-contentful-paint')[0], load = performance.timing;
    return [paint ? paint.startTime : null, load.loadEventEnd - load.navigationStart];
    """
    for _ in range(100):
        paint, end = driver.execute_script(code)
        if paint is not None and end > 0:
            return paint, end
        time.sleep(0.1)
    raise RuntimeError(f"{path} was not painted")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--picture-size", type=int, default=128)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        sample, predictions = tables_of(folder / "sample", arguments.rows)
        begin, busy = time.perf_counter(), time.process_time()
        report = write_report(
            predictions, sample, folder / "report.html", picture_size=arguments.picture_size, progress=False
        )
        seconds = f"{time.perf_counter() - begin:.0f} s ({time.process_time() - busy:.0f} s of one core)"
        print(f"{arguments.rows} rows: written in {seconds}, {report.stat().st_size / 1e6:.1f} MB")
        plain = folder / "plain.html"
        predictions.write(plain, format="ascii.html")
        driver = browser()
        try:
            for name, path in (("astropy's ascii.html", plain), ("report", report)):
                times = np.max([open_page(driver, path) for _ in range(arguments.rounds)], axis=0)
                print(f"{name:24s} first paint {times[0]:6.0f} ms, loaded {times[1]:6.0f} ms")
            for name, action in ACTIONS.items():
                times = [driver.execute_async_script(ACT.format(action)) for _ in range(arguments.rounds)]
                print(f"{name:24s} {max(times):6.0f} ms")
        finally:
            driver.quit()


if __name__ == "__main__":
    main()
