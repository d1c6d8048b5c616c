"""Observed fields: counts, exposure, background and PSF on one grid; facts about instruments and the sky."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_background": ("estimate_background",),
        "_field": ("Field", "combine_fields"),
        "_inject": ("inject_sources",),
        "_out_of_time": ("out_of_time",),
        "_psf": ("GaussianPsf", "ImagePsf", "MixedPsf"),
        "_read_field": ("read_field",),
        "_telescopes": ("KingPsf", "default_psf"),
    },
)
