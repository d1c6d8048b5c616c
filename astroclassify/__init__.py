"""Machine-learning classification of galaxy clusters from X-ray images."""

from importlib.metadata import version as _version

__version__ = _version("astroclassify")
