"""
Time from a key to the painted pictures of the next source, at the page of ``astroclassify inspect``.

Usage: ``python benchmarks/bench_page.py [--candidates 40] [--think 1.0]``. Needs Chromium, its driver and selenium. A
voter who looks at each source for ``--think`` seconds answers all of them; the time is taken in the page, from the key
to the second frame in which the pictures of the next source are shown.
"""

import argparse
import shutil
import statistics
import tempfile
import threading
import time

from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from astroclassify.people import open_server
from astroclassify.sim import simulate_candidates

# The key is dispatched and the page watched in one script, so that the driver's own time does not count.
PRESS = """
const done = arguments[0], before = shown.source_id, start = performance.now();
document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "1", bubbles: true }));
const watch = () => (shown.source_id !== before && ready() ? done(performance.now() - start)
  : requestAnimationFrame(watch));
watch();
"""


def browser(address):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("chromium-browser")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,900"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_script_timeout(120)
    driver.get(address)
    return driver


def until(driver, script):
    while not driver.execute_script(script):
        time.sleep(0.05)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=40, help="sources (default: %(default)s)")
    parser.add_argument("--think", type=float, default=1.0, help="seconds for each source (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        simulate_candidates(arguments.candidates, rng=1, out=f"{folder}/sample", progress=False)
        with open_server(f"{folder}/sample") as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            driver = browser(server.address)
            until(driver, "return Boolean(info)")
            webdriver.ActionChains(driver).send_keys("voter", Keys.ENTER).perform()
            times = []
            for _ in range(arguments.candidates - 1):
                until(driver, "return Boolean(shown) && ready() && !busy")
                time.sleep(arguments.think)
                times.append(driver.execute_async_script(PRESS) / 1000)
            driver.quit()
            server.shutdown()
    ordered = sorted(times)
    numbers = statistics.median(times), ordered[int(0.95 * len(ordered))], ordered[-1]
    print("key to the next pictures: {:.3f} s (median), {:.3f} s (95%), {:.3f} s (longest)".format(*numbers))
    print(f"{len(times)} votes, {arguments.think:g} s each to look")


if __name__ == "__main__":
    main()
