"""What the columns of the package's tables mean, in words and as UCD1+ of the IVOA."""

__all__ = ["meaning_of"]

_MEANINGS = {
    "source_id": ("name of the source", "meta.id;meta.main"),
    "group_id": ("what belongs together in training and testing", "meta.id.assoc"),
    "parent_id": ("large structure on which the source lies", "meta.id.parent"),
    "path": ("image, relative to the sample folder", "meta.id;meta.file"),
    "label": ("class that is known", "meta.code.class"),
    "label_pred": ("most probable class", "meta.code.class"),
    "x_class": ("class by extent and its likelihood: C1, C2, P1 or none", "src.class"),
    "projection": ("line of sight through a simulated halo", "meta.code"),
    "redshift": ("redshift", "src.redshift"),
    "m_500": ("mass within R500", "phys.mass"),
    "r_500": ("radius of 500 times the critical density", "phys.size.radius"),
    "t_cool": ("central cooling time", "time.interval"),
    "n_e": ("central electron density", "phys.density"),
    "c_sb": ("concentration of the surface brightness", "phot.flux;arith.ratio"),
    "flags": ("bit mask of astroclassify.schemes.Flag", "meta.code.qual"),
    "message": ("why there is no result, or what it is made without", "meta.note"),
    "x": ("column of the image, from 0 in the middle of the first", "pos.cartesian.x;instr.det"),
    "y": ("row of the image, from 0 in the middle of the first", "pos.cartesian.y;instr.det"),
    "pos_err": ("error of the position (1 sigma)", "stat.error;pos"),
    "ext": ("core radius of the beta model", "phys.angSize;em.X-ray"),
    "ext_err": ("error of the core radius (1 sigma)", "stat.error;phys.angSize"),
    "ext_like": ("likelihood of extent", "stat.likelihood"),
    "det_like": ("likelihood of detection", "stat.likelihood"),
    "pnt_det_like": ("likelihood of detection as a point", "stat.likelihood"),
    "epn_like": ("likelihood of a point in the middle of the extended source", "stat.likelihood"),
    "dbl_like": ("likelihood of two points", "stat.likelihood"),
    "counts": ("counts of the source", "phot.count;em.X-ray"),
    "counts_err": ("error of the counts (1 sigma)", "stat.error;phot.count"),
    "rate": ("counts per second of exposure on axis", "arith.rate;phot.count;em.X-ray"),
    "rate_err": ("error of the rate (1 sigma)", "stat.error;phot.count"),
    "off_axis": ("angle from the optical axis", "pos.angDistance;instr"),
    "exposure": ("exposure time", "time.duration;obs.exposure"),
    "nh_column": ("Galactic column of hydrogen", "phys.columnDensity"),
    "voter_id": ("who voted", "meta.id"),
    "question": ("what was asked", "meta.note"),
    "answer": ("what was answered", "meta.note"),
    "time": ("time of the vote", "time"),
    "class": ("class of the scheme, or mean over classes", "meta.code.class"),
}
_SKY = {"ra": ("right ascension", "pos.eq.ra"), "dec": ("declination", "pos.eq.dec")}


def meaning_of(name):
    """Description and UCD of a column of this name, empty texts where it is not one of the package's."""
    if name.startswith("p_"):
        return f"probability of the class {name[2:]}", "stat.probability"
    position, _, axis = name.rpartition("_")
    if position.endswith("position") and axis in _SKY:
        text, ucd = _SKY[axis]
        # A row has one main position.
        return f"{text} (ICRS)", f"{ucd};meta.main" if position == "sky_position" else ucd
    return _MEANINGS.get(name, ("", ""))
