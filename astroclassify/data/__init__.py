"""Packaged reference data; ``README.rst`` in this folder tells where each file comes from."""
