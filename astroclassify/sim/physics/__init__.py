"""Plasma, absorption, projection, telescope: what halos, mocks and synthetic clusters share."""
