"""Published cuts of the X-ray classes C1, C2 and P1, and the radii within which candidates match sources."""

__all__ = ["MATCH_EXTENDED", "MATCH_POINT", "X_CLASSES", "X_CLASS_BOUNDS", "X_CLASS_SOURCE"]

# Largest distance [arcsec] of a candidate from the extended or point source that it is taken for.
MATCH_EXTENDED, MATCH_POINT = 30.0, 15.0
X_CLASSES = ("C1", "C2", "P1")
X_CLASS_SOURCE = "Faccioli et al. 2018, A&A 620, A9 (XXL XXIV)"
# Class -> alternatives, each column -> (above, up to); EXT in arcsec. C1 and C2 are those of Pacaud et al. 2006.
X_CLASS_BOUNDS = {
    "C1": ({"ext": (5.0, None), "ext_like": (33.0, None), "det_like": (32.0, None)},),
    "C2": ({"ext": (5.0, None), "ext_like": (15.0, 33.0)},),
    "P1": (
        {"pnt_det_like": (30.0, None), "ext": (None, 3.0)},
        {"pnt_det_like": (30.0, None), "ext_like": (None, 0.0)},
    ),
}
