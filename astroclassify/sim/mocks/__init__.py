"""Observations of halos: settings, one image, samples of images with labels."""
