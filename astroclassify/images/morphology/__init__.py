"""Measures of the shape of clusters on images."""
