"""Synthetic clusters, written in the format of TNG snapshots."""
