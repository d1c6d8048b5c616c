"""Packaged reference data and models; ``README.rst`` in this folder says where each file comes from."""

from pathlib import Path

__all__ = ["FOLDER"]

FOLDER = Path(__file__).parent
