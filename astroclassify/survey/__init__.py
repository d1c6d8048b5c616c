"""X-ray fields to candidates and two-band cutouts; predictions back to the catalogue."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        ".fields._background": ("estimate_background",),
        ".fields._field": ("Field", "combine_fields"),
        ".fields._inject": ("inject_sources",),
        ".fields._out_of_time": ("out_of_time",),
        ".fields._psf": ("GaussianPsf", "ImagePsf", "MixedPsf"),
        ".fields._read_field": ("read_field",),
        ".fields._telescopes": ("KingPsf", "default_psf"),
        ".samples._kosiba2020": ("read_kosiba2020",),
        "catalogues._annotate": ("annotate",),
        "catalogues._calibration": ("Calibration", "calibrate_cuts"),
        "catalogues._classes": ("CUTS", "Cuts", "classify_extent", "select"),
        "catalogues._match": ("cross_match",),
        "catalogues._read": ("read_catalogue",),
        "catalogues._region_files": ("read_regions", "region_mask"),
        "catalogues._regions": ("to_regions", "write_regions"),
        "catalogues._samp": ("send_samp",),
        "cutouts._extract": ("extract_cutouts",),
        "cutouts._hips": ("LocalHips",),
        "cutouts._merge": ("merge_bands", "write_png"),
        "cutouts._plates": ("LocalOptical", "NoImageError"),
        "cutouts._services": ("HipsOptical", "SkyViewOptical"),
        "detection._detect": ("detect",),
        "detection._search": ("filter_image", "find_sources"),
        "detection._selection": ("selection_function",),
        "detection._tiles": ("detect_tiles",),
        "extents._fit_extent": ("fit_extent", "model_image"),
    },
)
