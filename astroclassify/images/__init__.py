"""Images: read, cut, put on a model's grid, measured; headers; `Cutout`, images of one source in several bands."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_checks": ("as_image", "pixel_scale"),
        "_concentration": ("concentration",),
        "_cut": ("cut",),
        "_cutout": ("Cutout",),
        "_files": ("SkyImage", "read_image", "write_image"),
        "_geometry": ("DEFAULT_COSMOLOGY", "Geometry"),
        "headers._headers": ("Header", "read_header"),
        "_standardise": ("standardise",),
        "events._read": ("read_events",),
    },
)
