"""
The steps of find_clusters.py on a real field, for the end of its page. It writes into the folder in which it is run.

``python find_clusters_real.py IMAGE CATALOGUE``: a counts image of XMM-Newton, and MCXC as VizieR gives it in FITS.
"""

import io
import sys
from pathlib import Path

import numpy as np
from astropy import units as u
from PIL import Image

from astroclassify import tables
from astroclassify.plots import plot_field
from astroclassify.schemes import flag_names
from astroclassify.survey import cross_match, detect, extract_cutouts, read_catalogue, read_field, select

image, catalogue = sys.argv[1:]

# --- Find -----------------------------------------------------------------------------------------------------------
field = read_field(image)
candidates = detect(field, max_off_axis=field.max_off_axis * u.arcmin)
extended = select(candidates, ["C1", "C2"])

known = read_catalogue(catalogue)
pairs = cross_match(extended, known, radius=2 * u.arcmin)[: len(extended)]  # the first are the candidates
extended["known_as"] = pairs["source_id_other"]
extended["separation"] = pairs["separation"]
tables.write(extended, "clusters.ecsv")

figure = plot_field(field, candidates[candidates["det_like"] > 15], smooth=6 * u.arcsec)
sample = extract_cutouts(extended, field, out="cutouts", progress=False)  # in X-rays alone
# --- end

names = ["source_id", "parent_id", "ext", "ext_like", "counts", "off_axis", "x_class", "known_as", "separation"]
table = extended[names]
for name in ("ext", "ext_like", "counts", "off_axis", "separation"):
    table[name].info.format = ".1f"
classes = [f"{np.sum(candidates['x_class'] == name)} {name or 'of no class'}" for name in ("C1", "C2", "P1", "")]
lines = [f"{field}, flags: {', '.join(flag_names(field.flags))}", f"{len(candidates)} candidates: {', '.join(classes)}"]
lines += ["", *table.pformat(max_width=-1), ""]
lines += [f"{row['source_id']}: {', '.join(flag_names(row['flags']))}" for row in sample]
Path("clusters_real.txt").write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")
buffer = io.BytesIO()
figure.savefig(buffer, dpi=90)
picture = Image.open(buffer).convert("RGB").quantize(256, kmeans=1, dither=Image.Dither.NONE)
picture.save("clusters_real.png", optimize=True)
