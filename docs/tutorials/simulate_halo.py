"""One halo in both engines, for the tutorial page. Run it in an empty folder: it writes figures and times there."""

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from astropy import units as u
from matplotlib.colors import LogNorm

from astroclassify.sim import (
    EmbeddedPopulation,
    Observation,
    draw_counts,
    expected_counts,
    expected_spectrum,
    observe,
)

# --- A halo ---------------------------------------------------------------------------------------------------------
# A few synthetic clusters; with TNG on disk, open_snapshot("TNG300-1/output") takes their place.
snapshot = EmbeddedPopulation(4, rng=3)
halos = snapshot.select_halos()
halo = snapshot.read_halo(halos["halo_id"][np.argmax(halos["m_500"])])
print(halo)


def timed(function, *arguments, **settings):
    """The result of a function and the seconds it took."""
    start = time.perf_counter()
    result = function(*arguments, **settings)
    return result, time.perf_counter() - start


def show(axes, image, title):
    """An image with logarithmic colours, 0.5 to the largest count."""
    axes.imshow(image.data + 0.5, origin="lower", norm=LogNorm(0.5), cmap="magma")
    axes.set(title=title, xticks=[], yticks=[])


# --- Both engines ---------------------------------------------------------------------------------------------------
observation = Observation()
for engine in ("pyxsim", "direct"):  # the first call of each loads or compiles what it needs
    observe(halo, Observation(exposure=1 * u.s), engine=engine, rng=0)
photons, photon_time = timed(observe, halo, observation, engine="pyxsim", rng=1)
direct, direct_time = timed(observe, halo, observation, engine="direct", rng=1)
expected, expected_time = timed(expected_counts, halo, observation)

figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
show(axes[0], photons, f"pyXSIM photons, {photon_time:.2f} s\n{photons.data.sum():.0f} counts")
show(axes[1], direct, f"direct, {direct_time:.2f} s\n{direct.data.sum():.0f} counts")
pull = (photons.data - expected.data) / np.sqrt(expected.data)
picture = axes[2].imshow(pull, origin="lower", cmap="RdBu_r", vmin=-4, vmax=4)
axes[2].set(title=f"(photons - expected) / noise\nmean square {np.mean(pull**2):.3f}", xticks=[], yticks=[])
figure.colorbar(picture, ax=axes[2], shrink=0.8)
figure.savefig("engines.png", dpi=110)
lines = [
    f"halo {halo.halo_id}: {halo.n_cells} gas cells, M500 = {halo.m_500:.3g}",
    f"pyxsim engine, one image   {photon_time:6.2f} s",
    f"direct engine, one image   {direct_time:6.2f} s",
    f"expected counts            {expected_time:6.2f} s",
]

# --- Exposure and redshift ------------------------------------------------------------------------------------------
figure, axes = plt.subplots(2, 3, figsize=(10, 6.8), layout="constrained")
for panel, kiloseconds in zip(axes[0], (5, 50, 500), strict=True):
    image, seconds = timed(draw_counts, expected, exposure=kiloseconds * u.ks, rng=2)
    show(panel, image, f"{kiloseconds} ks: {image.data.sum():.0f} counts")
    lines.append(f"drawn for {kiloseconds:3d} ks           {seconds:6.2f} s")
for panel, redshift in zip(axes[1], (0.05, 0.2, 0.6), strict=True):
    image = observe(halo, Observation(redshift=redshift), engine="direct", rng=2)
    show(panel, image, f"z = {redshift}, 100 ks: {image.data.sum():.0f} counts")
figure.savefig("exposure_redshift.png", dpi=110)

# --- A real detector ------------------------------------------------------------------------------------------------
acis = Observation.acis_i(redshift=0.07, pointing_offset=(2, 1) * u.arcmin, roll=25 * u.deg)
image = observe(halo, acis, engine="direct", rng=4)
figure, axes = plt.subplots(1, 2, figsize=(8, 3.9), layout="constrained")
show(axes[0], image, "counts: chips, point sources, background")
picture = axes[1].imshow(image.exposure / 1e3, origin="lower", cmap="viridis")
axes[1].set(title="exposure map [ks]", xticks=[], yticks=[])
figure.colorbar(picture, ax=axes[1], shrink=0.8)
figure.savefig("detector.png", dpi=110)

# --- The spectrum ---------------------------------------------------------------------------------------------------
spectrum, spectrum_time = timed(expected_spectrum, halo, observation, bin_width=0.02 * u.keV)
lines.append(f"expected spectrum          {spectrum_time:6.2f} s")
figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
width = spectrum["energy_hi"] - spectrum["energy_lo"]
axis.stairs(
    (spectrum["counts"] / width).value, [*spectrum["energy_lo"].value, spectrum["energy_hi"][-1].value], color="C3"
)
axis.set(xscale="log", yscale="log", xlabel="energy [keV]", ylabel="expected counts per keV", xlim=(0.5, 7))
axis.set_xticks([0.5, 1, 2, 4, 7], labels=["0.5", "1", "2", "4", "7"])
axis.xaxis.set_minor_formatter(plt.NullFormatter())
figure.savefig("spectrum.png", dpi=110)

Path("times.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
print("\n".join(lines))
